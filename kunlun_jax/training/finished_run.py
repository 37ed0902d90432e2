"""A run that train.py has finished, opened again from its working directory, to be read only."""

import contextlib
import json
import os
import pathlib
import sys
from collections.abc import Iterator

from kunlun_jax.config import ExperimentConfig, experiment_config
from kunlun_jax.files import publish
from kunlun_jax.training.results import restore_best
from kunlun_jax.training.run import Run, open_run
from kunlun_jax.training.step import TrainState
from kunlun_jax.training.workdir import CONFIG_FILE, WorkdirError


def keep_beside(path: pathlib.Path, text: str, *, flag: str) -> bool:
    """Write what a program has found about a run; returns whether it could be written.

    Where it cannot, because the run's directory is not to be written, standard error says so: what
    was found is not lost over that, it is printed as well.

    Args:
        path: The file.
        text: Its content.
        flag: The flag that names another file or directory.
    """
    try:
        publish(path, text)
    except OSError as error:
        print(f"warning: {path}: not written: {error.strerror}; {flag} names another place",
              file=sys.stderr)  # fmt: skip
        return False
    return True


def read_config(workdir: pathlib.Path) -> ExperimentConfig:
    """Return the configuration of a run.

    Args:
        workdir: The working directory.

    Raises:
        ConfigError: If it is of another version of this program.
        WorkdirError: If there is no run.
    """
    try:
        values = json.loads((workdir / CONFIG_FILE).read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise WorkdirError(
            f"{workdir}: expected the working directory of a run: {error}"
        ) from error
    return experiment_config(values)


@contextlib.contextmanager
def open_finished(
    workdir: str | os.PathLike[str], *, dataset: str | None = None
) -> Iterator[tuple[Run, TrainState]]:
    """Open a finished run with its best checkpoint; nothing is locked or written.

    Args:
        workdir: The working directory; it may be of a file system that cannot be written.
        dataset: Where the run's data set lies, if not where it was.

    Yields:
        The run, and the state of its best checkpoint.

    Raises:
        CheckpointError: If it is not finished, or its checkpoints are damaged.
        ConfigError: If its configuration is of another version of this program.
        DatasetError: If its data set is not there.
        WorkdirError: If there is no run.
    """
    directory = pathlib.Path(workdir)
    config = read_config(directory)
    with open_run(config, directory, read_only=True, dataset=dataset) as run:
        yield run, restore_best(run)
