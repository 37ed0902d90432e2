"""Several processes that train one model: how they find each other, agree, and end together.

JAX's own distributed runtime does the work. A process that was never told of others runs as if
this module did not exist.

    with connected(Options(coordinator="node0:1234", num_processes=2, process_id=0)):
        ...
"""

import contextlib
import dataclasses
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax._src.clusters import ClusterEnv
from jax.experimental import multihost_utils

from kunlun_jax.command_line import one_line
from kunlun_jax.config.parsing import require
from kunlun_jax.hosts.lifeline import Lifeline

# What a launcher says to each of several processes; Kubernetes says it to the pods of an indexed
# job, and only its server knows how many they are.
_CLUSTERS = {
    "SLURM": lambda environment: (
        "SLURM_STEP_NODELIST" in environment and int(environment.get("SLURM_NTASKS", "1")) > 1
    ),
    "Open MPI": lambda environment: int(environment.get("OMPI_COMM_WORLD_SIZE", "1")) > 1,
    "Kubernetes": lambda environment: (
        {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= set(environment)
    ),
}
_MESSAGE_BYTES = 1024
# Wait this many seconds before printing an error, so that a peer's loss is reported first.
_HEAR_FIRST = 0.5

Result = TypeVar("Result")


class ProcessError(RuntimeError):
    """The processes of a run cannot work together, or another one of them failed."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Where the other processes are. Without the first three, a cluster that JAX knows says it.

    Attributes:
        coordinator: Host and port where process 0 listens, the same for all.
        num_processes: How many processes there are.
        process_id: Which of them this one is, from 0.
        start_timeout: Seconds to wait for all others at the start.
        heartbeat_timeout: Seconds without a sign of life after which a process counts as lost.
    """

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    start_timeout: int = 300
    heartbeat_timeout: int = 100

    @property
    def cluster(self) -> str | None:
        """What tells this process of others: "flags", the name of a cluster, or nothing."""
        flags = {
            "coordinator": self.coordinator,
            "num_processes": self.num_processes,
            "process_id": self.process_id,
        }
        if any(value is not None for value in flags.values()):
            for name, value in flags.items():
                require(value is not None, f"--{name}", f"all of {sorted(flags)} or none", value)
            return "flags"
        return next((name for name, found in _CLUSTERS.items() if found(os.environ)), None)


def several() -> bool:
    """Return whether there is more than one process; asks no device where nobody `connected`."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_first() -> bool:
    """Return whether this is process 0, which writes and speaks for all."""
    return not several() or jax.process_index() == 0


@contextlib.contextmanager
def connected(options: Options, *, expected: tuple[type[Exception], ...]) -> Iterator[None]:
    """Join the other processes, before anything else asks JAX for devices; leave with them.

    Whatever goes wrong on one of them ends all: the one says why, the others say which one it was.
    Only process 0 prints on standard output.

    Args:
        options: Where the others are.
        expected: Errors that are told in one line.

    Raises:
        ConfigError: If the options contradict each other.
        ProcessError: If the others cannot be reached in time.
    """
    if options.cluster is None:
        yield
        return
    lifeline = _meet(options)
    if not several():
        yield
        return
    try:
        with contextlib.redirect_stdout(sys.stdout if is_first() else None):
            yield
    except BaseException as error:
        time.sleep(_HEAR_FIRST)
        lifeline.fall_silent()
        _say(error, expected)
        lifeline.leave(failed=True)
        os._exit(1)  # at its usual exit, JAX waits for the others, who may be waiting for this one
    lifeline.leave(failed=False)


def _meet(options: Options) -> Lifeline:
    given = os.environ.get("JAX_LOCAL_DEVICE_IDS")
    # The loop takes SIGTERM, and all stop at one step (`hosts/stopping.py`).
    jax.config.update("jax_enable_preemption_service", False)
    try:
        # What initialize would find out itself; the lifeline needs to know it, too.
        address, count, number, devices = ClusterEnv.auto_detect_unset_distributed_params(
            options.coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS"),
            options.num_processes,
            options.process_id,
            [int(device) for device in given.split(",")] if given else None,
            None,
            options.start_timeout,
        )
        if address is None or count is None or number is None or not 0 <= number < count:
            raise ValueError(
                f"expected a coordinator and a process below their count, got {address}, process "
                f"{number} of {count}"
            )
        lifeline = Lifeline(
            address,
            number,
            count,
            timeout=options.start_timeout,
            silence=options.heartbeat_timeout,
        )
        jax.distributed.initialize(
            address,
            count,
            number,
            local_device_ids=devices,
            initialization_timeout=options.start_timeout,
            heartbeat_timeout_seconds=options.heartbeat_timeout,
        )
    except Exception as error:  # of sockets, of JAX, or of a cluster's own library
        where = options.coordinator or f"the address that {options.cluster} tells"
        raise ProcessError(
            f"expected all processes within {options.start_timeout} s at {where}: "
            f"{' '.join(str(error).split())[:300]}"
        ) from error
    return lifeline


def _say(error: BaseException, expected: tuple[type[Exception], ...]) -> None:
    if isinstance(error, expected):
        print(one_line(error), file=sys.stderr)
    elif not isinstance(error, SystemExit):
        traceback.print_exception(error)
    elif isinstance(error.code, str):
        print(error.code, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Run a block on every process; where it fails on one, it fails on all.

    Raises:
        ProcessError: With the message of the first process that failed, on those that did not.
    """
    if not several():
        yield
        return
    failure = None
    try:
        yield
    except Exception as error:
        failure = error
    message = b"" if failure is None else one_line(failure).removeprefix("error: ").encode() or b"?"
    sent = np.zeros(_MESSAGE_BYTES, np.uint8)
    sent[: len(message)] = np.frombuffer(message[:_MESSAGE_BYTES], np.uint8)
    for number, got in enumerate(multihost_utils.process_allgather(sent)):
        if failure is None and got.any():
            text = got[got > 0].tobytes().decode(errors="replace")
            raise ProcessError(f"process {number}: {text}")
    if failure is not None:
        raise failure


def first_in_turn(function: Callable[[], Result]) -> Result:
    """Call a function on process 0, and when it is done there, on all others.

    Args:
        function: What leaves something behind that the others find.

    Raises:
        ProcessError: If it fails on another process.
    """
    with together():
        result = function() if is_first() else None
    with together():
        return function() if result is None else result


def sum_over_processes(values: np.ndarray) -> np.ndarray:
    """Return the sum of every process's numbers, modulo 2^64.

    Args:
        values: uint64 [n].
    """
    if not several():
        return values
    # JAX would cut 64-bit integers to 32.
    halves = multihost_utils.process_allgather(values.view(np.uint32))
    return np.ascontiguousarray(halves).view(np.uint64).sum(axis=0, dtype=np.uint64)


def gathered(values: Mapping[int, Any]) -> dict[int, Any]:
    """Return what all processes know, by number; all of them call this together.

    Args:
        values: By number, JSON. Who knows of the same number, knows the same.
    """
    if not several():
        return dict(values)
    text = np.frombuffer(json.dumps([*values.items()]).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array([len(text)], np.int32)).ravel()
    sent = np.zeros(sizes.max(), np.uint8)
    sent[: len(text)] = text
    found: dict[int, Any] = {}
    for got, size in zip(multihost_utils.process_allgather(sent), sizes, strict=True):
        found |= dict(json.loads(got[:size].tobytes()))
    return dict(sorted(found.items()))
