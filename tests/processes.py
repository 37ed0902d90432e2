"""Starts Python in processes of its own: one, or several that work together on CPU devices."""

import contextlib
import os
import pathlib
import random
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax

ROOT = pathlib.Path(__file__).parents[1]
# Seconds; a heartbeat that stays away for so long has to mean something on a busy machine, too.
START_TIMEOUT, HEARTBEAT_TIMEOUT = 120, 30


def start_python(
    *arguments: object, cwd: pathlib.Path = ROOT, variables: Mapping[str, str] = {}, **options: Any
) -> subprocess.Popen[Any]:
    """Start Python on the CPU, with the repository to import from; text goes through pipes.

    Args:
        arguments: Of Python.
        cwd: Working directory.
        variables: More of the environment.
        options: Of `subprocess.Popen`.
    """
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), **variables}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)], cwd=cwd, env=environment, **streams
    )


def run_python(*arguments: object, **options: Any) -> subprocess.CompletedProcess[Any]:
    """Run Python to its end; arguments as for `start_python`."""
    process = start_python(*arguments, **options)
    out, err = process.communicate(timeout=900)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def flags_of(count: int, number: int, port: int) -> list[str]:
    """Return the flags by which train.py finds the others."""
    return [
        f"--coordinator=127.0.0.1:{port}",
        f"--num_processes={count}",
        f"--process_id={number}",
    ]


def slurm_tasks(count: int) -> list[dict[str, str]]:
    """Return what SLURM would tell each of so many tasks on this machine."""
    # JAX makes the coordinator's port of the number of the job: one of the last 4096.
    job = random.randrange(2**12)
    while not _is_free(2**16 - 2**12 + job):
        job = random.randrange(2**12)
    return [
        {
            "SLURM_JOB_ID": str(job),
            "SLURM_STEP_NODELIST": "localhost",
            "SLURM_NTASKS": str(count),
            "SLURM_PROCID": str(number),
            "SLURM_LOCALID": str(number),
        }
        for number in range(count)
    ]


def _is_free(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
        return True
    return False


def start(
    commands: Sequence[Sequence[str]],
    *,
    devices: int,
    count: int | None = None,
    first: int = 0,
    slurm: bool = False,
) -> list[subprocess.Popen[str]]:
    """Start one process for each command.

    Args:
        commands: Arguments of Python, without the flags by which they find each other.
        devices: CPU devices of each.
        count: How many processes each is told of; as many as there are by default.
        first: Number of the first one.
        slurm: Whether they are told by SLURM's environment rather than by flags.
    """
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir or "",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONPATH": str(ROOT),
    }
    environment.pop("XLA_FLAGS", None)  # may ask for another number of devices
    port, count = free_port(), len(commands) if count is None else count
    tasks = slurm_tasks(count) if slurm else [{}] * count
    timeouts = [f"--start_timeout={START_TIMEOUT}", f"--heartbeat_timeout={HEARTBEAT_TIMEOUT}"]
    return [
        subprocess.Popen(
            [
                sys.executable,
                *command,
                *(flags_of(count, number, port) if count > 1 and not slurm else []),
                *(timeouts if count > 1 else []),
            ],
            cwd=ROOT,
            env=environment | tasks[number],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, command in enumerate(commands, first)
    ]


def finish(
    processes: Sequence[subprocess.Popen[str]], timeout: float = 400
) -> list[tuple[int, str, str]]:
    """Wait for all; return exit code, standard output and standard error of each.

    Raises:
        subprocess.TimeoutExpired: If one hangs; all are killed then.
    """
    try:
        ends = [process.communicate(timeout=timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(p.returncode, *end) for p, end in zip(processes, ends, strict=True)]
