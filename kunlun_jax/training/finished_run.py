"""A run that train.py has finished, opened again from its working directory alone."""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator

from kunlun_jax.config import experiment_config
from kunlun_jax.training.run import Run
from kunlun_jax.training.step import TrainState
from kunlun_jax.training.workdir import CONFIG_FILE, WorkdirError, open_workdir


@contextlib.contextmanager
def open_finished(workdir: str | os.PathLike[str]) -> Iterator[tuple[Run, TrainState]]:
    """Open a finished run with its best checkpoint.

    Args:
        workdir: The working directory; nobody else may use it meanwhile.

    Yields:
        The run, and the state of its best checkpoint.

    Raises:
        CheckpointError: If it is not finished, or its checkpoints are damaged.
        ConfigError: If its configuration is of another version of this program.
        DatasetError: If its data set is not there.
        WorkdirError: If there is no run, or it is in use.
    """
    directory = pathlib.Path(workdir)
    try:
        values = json.loads((directory / CONFIG_FILE).read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise WorkdirError(
            f"{directory}: expected the working directory of a run: {error}"
        ) from error
    config = experiment_config(values)
    with open_workdir(directory, config), Run(config, directory) as run:
        yield run, run.restore_best()
