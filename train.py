"""Trains a model: python train.py --config=configs/base.py --workdir=runs/base

Running the same command again resumes; values are overridden as in --config.data.batch_size=256.
"""

import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from kunlun_jax.training.allocator import keep_freed_memory

keep_freed_memory()  # before anything large is allocated

import jax  # noqa: E402

from kunlun_jax.config import ExperimentConfig, experiment_config  # noqa: E402
from kunlun_jax.training.run import USER_ERRORS, Run  # noqa: E402
from kunlun_jax.training.workdir import open_workdir  # noqa: E402

CONFIG = config_flags.DEFINE_config_file("config", None, "Config file, such as configs/base.py.")
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of the run; by default runs/<name of the config file>."
)


def main(argv: list[str]) -> None:
    """Train, or resume, the run that the flags describe, and report its best checkpoint."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    try:
        config = experiment_config(CONFIG.value)
        workdir = open_workdir(WORKDIR.value or _default_workdir(), config)
        train(config, workdir)
    except USER_ERRORS as error:
        sys.exit(f"error: {error}")


def train(config: ExperimentConfig, workdir: pathlib.Path) -> None:
    """Run the experiment in a working directory.

    Args:
        config: The experiment.
        workdir: Where checkpoints and metrics go, and are found again.
    """
    print(f"jax {jax.__version__} on {jax.devices()}", flush=True)
    with Run(config, workdir) as run:  # data, model, step functions, checkpoints
        print(run.summary(), flush=True)
        state = run.resume_or_initialize()
        state, complete = run.train(state)
        if complete:
            print(run.report_best(state), flush=True)


def _default_workdir() -> pathlib.Path:
    return pathlib.Path("runs") / pathlib.Path(config_flags.get_config_filename(CONFIG)).stem


def _parse_flags(argv: list[str]) -> list[str]:
    """Parse the flags; whatever is wrong with them or with the config file is one line."""
    try:
        arguments = flags.FLAGS(argv)
        if CONFIG.value is None:
            raise flags.Error("expected --config=FILE, got none")
        return arguments
    except (flags.Error, KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")


if __name__ == "__main__":
    logging.set_verbosity(logging.WARNING)  # checkpoints are talkative at INFO, absl's default
    app.run(main, flags_parser=_parse_flags)
