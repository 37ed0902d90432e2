"""Week by week: does a warm start at a tenth of the compute beat a cold start?

    python -m benchmarks.warm_start --dataset=datasets/complete_journey --directory=runs/weeks
        --first=2017-08-06 --weeks=6

For every week, on all that was known before it:

    cold    a fresh run on all weeks before
    warm    a run on the last week alone, of a tenth of the cold run's steps, that begins with the
            weights of the warm run of the week before (the first one of the cold run)
    stale   the model that the warm one began with, as it was

All score the same requests of the week, through `kunlun-jax predict`. The data set becomes tables
of one's own; what is built of them extends the week before's vocabularies. The last two days
before a week are held out: the first picks the best checkpoint. Every part that is complete is
kept, so that the same command goes on. Six weeks at 300,000 examples train on 2 million.
"""

import ast
import dataclasses
import datetime
import pathlib
import time
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from absl import app, flags, logging
from ml_collections import ConfigDict

from benchmarks.as_tables import TIME, USER, WEIGHT, write_tables
from benchmarks.report import RESULTS, environment, write_json
from configs import own_data
from kunlun_jax.config import experiment_config
from kunlun_jax.data import Dataset
from kunlun_jax.data.build import build_own_data
from kunlun_jax.data.manifest import read_manifest
from kunlun_jax.data.own_data import ByDate, TableSchema
from kunlun_jax.data.own_data.inputs import Inputs
from kunlun_jax.data.own_data.table_schema import IMPRESSIONS
from kunlun_jax.metrics.comparison import METRICS, Measurement, difference, measure
from kunlun_jax.metrics.scores import Scores
from kunlun_jax.metrics.user_bootstrap import UserBootstrap
from kunlun_jax.serving.batch_prediction import predict_tables
from kunlun_jax.serving.trained import open_trained
from kunlun_jax.training.allocator import keep_freed_memory
from kunlun_jax.training.results import report_best
from kunlun_jax.training.run import open_run
from kunlun_jax.training.run_loop import run_loop
from kunlun_jax.training.warm_start import WarmStart
from kunlun_jax.training.workdir import has_report, open_workdir

_DATASET = flags.DEFINE_string("dataset", "datasets/complete_journey", "A built data set.")
_DIRECTORY = flags.DEFINE_string("directory", "runs/weeks", "Where tables, data and runs go.")
_FIRST = flags.DEFINE_string("first", "2017-08-06", "First day of the first week.")
_WEEKS = flags.DEFINE_integer("weeks", 6, "Weeks; the first one has a cold start only.", 2)
_EXAMPLES = flags.DEFINE_integer("examples", 300_000, "Training examples of a cold start, at most.")
_HELD_OUT = flags.DEFINE_integer("held_out", 1, "Days of validation, and of test, before a week.")
_SET = flags.DEFINE_multi_string("set", [], "PATH=VALUE, a setting of all runs: model.name='din'.")
_WARM = flags.DEFINE_multi_string("warm", [], "PATH=VALUE, a setting of warm starts alone.")
_OPTIMIZER = flags.DEFINE_enum("init_optimizer", "keep", ["fresh", "keep"], "Of warm starts.")
_OUT = flags.DEFINE_string("out", None, "Where the JSON goes; by default benchmarks/results.")

SHARE = 10  # a warm start takes one of so many steps
DAY = datetime.timedelta(days=1)


@dataclasses.dataclass(frozen=True)
class Tables:
    """The tables of a data set.

    Attributes:
        directory: Where they lie.
        schema: What their columns mean.
    """

    directory: pathlib.Path
    schema: TableSchema

    def inputs(self, impressions: pathlib.Path) -> Inputs:
        """Return some impressions with the events of all times."""
        events = {s.name: (self.directory / f"{s.name}.parquet",) for s in self.schema.streams}
        return Inputs({IMPRESSIONS: (impressions,), **events})

    def write_between(self, first: datetime.date | None, stop: datetime.date, name: str) -> Inputs:
        """Write the impressions of some days, and return them as inputs; no first day: from all."""
        path = self.directory / f"{name}.parquet"
        table = pq.read_table(self.directory / f"{IMPRESSIONS}.parquet")
        kept = pc.less(table[TIME], _seconds(stop))
        if first is not None:
            kept = pc.and_(kept, pc.greater_equal(table[TIME], _seconds(first)))
        pq.write_table(table.filter(kept), path)
        return self.inputs(path)


