"""How many requests a second does a server of a run answer, and how fast?

    python -m benchmarks.serving --workdir=runs/base

Starts `kunlun-jax serve` on the run with the histories of its data set, and sends requests of users
of the test split, by number, with drawn candidates: one after the other; then from many clients at
once, which gives the most that it answers; then at rising rates, whatever the answers do. The knee
is the highest rate without an error at which the server keeps up and p99 stays below ten times the
p50 of one client. At 80 % of it the server then has a minute. Latency counts from the moment when a
request was due.

Server and clients share the machine. What else it does is in the record, as its load.
"""

import asyncio
import collections
import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks.report import RESULTS, environment, write_json
from kunlun_jax.data import Dataset
from kunlun_jax.training.finished_run import read_config
from kunlun_jax.training.run_data import find_dataset

_WORKDIR = flags.DEFINE_string("workdir", None, "The run.", required=True)
_DATASET = flags.DEFINE_string("dataset", None, "Its data set, if not where it was.")
_CANDIDATES = flags.DEFINE_list("candidates", ["100", "1000"], "Candidates of a request.")
_USERS = flags.DEFINE_integer("users", 500, "Users that ask, in turn.")
_SECONDS = flags.DEFINE_float("seconds", 8.0, "Of every measurement but the last, of a minute.")
_OUT = flags.DEFINE_string("out", None, "Where the JSON goes; by default among the results.")

SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1)  # of the most that is answered
CLIENTS = 8
LEAST_REQUESTS = 20  # of a measurement, however slow
KEPT_UP = 0.95  # of the rate is answered; with less a queue grows, which a short time hides
IDLE_SECONDS = 30.0
LIBRARIES = ("jax", "jaxlib", "numpy", "starlette", "uvicorn", "pydantic")


@dataclasses.dataclass
class Outcome:
    """What some requests led to: seconds of those that were scored, and counts by status."""

    seconds: list[float] = dataclasses.field(default_factory=list)
    statuses: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    wall: float = 0.0

    def row(self) -> dict[str, Any]:
        """Return it for the record."""
        p50, p99 = 1e3 * np.percentile(self.seconds, (50, 99)) if self.seconds else (np.nan,) * 2
        return {
            "answered_per_second": round(len(self.seconds) / self.wall, 2),
            "p50_ms": round(float(p50), 1),
            "p99_ms": round(float(p99), 1),
            "statuses": dict(self.statuses),
        }


