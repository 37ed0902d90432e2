"""The model of a run, as it is used: read from the working directory alone, and never written."""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from absl import logging

from kunlun_jax.config import ExperimentConfig
from kunlun_jax.data.batch import batch_shapes
from kunlun_jax.data.manifest import read_manifest
from kunlun_jax.data.metadata import read_vocabularies
from kunlun_jax.data.schema import Schema
from kunlun_jax.models.registry import create_model
from kunlun_jax.training.checkpoint_reader import CheckpointError, CheckpointReader, model_identity
from kunlun_jax.training.finished_run import read_config
from kunlun_jax.training.run_data import find_metadata


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained model, and what its inputs mean.

    Attributes:
        config: The experiment.
        schema: The schema, with the mean and std of every dense feature.
        metadata: Directory of the data set's dataset.json and of its vocabularies.
        manifest: The content of dataset.json.
        vocabularies: By vocabulary that was built from tables, its values; value i has id i + 1.
        step: Step of the checkpoint, the best one of the run.
        checksum: SHA-256 of what the checkpoint says of itself, of every array's checksum too.
        params: Dense parameters, on the default device.
        tables: Embedding tables, likewise.
    """

    config: ExperimentConfig
    schema: Schema
    metadata: pathlib.Path
    manifest: dict[str, Any]
    vocabularies: dict[str, list[str]]
    step: int
    checksum: str
    params: Any
    tables: Any

    @property
    def max_lens(self) -> dict[str, int]:
        """Events of each stream that the model reads."""
        return {stream.name: stream.max_len for stream in self.config.model.streams}

    @property
    def has_keys(self) -> bool:
        """Whether the data were tables, whose own keys stand for ids."""
        return self.manifest["source"]["name"] == "own_data"


def open_trained(workdir: str | os.PathLike[str], *, dataset: str | None = None) -> Trained:
    """Read the best checkpoint of a run; it need not be finished, and is not locked.

    Args:
        workdir: The working directory; it may be of a file system that cannot be written.
        dataset: Directory of the data set, of a run that an earlier version trained and that does
            not keep what of it is needed. Its shards are not read.

    Raises:
        CheckpointError: If there is no checkpoint, or it is damaged or of another configuration.
        ConfigError: If the configuration is of another version of this program.
        DatasetError: If schema and vocabularies are missing or damaged.
        OSError: If something cannot be read.
        WorkdirError: If there is no run.
    """
    directory = pathlib.Path(workdir)
    config = read_config(directory)
    metadata = find_metadata(directory, config.data.directory, dataset)
    manifest = read_manifest(metadata)
    schema = Schema.from_json(manifest["schema"])
    found = _best_checkpoint(directory, config, schema)
    assert found is not None, "no checkpoint is known yet"
    return Trained(
        config=config,
        schema=schema,
        metadata=metadata,
        manifest=manifest,
        vocabularies=read_vocabularies(metadata, manifest),
        **found,
    )


def open_newer(
    workdir: str | os.PathLike[str], trained: Trained, warn: Callable[[str], Any]
) -> Trained | None:
    """Read the best checkpoint of a run again; None if it is the one that is known.

    Args:
        workdir: The working directory.
        trained: The known one.
        warn: Is told what is wrong with checkpoints that cannot be ranked.

    Raises:
        CheckpointError: If the best one is damaged, there is none, or it is of another run.
        OSError: If something cannot be read.
    """
    directory = pathlib.Path(workdir)
    found = _best_checkpoint(directory, trained.config, trained.schema, trained.checksum, warn)
    return None if found is None else dataclasses.replace(trained, **found)


def _best_checkpoint(
    directory: pathlib.Path,
    config: ExperimentConfig,
    schema: Schema,
    known: str | None = None,
    warn: Callable[[str], Any] = lambda message: None,
) -> dict[str, Any] | None:
    """Return step, checksum, params and tables; None if the checksum is the known one."""
    identity = model_identity(config, schema)
    with _without_warnings():
        checkpoints = CheckpointReader(directory / "checkpoints", identity=identity)
        for error in checkpoints.damaged:
            warn(str(error))
        step = checkpoints.best_step
        if step is None:
            raise CheckpointError(
                f"{directory}: expected a checkpoint with a validation NE, got none"
            )
        checksum = checkpoints.checksum(step)
        if checksum == known:
            return None
        restored = checkpoints.restore_part(step, _shapes(config, schema))
    return {"step": step, "checksum": checksum, **restored}


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep the storage library from warning that nothing will be written."""
    level = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _shapes(config: ExperimentConfig, schema: Schema) -> dict[str, Any]:
    """Return the shapes of what a checkpoint has of the model, all on one device."""
    lengths = {stream.name: stream.max_len for stream in config.model.streams}
    model, batch = create_model(config, schema), batch_shapes(schema, lengths, 1)
    variables = nn.meta.unbox(jax.eval_shape(model.init, jax.random.key(0), batch))
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])

    def on_device(shape: Any, dtype: Any) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    return {
        "params": jax.tree.map(lambda x: on_device(x.shape, x.dtype), variables["params"]),
        "tables": {
            name: on_device(table.shape, jnp.dtype(config.optimizer.table_dtype))
            for name, table in variables["tables"]["embedding"].items()
        },
    }
