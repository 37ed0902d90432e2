"""How fast does a trained run score the candidates of one user, and equal to evaluation?

    python -m benchmarks.scoring --workdir=runs/base

For every user, in turns within one process: the pairs of the user and each candidate as examples of
their own, as evaluation has them (requests made into a batch, then the evaluation's program); then
`Ranker.score` for a user it has not met; then again for the same user. Then the latter two alone,
as a server would: their times are the latencies, which the pairs' many objects do not disturb.
Prints candidates a second by the clock, their ratios, and how far scores are apart. Ratios say
something on a busy machine, seconds only on an idle one.
"""

import dataclasses
import pathlib
import time
from collections.abc import Callable
from typing import Any

from kunlun_jax.training.allocator import keep_freed_memory

keep_freed_memory()  # before JAX is imported

import jax  # noqa: E402
import numpy as np  # noqa: E402
from absl import app, flags  # noqa: E402
from tqdm import tqdm  # noqa: E402

from benchmarks.report import RESULTS, environment, write_json  # noqa: E402
from kunlun_jax.data import Dataset, Events, Request, batch_requests  # noqa: E402
from kunlun_jax.data.schema import SparseFeature  # noqa: E402
from kunlun_jax.data.tables import Examples  # noqa: E402
from kunlun_jax.serving import Ranker  # noqa: E402
from kunlun_jax.serving.collector import leave_loaded_objects_alone  # noqa: E402
from kunlun_jax.serving.predictor import BatchPredictor  # noqa: E402
from kunlun_jax.serving.trained import open_trained  # noqa: E402
from kunlun_jax.training.finished_run import read_config  # noqa: E402
from kunlun_jax.training.run_data import find_dataset  # noqa: E402

_WORKDIR = flags.DEFINE_string("workdir", None, "The run.", required=True)
_DATASET = flags.DEFINE_string("dataset", None, "Its data set, if not where it was.")
_USERS = flags.DEFINE_integer("users", 100, "Users.")
_CANDIDATES = flags.DEFINE_integer("candidates", 100, "Candidates of each.")
_OUT = flags.DEFINE_string("out", None, "Where the JSON goes; by default among the results.")


def drawn_users(dataset: Dataset, count: int) -> list[Request]:
    """Return the first requests of the test split by different users, but for the candidate."""
    examples, schema = dataset.splits["test"], dataset.schema
    _, rows = np.unique(examples.users, return_index=True)
    return [_request(dataset, row, without=schema.candidate) for row in np.sort(rows)[:count]]


def _request(dataset: Dataset, row: int, *, without: tuple[str, ...]) -> Request:
    examples, schema = dataset.splits["test"], dataset.schema
    events = {}
    for stream in schema.streams:
        log = dataset.logs[stream.name]
        mine = slice(*log.offsets[examples.users[row] : examples.users[row] + 2])
        events[stream.name] = Events(
            times=log.times[mine],
            ids={name: ids[mine] for name, ids in log.ids.items()},
            dense={f.name: log.dense[mine, i] for i, f in enumerate(stream.dense)},
        )
    sparse = {f.name: _ids(examples, f, row) for f in schema.sparse if f.name not in without}
    return Request(int(examples.request_times[row]), sparse=sparse, events=events)


def _ids(examples: Examples, feature: SparseFeature, row: int) -> int | list[int]:
    """Return the ids of a feature as a caller would give them: one number, or a list."""
    ids = examples.sparse[feature.name][row, : examples.sparse_lengths[feature.name][row]].tolist()
    return ids[0] if feature.max_values == 1 and ids else ids


def drawn_candidates(dataset: Dataset, count: int, seed: int) -> dict[str, list[Any]]:
    """Return the candidates, and the numbers of the context, of some test examples.

    Counts are left out: they are of other users, and requests count what is not given.
    """
    examples, schema = dataset.splits["test"], dataset.schema
    rows = np.random.default_rng(seed).integers(0, len(examples), count)
    counted = {column.name for column in schema.derived}
    columns: dict[str, list[Any]] = {
        f.name: examples.dense[rows, i].tolist()
        for i, f in enumerate(schema.dense)
        if f.name not in counted
    }
    for feature in schema.sparse:
        if feature.name in schema.candidate:
            columns[feature.name] = [_ids(examples, feature, row) for row in rows]
    return columns


