"""Starts runs of the tiny experiment with the small model, in this process and in others."""

import contextlib
import dataclasses
import io
import os
import pathlib
import re
import subprocess
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags

from kunlun_jax.data import Batch, Schema, build
from kunlun_jax.training import allocator, run
from kunlun_jax.training.run import open_run
from kunlun_jax.training.step import apply_model
from kunlun_jax.training.workdir import MetricWriter
from tests.faults import small_model
from tests.training import tiny
from tests.training.runs import assert_equal_states, records

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = f"--config={ROOT / 'tests' / 'training' / 'tiny.py'}"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run left on its way out.

    Attributes:
        code: Exit code; -n for signal n.
        out: Standard output.
        err: Standard error.
    """

    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The line in which the program says what is wrong; "" where it does not.

        train.py's begins with "error: "; that of the data's programs is the last one.
        """
        lines = self.err.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        errors = errors or [line for line in lines[-1:] if re.match(r"\w+Error: ", line)]
        assert len(errors) <= 1, errors
        return errors[0] if errors else ""


def outcome_of(program: Callable[[], object]) -> Outcome:
    """Call a program's main, and return what it would have left as a process."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            program()
        except SystemExit as leaving:  # Python prints a string and exits with 1
            code = leaving.code if isinstance(leaving.code, int) else 1
            err.write(f"{leaving.code}\n")
    return Outcome(code, out.getvalue(), err.getvalue())


def build_command(*arguments: str) -> Outcome:
    """Call `python -m kunlun_jax.data.build` in this process."""
    values = flags.FlagValues()
    build.define_flags(values)
    values(["build", *arguments])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "flags", types.SimpleNamespace(FLAGS=values))
        return outcome_of(lambda: build._main(["build"]))


@contextlib.contextmanager
def small_model_in_use() -> Iterator[None]:
    """Let every run within train the small model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "create_model", small_model.create_model)
        patch.setattr(run, "model_summary", lambda *arguments: "a small model")
        yield


class Runs:
    """Runs that share a data set.

    Attributes:
        data: Its directory.
        program: The module train.py.
    """

    def __init__(self, data: pathlib.Path, compilation_cache: pathlib.Path) -> None:
        self.data = data
        self._environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(compilation_cache),
            "PYTHONPATH": str(ROOT),
        }
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(allocator, "keep_freed_memory", lambda: False)
            import train
        self.program = train
        self._finished: dict[pathlib.Path, Any] = {}

    def arguments(self, workdir: pathlib.Path, *changes: str) -> list[str]:
        """Return the flags of a run, settings given as "training.log_every=2"."""
        settings = [f"--config.{change}" for change in (f"data.directory={self.data}", *changes)]
        return [CONFIG, f"--workdir={workdir}", *settings]

    def here(self, workdir: pathlib.Path, *changes: str) -> Outcome:
        """Run train.py's main in this process."""
        return outcome_of(lambda: self._call_main(self.arguments(workdir, *changes)))

    def _call_main(self, arguments: list[str]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                self.program, "create_model", run.create_model
            )  # the small one, if in use
            patch.setattr(sys, "argv", ["train.py", *arguments])
            flags.FLAGS.unparse_flags()
            for name in [name for name in flags.FLAGS if name.startswith("config.")]:
                delattr(flags.FLAGS, name)  # the overrides of an earlier call
            sys.modules.pop("config_config", None)  # its config file, as ml_collections names it
            self.program.main(self.program._parse_flags(sys.argv))

    def start(
        self,
        workdir: pathlib.Path,
        *changes: str,
        fault: Sequence[Any] = ("none", 0, "none"),
        within: Sequence[Any] = (),
        devices: int = 1,
    ) -> subprocess.Popen[str]:
        """Start a process of its own.

        Args:
            workdir: Working directory.
            changes: Settings.
            fault: Point, step and fault, as `program.py` takes them.
            within: Command that starts the process, such as `unshare`.
            devices: Devices that it sees.
        """
        several = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
        program = [sys.executable, "-m", "tests.faults.program", *map(str, fault)]
        return subprocess.Popen(
            [*within, *program, str(ROOT / "train.py"), *self.arguments(workdir, *changes)],
            cwd=workdir.parent,
            env=self._environment | (several if devices > 1 else {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str]) -> Outcome:
        """Wait for a process to end."""
        out, err = process.communicate(timeout=900)
        return Outcome(process.returncode, out, err)

    def elsewhere(self, workdir: pathlib.Path, *changes: str, **options: Any) -> Outcome:
        """Run a process of its own to its end; arguments as for `start`."""
        return self.finish(self.start(workdir, *changes, **options))

    def state(self, workdir: pathlib.Path, **changes: Any) -> Any:
        """Return the state from which a run would go on."""
        with open_run(tiny.experiment(self.data, **changes), workdir) as opened:
            return opened.resume_or_initialize()

    def logits(self, state: Any, schema: Schema, batch: Batch) -> np.ndarray:
        """Return what a state predicts."""
        model = small_model.SmallModel(schema)
        batch = jax.tree.map(jnp.asarray, batch)
        return np.asarray(apply_model(model, state.params, state.tables, batch))

    def assert_goes_on(self, workdir: pathlib.Path, expected: pathlib.Path) -> None:
        """Start a run again; it ends as another has, bit by bit."""
        outcome = self.here(workdir)
        assert outcome.code == 0, outcome.err
        self.assert_same_run(workdir, expected)

    def assert_same_run(
        self,
        workdir: pathlib.Path,
        expected: pathlib.Path,
        *changes: tuple[str, Any],
        metrics: bool = True,
    ) -> None:
        """Compare final states bit by bit, and the whole records.

        Args:
            workdir: One run.
            expected: The other.
            changes: Settings of both, as (name, value).
            metrics: Whether to compare the training metrics too, whose windows are settings.
        """
        state = self.state(workdir, **dict(changes))
        if expected not in self._finished:
            self._finished[expected] = self.state(expected, **dict(changes))
        other = self._finished[expected]
        if not metrics:
            state = state.replace(metrics=other.metrics)
        assert_equal_states(state, other)
        assert not metrics or records(workdir) == records(expected)


def fault_cases(names: Iterable[str], fault: str, promise: str) -> list[Any]:
    """Return a parameter for each name, each a row of the table; "{}" in `fault` is the name."""
    return [
        pytest.param(name, id=name, marks=pytest.mark.fault(fault.format(name), promise))
        for name in names
    ]


def behind_log_line(patch: pytest.MonkeyPatch, step: int, act: Callable[[], object]) -> None:
    """Act as soon as a run of this process has recorded the metrics of a step."""
    write = MetricWriter.write

    def write_and_act(self: MetricWriter, at: int, metrics: Any) -> None:
        write(self, at, metrics)
        if at == step:
            act()

    patch.setattr(MetricWriter, "write", write_and_act)


def steps(workdir: pathlib.Path) -> set[str]:
    """Return the names of a run's checkpoints, and of whatever else lies there."""
    return {path.name for path in (workdir / "checkpoints").iterdir()}


def flip_bit(file: pathlib.Path, bit: int) -> None:
    """Flip one bit of a file."""
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)
