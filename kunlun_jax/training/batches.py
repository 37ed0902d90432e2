"""The data of a run: its data set, and the batches that are drawn from it."""

import dataclasses
import pathlib

import numpy as np
from jax.sharding import Mesh

from kunlun_jax.config import ConfigError, ExperimentConfig
from kunlun_jax.data import Batch, BatchSource, Dataset, DatasetError, Schema
from kunlun_jax.data.batch import batch_shapes
from kunlun_jax.data.label_rates import training_rate
from kunlun_jax.data.opening import open_dataset
from kunlun_jax.hosts.processes import first_in_turn, gathered, together
from kunlun_jax.metrics.tasks import task_weights
from kunlun_jax.sharding import BatchShare, make_mesh, parts_held
from kunlun_jax.training.run_data import find_dataset, require_same_dataset


@dataclasses.dataclass(frozen=True)
class RunData:
    """The data of a run.

    Attributes:
        config: The experiment.
        dataset: The data set.
        label_rates: Weighted mean training label of every task; NE is relative to their entropy.
        task_weights: Weight of every task in the loss; None: all the same.
    """

    config: ExperimentConfig
    dataset: Dataset
    label_rates: list[float]
    task_weights: tuple[float, ...] | None

    @property
    def schema(self) -> Schema:
        """The data set's schema."""
        return self.dataset.schema

    @property
    def max_lens(self) -> dict[str, int]:
        """Events of each stream that the model reads."""
        return {stream.name: stream.max_len for stream in self.config.model.streams}

    @property
    def batch_shapes(self) -> Batch:
        """Shapes of a training batch, of all processes together."""
        return batch_shapes(self.schema, self.max_lens, self.config.data.batch_size)

    def num_steps(self, train_batches: BatchSource) -> int:
        """Return the steps of `config.data.num_epochs` passes over the training batches.

        Raises:
            ConfigError: If they are too many.
        """
        data = self.config.data
        steps = max(1, round(data.num_epochs * train_batches.epoch_size / data.batch_size))
        if steps >= 2**31:  # the state counts them in 32 bits
            raise ConfigError(f"config.data.num_epochs: expected < 2^31 steps, got {steps}")
        return steps

    def train_batches(self, mesh: Mesh | None) -> BatchSource:
        """Return the training batches, shuffled and without end; element i is that of step i + 1.

        Args:
            mesh: As of `eval_batches`.

        Raises:
            ConfigError: If periods meet several epochs, windows or parts; as `eval_batches`.
        """
        data = self.config.data
        if data.period_hours and (data.num_epochs > 1 or data.shuffle_window):
            raise ConfigError(
                "config.data.period_hours: expected one epoch at most, and no shuffle_window, got "
                f"{data.num_epochs:g} epochs and a shuffle_window of {data.shuffle_window}"
            )
        if data.period_hours and data.parts > 1:
            raise ConfigError(
                "config.data.period_hours: expected config.data.parts = 1, whose examples are in "
                f"one order of time, got {data.parts}"
            )
        return self._batches("train", data.batch_size, data.max_train_examples, mesh)

    def period_batches(self, within: np.ndarray, mesh: Mesh | None) -> BatchSource:
        """Return the batches of a period's training examples, to be evaluated, in order.

        Args:
            within: As `BatchSource.periods` gives it. Of more than config.data.max_eval_examples
                that many are drawn.
            mesh: As of `eval_batches`.
        """
        data = self.config.data
        return self._batches(
            "train", data.eval_batch_size, data.max_eval_examples, mesh, within=within
        )

    def eval_batches(self, split: str, mesh: Mesh | None, *, max_examples: int = 0) -> BatchSource:
        """Return the batches of a split, in order; all processes call this together.

        Args:
            split: "validation" or "test".
            mesh: Each batch is this process's share of it over these devices; None: the whole.
            max_examples: Only so many examples, drawn by config.data.seed; 0: all.

        Raises:
            ConfigError: If no example of a weight above 0 is among them.
        """
        assert split != "train", "the training batches have no end"
        return self._batches(split, self.config.data.eval_batch_size, max_examples, mesh)

    def _batches(
        self,
        split: str,
        batch_size: int,
        max_examples: int,
        mesh: Mesh | None,
        within: np.ndarray | None = None,
    ) -> BatchSource:
        seed, hours = self.config.data.seed, self.config.data.period_hours
        try:
            source = BatchSource(
                self.dataset,
                split=split,
                batch_size=batch_size,
                max_lens=self.max_lens,
                shuffle=split == "train" and within is None,
                seed=seed,
                max_examples=max_examples or None,
                shuffle_window=self.config.data.shuffle_window,
                period=max(1, round(3600 * hours)) if hours else 0,
                within=within,
                indices=None if mesh is None else BatchShare(mesh, batch_size).indices,
            )
        except ValueError as error:
            raise ConfigError(f"config.data: {error}") from error
        several_parts = self.dataset.num_parts > 1
        weights = gathered(source.weights) if several_parts else source.weights
        if within is None and not sum(weights.values()):
            raise ConfigError(
                f"config.data: split {split!r}: expected examples with a weight above 0, got none "
                f"among the {source.num_examples} that seed {seed} draws of it"
            )
        return source


def open_data(
    config: ExperimentConfig,
    workdir: pathlib.Path,
    *,
    read_only: bool = False,
    dataset: str | None = None,
) -> RunData:
    """Open the data of a run; all processes call this together.

    Args:
        config: The experiment.
        workdir: The working directory, which says what data set its run is of.
        read_only: Whether to build no data set that is missing.
        dataset: Where the data set of a run that is only read lies; by default where
            `find_dataset` finds it.

    Raises:
        ConfigError: If the configuration does not fit the data set.
        DatasetError: If there is no data set that can be trained on.
        WorkdirError: If the directory holds a run on another data set.
    """
    data = config.data
    held = parts_held(make_mesh(config.mesh), data.parts) if data.parts > 1 else (0,)
    if read_only:
        opened = Dataset.open(
            find_dataset(workdir, data.directory, dataset),
            columns_directory=data.columns_directory,
            verify=data.verify,
            num_parts=data.parts,
            held=held,
        )
    elif data.parts == 1:
        opened = first_in_turn(lambda: open_dataset(data))
    else:
        first_in_turn(lambda: open_dataset(data, held=()))  # built where it is missing
        with together():
            opened = open_dataset(data, held=held)
    if data.parts > 1:
        opened = opened.completed(gathered(opened.facts))
    require_same_dataset(workdir, opened)
    rates = _label_rates(opened)
    return RunData(config, opened, rates, task_weights(config.training, opened.schema.labels))


def _label_rates(dataset: Dataset) -> list[float]:
    """Return the weighted mean training label of every task."""
    train, directory = dataset.label_rates["train"], dataset.directory
    rates = [training_rate(train, task, directory) for task in dataset.schema.labels]
    for split in ("validation", "test"):
        if None in dataset.label_rates[split].values():
            raise DatasetError(
                f"{directory}: split {split!r}: expected examples with a weight above 0, got none "
                f"of {dataset.manifest['counts']['rows'][split]}; without any, NE is not defined"
            )
    return rates
