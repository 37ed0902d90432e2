"""A trace of some steps of a run by JAX's profiler, for TensorBoard, Perfetto or XProf."""

import contextlib
import pathlib
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax

from kunlun_jax.config.parsing import require

FLAG = "--profile_steps"
DIRECTORY = "profile"  # of the working directory


class Window(NamedTuple):
    """The steps to trace.

    Attributes:
        first: The first one, from 1.
        last: The last one.
    """

    first: int
    last: int

    @classmethod
    def of(cls, text: str | None) -> "Window | None":
        """Read the value of the flag; None: nothing is traced.

        Args:
            text: START:STOP, such as "101:110": both are traced.

        Raises:
            ConfigError: If it is something else.
        """
        if text is None:
            return None
        found = re.fullmatch(r"(\d{1,9}):(\d{1,9})", text, re.ASCII)
        window = cls(*map(int, found.groups())) if found else None
        expected = "START:STOP, two steps with 1 <= START <= STOP"
        require(window is not None and 1 <= window.first <= window.last, FLAG, expected, text)
        return window


@contextlib.contextmanager
def profiled(
    train_step: Callable[..., Any],
    window: Window | None,
    workdir: pathlib.Path,
    *,
    taken: int,
    num_steps: int,
) -> Iterator[Callable[..., Any]]:
    """Have a training step trace itself while it takes the steps of a window.

    The devices finish their work before the first of these steps and after the last one, so that
    the trace has no other. No number of the run depends on it. A trace that cannot be written is a
    warning.

    Args:
        train_step: (state, batch) -> state.
        window: The steps; None: nothing is traced.
        workdir: The run's working directory.
        taken: Steps that the run has taken.
        num_steps: Steps of the whole run.

    Yields:
        The step.

    Raises:
        ConfigError: If the run does not take these steps any more, or ends before them.
        OSError: If there cannot be such a directory.
    """
    if window is None:
        yield train_step
        return
    expected = f"steps that are still to be taken, {taken + 1} .. {num_steps}"
    ahead = taken < window.first and window.last <= num_steps
    require(ahead, FLAG, expected, f"{window.first}:{window.last}")
    (workdir / DIRECTORY).mkdir(exist_ok=True)
    tracing = _Tracing(train_step, window, workdir / DIRECTORY, taken)
    try:
        yield tracing.step
    finally:
        tracing.end()


class _Tracing:
    def __init__(
        self, train_step: Callable[..., Any], window: Window, directory: pathlib.Path, taken: int
    ) -> None:
        self._step, self._window, self._directory = train_step, window, directory
        self._taken, self._is_on = taken, False

    def step(self, state: Any, batch: Any) -> Any:
        """Take one step."""
        self._taken += 1
        if self._taken == self._window.first:
            jax.block_until_ready(state)
            with self._warned():
                jax.profiler.start_trace(self._directory)
                self._is_on = True
        with jax.profiler.StepTraceAnnotation("train", step_num=self._taken):
            state = self._step(state, batch)
        if self._taken == self._window.last:
            jax.block_until_ready(state)
            self.end()
        return state

    def end(self) -> None:
        """Write the trace, if one is being made."""
        if self._is_on:
            self._is_on = False
            with self._warned():
                jax.profiler.stop_trace()
                first, last = self._window.first, min(self._taken, self._window.last)
                print(f"profile: steps {first} to {last}: {self._directory}", flush=True)

    @contextlib.contextmanager
    def _warned(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            what = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"warning: {self._directory}: no trace: {what:.200}", file=sys.stderr, flush=True)