def _seconds(day: datetime.date) -> int:
    moment = datetime.datetime.combine(day, datetime.time(), datetime.UTC)
    return int(moment.timestamp())


def build(
    tables: Tables,
    out: pathlib.Path,
    first: datetime.date | None,
    week: datetime.date,
    extend: pathlib.Path | None,
) -> None:
    """Build what is known before a week; from a first day on, or from the beginning.

    Args:
        tables: All tables.
        out: Directory of the data set.
        first: First day.
        week: First day of the week.
        extend: The data set whose ids are kept.
    """
    held_out = _HELD_OUT.value * DAY
    split = ByDate(str(week - 2 * held_out), str(week - held_out))
    schema = dataclasses.replace(tables.schema, split=split)
    build_own_data(schema, tables.write_between(first, week, out.name), out, extend=extend)


def train(
    dataset: pathlib.Path,
    workdir: pathlib.Path,
    steps: int,
    lengths: dict[str, int],
    settings: list[str],
    init_from: pathlib.Path | None = None,
) -> dict[str, Any]:
    """Train a run to its end; returns steps, examples and seconds of this start.

    Args:
        dataset: Its data set.
        workdir: Its directory.
        steps: How many; fewer where one epoch has fewer.
        lengths: Events of every stream that the model reads.
        settings: PATH=VALUE.
        init_from: The run whose weights it takes.
    """
    config = own_data.get_config(str(dataset))
    for name, length in lengths.items():
        config.model.streams[name].max_len = length
    for setting in settings:
        path, _, value = setting.partition("=")
        config.update_from_flattened_dict({path: ast.literal_eval(value)})
    examples = read_manifest(dataset)["counts"]["rows"]["train"]
    _set_steps(config, min(steps, examples // config.data.batch_size), examples)
    experiment, begin = experiment_config(config), time.monotonic()
    with open_workdir(workdir, experiment), open_run(experiment, workdir) as run:
        source = None if init_from is None else str(init_from)
        start = WarmStart.of(workdir, source, _OPTIMIZER.value)
        state, complete = run_loop(run, run.resume_or_initialize(start.state), run.train_step())
        if not complete:
            raise SystemExit(f"{workdir}: stopped; the same command goes on")
        if not has_report(workdir):
            print(report_best(run, state), flush=True)
        taken = run.num_steps
    return {
        "steps": taken,
        "examples": taken * config.data.batch_size,
        "seconds": time.monotonic() - begin,
    }


def _set_steps(config: ConfigDict, steps: int, examples: int) -> None:
    config.data.num_epochs = max(steps, 1) * config.data.batch_size / examples
    config.training.eval_every = max(1, steps // 4)
    config.optimizer.warmup_steps = min(config.optimizer.warmup_steps, max(1, steps // 10))


def score(tables: Tables, workdir: pathlib.Path, week: datetime.date, name: str) -> Scores:
    """Score the requests of a week with the best checkpoint of a run.

    Args:
        tables: All tables.
        workdir: Of the run.
        week: First day of the week.
        name: Of the file of scores.
    """
    out = tables.directory / f"scores-{week}-{name}.parquet"
    inputs = tables.write_between(week, week + 7 * DAY, f"week-{week}")
    task = tables.schema.labels[0]
    keep = [WEIGHT, *tables.schema.labels]
    out.unlink(missing_ok=True)  # of a model that may have been another
    predict_tables(open_trained(workdir), inputs, out, keep=keep)
    table = pq.read_table(out)
    probability = table[f"score_{task}"].to_numpy().astype(np.float64).clip(1e-12, 1 - 1e-12)
    logits = np.log(probability) - np.log1p(-probability)
    return Scores(
        user_ids=np.asarray(table[USER].cast("int64")),
        logits=logits[:, None].astype(np.float32),
        labels=table[task].to_numpy().astype(np.float32)[:, None],
        weights=table[WEIGHT].to_numpy(),
    )


def compare(scores: dict[str, Scores]) -> dict[str, Any]:
    """Measure models on the same requests; NE is relative to their own label rate."""
    first = next(iter(scores.values()))
    assert all(first.same_examples(other) for other in scores.values())
    bootstrap = UserBootstrap(first.user_ids, num_resamples=1000, seed=0)
    rate = float(np.average(first.labels[:, 0], weights=first.weights))
    found: dict[str, Measurement] = {
        name: measure(one, bootstrap, label_rate=rate) for name, one in scores.items()
    }
    result: dict[str, Any] = {
        name: {metric: getattr(one, metric) for metric in METRICS} for name, one in found.items()
    }
    if "warm" in found:
        estimates = difference(found["cold"], found["warm"])
        result["warm - cold"] = {n: dataclasses.asdict(x) for n, x in estimates.items()}
    return {"requests": len(first), "label_rate": rate, "models": result}


def run_week(
    tables: Tables, root: pathlib.Path, number: int, lengths: dict[str, int]
) -> dict[str, Any]:
    """Build, train and score one week.

    Args:
        tables: All tables.
        root: Where data sets and runs go.
        number: Of the week, from 0; the one before is complete.
        lengths: Events of every stream; filled in by the first week.
    """
    week = datetime.date.fromisoformat(_FIRST.value) + 7 * number * DAY
    batch = _batch_size()
    cold_data, cold = root / f"data-cold-{number}", root / f"cold-{number}"
    build(tables, cold_data, None, week, None)
    if not lengths:
        streams = own_data.get_config(str(cold_data)).model.streams
        lengths.update({name: stream.max_len for name, stream in streams.items()})
    steps = _EXAMPLES.value // batch
    row: dict[str, Any] = {"week": str(week)}
    row["cold"] = train(cold_data, cold, steps, lengths, _SET.value)
    scores = {"cold": score(tables, cold, week, "cold")}
    if number:
        before = root / (f"warm-{number - 1}" if number > 1 else "cold-0")
        data, warm = root / f"data-warm-{number}", root / f"warm-{number}"
        since = week - 7 * DAY - 2 * _HELD_OUT.value * DAY  # where training ended
        build(tables, data, since, week, before / "dataset")
        settings = [*_SET.value, *_WARM.value]
        steps = row["cold"]["steps"] // SHARE
        row["warm"] = train(data, warm, steps, lengths, settings, before)
        row["appended"] = read_manifest(data)["parent"]["appended"]
        scores["warm"] = score(tables, warm, week, "warm")
        scores["stale"] = score(tables, before, week, "stale")
    return row | compare(scores)


def _batch_size() -> int:
    config = own_data.get_config()
    given = dict(setting.split("=", 1) for setting in _SET.value)
    return int(given.get("data.batch_size", config.data.batch_size))


def line(row: dict[str, Any]) -> str:
    """Return a row of the table, in Markdown."""
    cells = [row["week"], f"{row['requests']:,}"]
    for name in ("cold", "warm", "stale"):
        found = row["models"].get(name)
        cells.append("" if found is None else f"{found[METRICS[0]]:.4f} / {found[METRICS[1]]:.4f}")
    found = row["models"].get("warm - cold")
    for metric in METRICS:
        cells.append("" if found is None else "{value:+.4f} [{low:+.4f}, {high:+.4f}]".format(
            **found[metric]))  # fmt: skip
    return f"| {' | '.join(cells)} |"


HEAD = """| week | requests | cold NE / AUC | warm | stale | NE, warm - cold | AUC, warm - cold |
|---|---|---|---|---|---|---|"""


def main(argv: list[str]) -> None:
    """Go through the weeks, print the table, write the JSON."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    keep_freed_memory()
    logging.set_verbosity(logging.FATAL)
    root = pathlib.Path(_DIRECTORY.value).absolute()
    root.mkdir(parents=True, exist_ok=True)
    dataset = Dataset.open(_DATASET.value, columns_directory=str(root))
    tables = Tables(root / "tables", write_tables(dataset, root / "tables"))
    lengths: dict[str, int] = {}
    rows = [run_week(tables, root, number, lengths) for number in range(_WEEKS.value)]
    print("\n".join([HEAD, *map(line, rows)]))
    content = {
        "benchmark": "warm_start",
        "dataset": dataset.schema.name,
        "dataset_identity": dataset.identity,
        "settings": _SET.value,
        "warm_settings": _WARM.value,
        "init_optimizer": _OPTIMIZER.value,
        "share_of_steps": 1 / SHARE,
        "rows": rows,
        "environment": environment(("jax", "jaxlib", "numpy", "duckdb")),
    }
    write_json(pathlib.Path(_OUT.value or RESULTS / "warm_start.json"), content)


if __name__ == "__main__":
    app.run(main)