class Client:
    """Sends bodies over connections that are kept open."""

    def __init__(self, host: str, port: int, bodies: Iterator[bytes]) -> None:
        """Connect to nothing yet."""
        self._address, self._bodies = (host, port), bodies
        self._idle: list[tuple[float, tuple[asyncio.StreamReader, asyncio.StreamWriter]]] = []

    async def ask(self, due: float, outcome: Outcome) -> None:
        """Send the next body, and note what comes."""
        body = next(self._bodies)
        async with self._connection() as (reader, writer):
            writer.write(
                b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n%b" % (len(body), body)
            )
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = head.partition("content-length: ")[2].split("\r\n")[0]
            await reader.readexactly(int(length))
        status = head.split()[1]
        outcome.statuses[status] += 1
        if status == "200":
            outcome.seconds.append(time.perf_counter() - due)

    @contextlib.asynccontextmanager
    async def _connection(
        self,
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        now = time.monotonic()
        for stale in [one for one in self._idle if now - one[0] > IDLE_SECONDS]:
            self._idle.remove(stale)  # before the server closes it
            stale[1][1].close()
        found = self._idle.pop()[1] if self._idle else await asyncio.open_connection(*self._address)
        yield found
        self._idle.append((time.monotonic(), found))


async def in_turn(client: Client, clients: int, seconds: float) -> Outcome:
    """Let clients ask, each as soon as it has its answer."""
    outcome, begun = Outcome(), time.perf_counter()

    async def keep_asking() -> None:
        while (now := time.perf_counter()) < begun + seconds:
            await client.ask(now, outcome)

    await asyncio.gather(*(keep_asking() for _ in range(clients)))
    outcome.wall = time.perf_counter() - begun
    return outcome


async def at_rate(client: Client, rate: float, seconds: float) -> Outcome:
    """Send requests at a rate, whatever becomes of those before."""
    outcome, begun, asked = Outcome(), time.perf_counter(), []
    for number in range(round(rate * seconds)):
        due = begun + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        asked.append(asyncio.create_task(client.ask(due, outcome)))
    await asyncio.gather(*asked)
    outcome.wall = time.perf_counter() - begun
    return outcome


async def measure(client: Client, seconds: float) -> dict[str, Any]:
    """Return what a server does under rising load, and for a minute at 80 % of the knee."""
    await in_turn(client, 1, 2.0)  # the first ones are not measured
    alone = await in_turn(client, 1, seconds)
    most = (await in_turn(client, CLIENTS, seconds)).row()
    limit, knee, rates = 10 * alone.row()["p50_ms"], 0.0, {}
    for share in SHARES:
        rate = round(share * most["answered_per_second"], 2)
        row = (await at_rate(client, rate, max(seconds, LEAST_REQUESTS / rate))).row()
        rates[str(rate)] = row
        print(f"  {rate:8.1f} /s  {row}", flush=True)
        kept_up = row["answered_per_second"] >= KEPT_UP * rate
        if not kept_up or set(row["statuses"]) != {"200"} or row["p99_ms"] > limit:
            break
        knee = rate
    before = os.getloadavg()
    minute = (await at_rate(client, 0.8 * knee, 60.0)).row() if knee else None
    return {
        "one_client": alone.row(),
        f"{CLIENTS}_clients": most,
        "rates": rates,
        "knee_per_second": knee,
        "minute_at_80_percent": minute,
        "load_before_and_after_the_minute": [before[0], os.getloadavg()[0]],
    }


def bodies_of(dataset: Dataset, users: int, candidates: int) -> Iterator[bytes]:
    """Return bodies of users of the test split, again and again."""
    examples, rng, found = dataset.splits["test"], np.random.default_rng(0), []
    _, rows = np.unique(examples.users, return_index=True)
    for row in np.sort(rows)[:users].tolist():
        drawn = rng.integers(0, len(examples), candidates)
        body = {
            "time": int(examples.request_times[row]),
            "user": int(examples.users[row]),
            "candidates": {
                name: examples.sparse[name][drawn].tolist() for name in dataset.schema.candidate
            },
        }
        found.append(json.dumps(body).encode())
    return itertools.cycle(found)


def main(argv: list[str]) -> None:
    """Measure, print, write the JSON."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    workdir, loads = pathlib.Path(_WORKDIR.value), [os.getloadavg()[0]]
    config = read_config(workdir)
    place = find_dataset(workdir, config.data.directory, _DATASET.value)
    dataset = Dataset.open(place)
    command = [sys.executable, "-m", "kunlun_jax.serve", f"--run={workdir}", "--port=0"]
    command += [f"--histories={place}", "--timeout=10", "--reload=0"]
    rows = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            started = json.loads(server.stdout.readline() or "{}")
            host, port = started["url"].removeprefix("http://").split(":")
            for count in map(int, _CANDIDATES.value):
                client = Client(host, int(port), bodies_of(dataset, _USERS.value, count))
                print(f"{count} candidates", flush=True)
                rows[str(count)] = asyncio.run(measure(client, _SECONDS.value))
                print(json.dumps(rows[str(count)], indent=1), flush=True)
        finally:
            server.terminate()
            code = server.wait(60)
    loads.append(os.getloadavg()[0])
    write_json(
        pathlib.Path(_OUT.value or RESULTS / "serving.json"),
        {
            "benchmark": "serving",
            "model": config.model.name,
            "step": started["step"],
            "users": _USERS.value,
            "candidates": rows,
            "exit_code_of_the_server": code,
            "machine_shared_with": "clients of this benchmark, and other programs",
            "load_before_and_after": loads,
            "environment": environment(LIBRARIES),
        },
    )


if __name__ == "__main__":
    app.run(main)
