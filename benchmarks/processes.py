"""Seconds, processor time and memory of a command, from /proc, so on Linux only."""

import os
import pathlib
import resource
import subprocess
import tempfile
import time
from collections.abc import Sequence

from benchmarks.report import ROOT

POLL_SECONDS = 0.5
_PAGE, _TICK = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")


def measure(command: Sequence[str], *, data_limit: int | None = None) -> dict[str, float]:
    """Run a command; return what it and its descendants took.

    Args:
        command: The command.
        data_limit: Bytes of memory of its own that it may have (RLIMIT_DATA): all that it can
            write and nobody else sees. Files that are mapped to be read do not count, because the
            system takes their pages back when it needs them; a limit of addresses (RLIMIT_AS)
            would count them, mapped or looked at.

    Returns:
        "seconds", "processor_seconds", and peaks of the sums over all of them: "peak_bytes" that
        were resident (pages that they share count twice), "peak_own_bytes" without files.

    Raises:
        SystemExit: If it fails; the last line of its standard error.
    """
    start, processor, peak, own = time.perf_counter(), 0.0, 0, 0
    with tempfile.TemporaryFile("w+") as errors:
        # Arrow's own allocator reserves a gigabyte that it does not use.
        environment = os.environ | ({"ARROW_DEFAULT_MEMORY_POOL": "system"} if data_limit else {})
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=errors, cwd=ROOT, env=environment
        ) as process:
            if data_limit is not None:
                resource.prlimit(process.pid, resource.RLIMIT_DATA, (data_limit, data_limit))
            while process.poll() is None:
                memory, private, used = _tree(process.pid)
                peak, own, processor = max(peak, memory), max(own, private), max(processor, used)
                time.sleep(POLL_SECONDS)
        if process.returncode:
            errors.seek(0)
            raise SystemExit(f"{' '.join(command)}: {errors.read().strip().splitlines()[-1:]}")
    return {
        "seconds": time.perf_counter() - start,
        "processor_seconds": processor,
        "peak_bytes": peak,
        "peak_own_bytes": own,
    }


def _tree(root: int) -> tuple[int, int, float]:
    """Return resident bytes, those of no file, and processor seconds of a process and descendants.

    Descendants that have ended count through the processor time of their parents.
    """
    processes = {}
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            pages = path.with_name("statm").read_text().split()
        except OSError:
            continue
        processes[int(path.parent.name)] = fields, pages
    memory, own, processor, members = 0, 0, 0.0, [root]
    while members:
        pid = members.pop()
        members += [child for child, (fields, _) in processes.items() if int(fields[1]) == pid]
        if pid in processes:
            fields, pages = processes[pid]
            memory += int(pages[1]) * _PAGE
            own += (int(pages[1]) - int(pages[2])) * _PAGE
            processor += sum(int(value) for value in fields[11:15]) / _TICK
    return memory, own, processor
