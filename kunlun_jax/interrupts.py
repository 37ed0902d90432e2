"""What Ctrl-C does to a program: one line, and an exit code that says so, instead of a traceback.

Only programs ask for it; whoever imports the package keeps Python's own way. Training takes over
while it has something to save (`hosts/stopping.py`).
"""

import os
import signal
import sys
from typing import Any

EXIT_CODE = 130  # as of a shell whose command was ended by SIGINT
LINE = "error: interrupted; the same command begins again, or goes on where it was\n"


def end_at_once() -> None:
    """End this process on Ctrl-C as it is: for the seconds of imports, which leave nothing."""
    signal.signal(signal.SIGINT, _end)


def end_in_order() -> None:
    """Leave on Ctrl-C as by `sys.exit`: what is open is closed, and locks are let go."""
    signal.signal(signal.SIGINT, _leave)


def _end(signum: int, frame: Any) -> None:
    del signum, frame
    os.write(2, LINE.encode())
    os._exit(EXIT_CODE)


def _leave(signum: int, frame: Any) -> None:
    del frame
    signal.signal(signum, signal.SIG_DFL)  # a second one ends it at once
    os.write(2, LINE.encode())
    sys.exit(EXIT_CODE)


if sys.argv[:1] == ["-m"]:  # Python has imported the package on its way to the module of `-m`
    end_at_once()