def pairs(user: Request, candidates: dict[str, list[Any]], dense: set[str]) -> list[Request]:
    """Return one request a candidate, each with a history of its own."""
    count = len(next(iter(candidates.values())))
    return [
        dataclasses.replace(
            user,
            dense={name: column[i] for name, column in candidates.items() if name in dense},
            sparse={**user.sparse}
            | {name: column[i] for name, column in candidates.items() if name not in dense},
            events=dict(user.events),
        )
        for i in range(count)
    ]


def _seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def main(argv: list[str]) -> None:
    """Measure, print the table, write the JSON."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    workdir = pathlib.Path(_WORKDIR.value)
    config = read_config(workdir)
    dataset = Dataset.open(find_dataset(workdir, config.data.directory, _DATASET.value))
    trained = open_trained(workdir, dataset=_DATASET.value)
    loading, ranker = _seconds(lambda: Ranker(trained, cached_users=1))
    predictor = BatchPredictor(trained)
    count, dense = _CANDIDATES.value, {f.name for f in dataset.schema.dense}
    users = drawn_users(dataset, _USERS.value)

    def as_examples(user: Request, candidates: dict[str, list[Any]]) -> np.ndarray:
        batch = batch_requests(
            pairs(user, candidates, dense), dataset.schema, max_lens=trained.max_lens
        )
        return predictor.predict(jax.tree.map(np.asarray, batch))

    times: dict[str, list[float]] = {"as examples": [], "new user": [], "known user": []}
    alone: dict[str, list[float]] = {"new user": [], "known user": []}
    furthest = 0.0
    leave_loaded_objects_alone()  # as the server does
    for number, user in enumerate(tqdm([users[-1], *users], desc="in turns")):
        candidates = drawn_candidates(dataset, count, number)
        found = [
            _seconds(lambda u=user, c=candidates: as_examples(u, c)),
            _seconds(lambda u=user, c=candidates: ranker.score(u, c)),
            _seconds(lambda u=user, c=candidates: ranker.score(u, c)),
        ]
        if number:  # what compiles at the first call is not measured
            for name, (seconds, _) in zip(times, found, strict=True):
                times[name].append(seconds)
            furthest = max(furthest, *(np.abs(x - found[0][1]).max() for _, x in found))
    for number, user in enumerate(tqdm(users, desc="alone")):
        candidates = drawn_candidates(dataset, count, number)
        for spent in alone.values():
            spent.append(_seconds(lambda u=user, c=candidates: ranker.score(u, c))[0])
    speeds = {name: count / np.asarray(seconds) for name, seconds in times.items()}
    ratios = {n: np.percentile(x / speeds["as examples"], (25, 50, 75)) for n, x in speeds.items()}
    print(f"load and compile: {loading:.1f} s; {len(users)} users x {count} candidates")
    print(f"{'':12}{'candidates/s':>14}{'ratio [quartiles]':>22}{'p50':>10}{'p99':>10}")
    rows = {}
    for name, seconds in (times | alone).items():
        low, median, high = ratios[name]
        p50, p99 = 1e3 * np.percentile(seconds, (50, 99))
        print(f"{name:12}{np.median(speeds[name]):>14,.0f}{median:>8.2f} [{low:.2f}, {high:.2f}]"
              f"{p50:>8.1f}ms{p99:>8.1f}ms")  # fmt: skip
        rows[name] = {"ratio": list(ratios[name]), "p50_ms": p50, "p99_ms": p99}
    print(f"largest difference of two scores: {furthest:.1e}")
    write_json(
        pathlib.Path(_OUT.value or RESULTS / f"scoring_{count}.json"),
        {
            "benchmark": "scoring",
            "model": dataclasses.asdict(trained.config.model)["name"],
            "users": len(users),
            "candidates": count,
            "rows": rows,
            "largest_difference": furthest,
            "environment": environment(("jax", "jaxlib", "numpy")),
        },
    )


if __name__ == "__main__":
    app.run(main)
