"""Exports a run's best checkpoint into a folder that is used without this package.

    kunlun-jax export --run=runs/shop --out=exported
    python exported/reader.py < requests.jsonl

`python -m kunlun_jax.export` is the same command. The folder holds a StableHLO program for CPUs and
NVIDIA GPUs, weights, schema, vocabularies, and a reader that needs jax, numpy and flatbuffers.
"""

import json
import pathlib
import sys

from absl import app, flags

from kunlun_jax.command_line import one_line, parse_flags, run_program
from kunlun_jax.serving.export import export
from kunlun_jax.serving.trained import open_trained
from kunlun_jax.training.run import USER_ERRORS


def main(argv: list[str]) -> None:
    """Export the run that the flags name."""
    values = flags.FLAGS
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only, got {argv[1]!r:.100} (quote paths with blanks)")
    try:
        trained = open_trained(values.run, dataset=values.dataset)
        export(trained, pathlib.Path(values.out))
    except (*USER_ERRORS, ImportError) as error:
        sys.exit(one_line(error))
    print(json.dumps({"directory": values.out, "step": trained.step}))


if __name__ == "__main__":
    flags.DEFINE_string("run", None, "Working directory of the run.", required=True)
    flags.DEFINE_string("out", None, "New folder.", required=True)
    flags.DEFINE_string("dataset", None, "Data set of the run, if it is needed and not found.")
    run_program(main, parse_flags, quiet=True)
