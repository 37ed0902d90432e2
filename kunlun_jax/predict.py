"""Scores tables, or a split of a run's data set, with the run's best checkpoint.

    kunlun-jax predict --run=runs/shop --impressions=impressions.csv --events=views.csv
        --out=scores.parquet
    kunlun-jax predict --run=runs/base --split=test --out=scores.csv

`python -m kunlun_jax.predict` is the same command. Labels need not be in the tables. The order of
the rows is kept, and beside the scores stand the columns of user, time and candidate, and those of
--keep. The same command goes on with what was interrupted.
"""

import json
import pathlib
import sys

from absl import app, flags

from kunlun_jax.training.allocator import keep_freed_memory

keep_freed_memory()  # before JAX is imported

from kunlun_jax.command_line import one_line, parse_flags, run_program  # noqa: E402
from kunlun_jax.data import Dataset  # noqa: E402
from kunlun_jax.data.own_data.inputs import Inputs  # noqa: E402
from kunlun_jax.serving.batch_prediction import predict_split, predict_tables, table_schema  # noqa: E402
from kunlun_jax.serving.trained import open_trained  # noqa: E402
from kunlun_jax.training.finished_run import read_config  # noqa: E402
from kunlun_jax.training.run import USER_ERRORS  # noqa: E402
from kunlun_jax.training.run_data import find_dataset  # noqa: E402


def main(argv: list[str]) -> None:
    """Score what the flags name."""
    values = flags.FLAGS
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only, got {argv[1]!r:.100} (quote paths with blanks)")
    if (values.split is None) == (values.impressions is None):
        raise app.UsageError("expected either --impressions or --split")
    out = pathlib.Path(values.out)
    try:
        trained = open_trained(values.run, dataset=values.dataset)
        if values.split is not None:
            directory = read_config(pathlib.Path(values.run)).data.directory
            place = find_dataset(pathlib.Path(values.run), directory, values.dataset)
            count = predict_split(trained, Dataset.open(place), values.split, out)
        else:
            schema = table_schema(trained)
            inputs = Inputs.parse(schema, values.impressions, values.events)
            count = predict_tables(
                trained,
                inputs,
                out,
                keep=values.keep,
                workers=values.workers,
                memory_gb=values.memory_gb,
            )
    except (*USER_ERRORS, ImportError, MemoryError) as error:
        sys.exit(one_line(error))
    print(json.dumps({"file": str(out), "rows": count, "step": trained.step}))


def define_flags() -> None:
    """Define the flags of this command."""
    flags.DEFINE_string("run", None, "Working directory of the run.", required=True)
    flags.DEFINE_string("out", None, "New file: .parquet or .csv.", required=True)
    flags.DEFINE_string("impressions", None, "CSV or Parquet: a file, a folder or a pattern.")
    flags.DEFINE_multi_string("events", [], "STREAM=FILES, once for every event stream.")
    flags.DEFINE_enum("split", None, ["train", "validation", "test"], "Of the run's data set.")
    flags.DEFINE_list("keep", [], "More columns of the impressions to keep beside the scores.")
    flags.DEFINE_string("dataset", None, "Data set of the run, if it is needed and not found.")
    flags.DEFINE_integer("workers", 1, "Threads that read tables.", 1)
    flags.DEFINE_float("memory_gb", 4.0, "Memory of joins and sorts, in GB.", 0.1)


if __name__ == "__main__":
    define_flags()
    run_program(main, parse_flags, quiet=True)
