"""Ctrl-C before a program has something to save, and terminals that know ASCII only."""

import pathlib
import signal
import sys

import pytest

from kunlun_jax.interrupts import EXIT_CODE, LINE
from tests.data import toy
from tests.processes import run_python, start_python

ROOT = pathlib.Path(__file__).parents[1]
SLEEPS = "import time\nprint('here', flush=True)\ntime.sleep(300)\n"
DATA = "kunlun_jax.data"
# Tests that run in the background hand on that they ignore Ctrl-C. It is undone in the program
# itself: `preexec_fn` would fork this process, in which JAX may run threads.
CTRL_C_COUNTS = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""


def interrupted(*command, at):
    """Send Ctrl-C as soon as a program has printed a line that begins so; return what it left."""
    process = start_python("-c", CTRL_C_COUNTS, sys.executable, *command)
    assert any(line.startswith(at) for line in process.stdout), process.stderr.read()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    return process.returncode, err


@pytest.mark.parametrize(
    "command",
    [
        ["-m", f"{DATA}.build", "--impressions=a.csv", "--events=b.csv", "--out={}", "--schema={}"],
        ["-m", "kunlun_jax", "build", "--impressions=a.csv", "--events=b.csv", "--out={}",
         "--schema={}"],
        ["-m", "kunlun_jax.plan", "--config={}"],
        ["train.py", "--config={}"],
    ],
    ids=["build", "kunlun-jax build", "plan", "train"],
)  # fmt: skip
def test_one_line_and_no_traceback(command, tmp_path):
    (tmp_path / "waits.py").write_text(SLEEPS)
    arguments = [part.format(tmp_path / "waits.py") for part in command]
    assert interrupted(*arguments, at="here") == (EXIT_CODE, LINE)


def test_during_imports(tmp_path):
    """NumPy is the first of those that take long."""
    (tmp_path / "numpy.py").write_text(SLEEPS)
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = ['-m']; import runpy; "
    )
    program += f"runpy.run_module({f'{DATA}.build'!r}, run_name='__main__')"
    assert interrupted("-c", program, at="here") == (EXIT_CODE, LINE)


@pytest.mark.slow
def test_training_before_its_first_step(tmp_path):
    config = f"--config={ROOT / 'tests' / 'training' / 'tiny.py'}"
    arguments = ["train.py", config, f"--config.data.directory={tmp_path / 'data'}"]
    arguments.append(f"--workdir={tmp_path / 'run'}")
    for line in ("attention kernels", "module"):  # while it makes the data; while it compiles
        code, err = interrupted(*arguments, at=line)
        assert "Traceback" not in err
        assert (code, err.endswith(LINE)) == (EXIT_CODE, True)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_what_is_printed_goes_beyond_ascii(tmp_path):
    toy.toy_dataset(tmp_path / "läden é" / "店")
    variables = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    command = ("-m", f"{DATA}.validate", "läden é/店")
    done = run_python(*command, cwd=tmp_path, variables=variables, text=False)
    *_, last = done.stdout.decode("ascii").splitlines()
    assert "findings; card: l" in last, done.stderr
    assert b"Traceback" not in done.stderr
    assert (tmp_path / "läden é" / "店" / "card" / "README.md").exists()


def test_while_python_drops_what_is_raised():
    """In a `__del__`, the handler's exception is ignored: the program leaves right afterwards."""
    code = """
import signal, time
from kunlun_jax import interrupts

interrupts.end_in_order()

class Closing:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
        print("not reached")

Closing()
time.sleep(20)
print("went on")
"""
    ran = run_python("-c", code)
    assert (ran.returncode, ran.stdout, ran.stderr) == (EXIT_CODE, "", LINE)


def test_what_else_is_dropped_is_still_told():
    code = """
from kunlun_jax import interrupts

interrupts.end_in_order()

class Closing:
    def __del__(self):
        raise ValueError("lost")

Closing()
print("went on")
"""
    ran = run_python("-c", code)
    assert (ran.returncode, ran.stdout) == (0, "went on\n")
    assert "ValueError: lost" in ran.stderr
