"""What Ctrl-C does to a program: one line, and an exit code that says so, instead of a traceback.

Only programs ask for it; whoever imports the package keeps Python's own way. Training takes over
while it has something to save (`hosts/stopping.py`).
"""

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

_AFTERWARDS_SECONDS = 0.01
EXIT_CODE = 130  # as of a shell whose command was ended by SIGINT
LINE = "error: interrupted; the same command begins again, or goes on where it was\n"


def end_at_once() -> None:
    """End this process on Ctrl-C as it is: for the seconds of imports, which leave nothing."""
    signal.signal(signal.SIGINT, _end)


def end_in_order() -> None:
    """Leave on Ctrl-C as by `sys.exit`: what is open is closed, and locks are let go.

    A signal may come while Python runs a `__del__` or the callback of a weak reference, where it
    drops what is raised. Then the program leaves as soon as that is over.
    """
    signal.signal(signal.SIGINT, _leave)
    sys.unraisablehook = functools.partial(_leave_afterwards, sys.unraisablehook)


def _end(signum: int, frame: Any) -> None:
    del signum, frame
    os.write(2, LINE.encode())
    os._exit(EXIT_CODE)


def _leave(signum: int, frame: Any) -> None:
    del frame
    signal.signal(signum, signal.SIG_DFL)  # a second one ends it at once
    os.write(2, LINE.encode())
    sys.exit(EXIT_CODE)


def _leave_afterwards(tell: Callable[[Any], Any], dropped: Any) -> None:
    """Take what Python drops: leave if it is our own exception, else tell as before."""
    value = dropped.exc_value
    if not isinstance(value, SystemExit) or value.code != EXIT_CODE:
        tell(dropped)
        return
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(EXIT_CODE))
    signal.setitimer(signal.ITIMER_REAL, _AFTERWARDS_SECONDS)


if sys.argv[:1] == ["-m"]:  # Python has imported the package on its way to the module of `-m`
    end_at_once()
