"""The typed configuration, and the only place that reads a ConfigDict.

A file in `configs/` returns a `ConfigDict`; `experiment_config` turns it into frozen dataclasses
and refuses whatever does not fit. Everything below this file takes the dataclasses.
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

# ml_collections has neither types nor stubs: what it returns is Any.
from ml_collections import ConfigDict  # pyright: ignore[reportMissingTypeStubs]

from kunlun_jax.config.earlier import in_current_form
from kunlun_jax.config.fields import (
    AxisSize,
    DecayRate,
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    at_most,
    free,
    group,
    naming_data,
    setting,
    settings_that_bind,
)
from kunlun_jax.config.model import DType, ModelConfig, validate_model
from kunlun_jax.config.parsing import parse

ScheduleName = Literal["cosine", "constant"]
SinkName = Literal["wandb", "mlflow"]
BatchSize = Annotated[PositiveInt, at_most(2**24)]  # far beyond any use; what is above is a slip


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which data, and how it is fed."""

    source: str = naming_data("complete_journey", "Name of the data source.")
    options: tuple[tuple[str, Any], ...] = naming_data((), "Options of the source, by name.")
    directory: str = naming_data(
        "datasets/complete_journey",
        "Directory of the built data set; built there when it is missing.",
    )
    columns_directory: str = free(
        "",
        "Directory of the data set's columns, which are made from its shards once; empty: the data "
        "set's own.",
    )
    verify: bool = free(
        True,
        "Whether the columns are compared with their checksums, behind the first steps and before "
        "anything is saved.",
    )
    batch_size: BatchSize = setting(256, "Examples of a step.")
    eval_batch_size: BatchSize = setting(1024, "Examples of an evaluation step.")
    num_epochs: PositiveFloat = setting(
        0.4, "Passes over the training examples; may be fractional."
    )
    max_train_examples: NonNegativeInt = setting(
        0, "Train on this many examples, drawn once by seed; 0: all."
    )
    max_eval_examples: NonNegativeInt = setting(
        20_480,
        "Evaluate on this many of each split during training; 0: all. The final evaluation always "
        "uses all.",
    )
    seed: NonNegativeInt = setting(0, "Seed of shuffle and draws.")
    shuffle_window: NonNegativeInt = setting(
        0,
        "Training examples that are shuffled together, read from storage in blocks of 1,024; 0: "
        "all.",
    )
    period_hours: NonNegativeFloat = setting(
        0.0,
        "Train on periods of so many hours in the order of time, shuffled within each, and "
        "evaluate each one before training on it; at most one epoch. 0: all are shuffled.",
    )
    parts: PositiveInt = setting(
        1,
        "Parts that the shards are dealt to; a process opens those of its own alone, and a batch "
        "has the same room for each. A multiple of the number of processes, and a divisor of both "
        "batch sizes. 1: every process opens the whole.",
    )
    prefetch: PositiveInt = free(4, "Batches made ahead of the step.")
    num_threads: PositiveInt = free(1, "Threads that make batches.")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW for dense parameters, row-wise Adagrad for embedding tables."""

    learning_rate: PositiveFloat = setting(3e-3, "Peak of AdamW.")
    table_learning_rate: PositiveFloat = setting(0.03, "Peak of the tables' Adagrad.")
    warmup_steps: NonNegativeInt = setting(100, "Steps of linear warm-up, of both.")
    schedule: ScheduleName = setting(
        "cosine",
        'After the warm-up: "cosine", down to the end of the run; or "constant", so that a run can '
        "be extended: a higher `data.num_epochs` goes on with it.",
    )
    final_fraction: Fraction = setting(
        0.05, "Learning rate at the end of the cosine, as a fraction of the peak."
    )
    b1: DecayRate = setting(0.9, "AdamW's decay of the first moment.")
    b2: DecayRate = setting(0.99, "AdamW's decay of the second moment.")
    eps: PositiveFloat = setting(1e-8, "AdamW's epsilon.")
    weight_decay: NonNegativeFloat = setting(
        0.01, "AdamW's decay of kernels (not of biases and gains)."
    )
    clip_norm: NonNegativeFloat = setting(
        1.0, "Bound on the global norm of the dense gradient; 0: none."
    )
    table_initial_accumulator: PositiveFloat = setting(1e-8, "Start of Adagrad's sums.")
    table_init_std: NonNegativeFloat = setting(
        0.1, "Standard deviation of the tables' initial rows."
    )
    table_dtype: DType = setting(
        "float32",
        'Type that tables are stored in: "float32"; or "bfloat16", half the memory, where an '
        "update rounds at random to one of the two neighbours, right on average. For GPUs: on a "
        "CPU an update passes over the whole table.",
    )


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Cadences of the loop, in steps, when it gives up, and what the tasks weigh."""

    log_every: PositiveInt = free(50, "Steps between two lines of training metrics.")
    eval_every: PositiveInt = setting(300, "Steps between two evaluations on the validation split.")
    checkpoint_every: PositiveInt = free(
        500, "Steps between two checkpoints (an evaluation also writes one)."
    )
    keep_checkpoints: PositiveInt = free(2, "Best and latest checkpoints kept, of each this many.")
    stop_after_skips: PositiveInt = free(
        10,
        "Updates in a row that are skipped for a NaN or an infinity before the run stops.",
    )
    patience: NonNegativeInt = free(
        0,
        "Evaluations in a row without a better validation NE after which the run ends; 0: it does "
        "not. With a higher one, a run that has ended goes on.",
    )
    log_effective_rank: bool = setting(
        False,
        "Whether evaluations also measure the effective rank of the events' representation after "
        "every layer.",
    )
    task_weights: tuple[tuple[str, NonNegativeFloat], ...] = setting(
        (),
        "By label: its weight in the loss and in the mean NE that decides which checkpoint is the "
        "best; 1 where it is not named. Only their ratios matter.",
    )


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """How many devices each axis of the mesh has; one of them may be -1, the rest.

    A run may go on with another mesh: that changes its numbers by rounding only.
    """

    data: AxisSize = free(
        -1, "Copies of the dense parameters; the batch is split over data * fsdp."
    )
    fsdp: AxisSize = free(
        1, "Devices that share one copy of dense parameters and their optimizer state."
    )
    tensor: AxisSize = free(1, "Devices that share heads and the widths of MLPs.")
    expert: AxisSize = free(1, "Devices that share the Wukong experts.")


@dataclasses.dataclass(frozen=True)
class TrackingConfig:
    """Where else the metrics of a run go; `metrics.jsonl` has all of them in any case."""

    sinks: tuple[SinkName, ...] = free(
        (),
        'Services that get every line: "wandb", Weights & Biases; "mlflow", MLflow. Where they '
        "are, their own environment variables say. What goes wrong with one is a warning.",
    )
    project: str = free("kunlun_jax", "Project in W&B, experiment in MLflow.")
    run_name: str = free("", "Name of the run there; empty: that of its working directory.")


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """Everything one run needs."""

    seed: NonNegativeInt = setting(0, "Seed of the parameters.")
    data: DataConfig = group(DataConfig)
    model: ModelConfig = group(ModelConfig)
    optimizer: OptimizerConfig = group(OptimizerConfig)
    training: TrainingConfig = group(TrainingConfig)
    mesh: MeshConfig = group(MeshConfig)
    tracking: TrackingConfig = group(TrackingConfig)


# What may change between two starts of one run; and what is compared by what it leads to.
FREE_SETTINGS = settings_that_bind(ExperimentConfig, "nothing")
DATA_SETTINGS = settings_that_bind(ExperimentConfig, "content")


def experiment_config(config: ConfigDict | Mapping[str, Any]) -> ExperimentConfig:
    """Turn the ConfigDict of a config file into a validated `ExperimentConfig`.

    Args:
        config: Nested mapping with exactly the fields of `ExperimentConfig`; the streams are a
            mapping from stream name to the other fields of `StreamConfig`.

    Raises:
        ConfigError: On an unknown or missing key, a wrong type or a value out of range.
    """
    values = cast("Any", config).to_dict() if isinstance(config, ConfigDict) else config
    result = parse(ExperimentConfig, in_current_form(values), "config")
    validate_model(result.model)
    return result


def to_mapping(config: ExperimentConfig) -> dict[str, Any]:
    """Return the nested plain mapping that `experiment_config` accepts (for JSON)."""
    value = dataclasses.asdict(config)
    value["data"]["options"] = dict(config.data.options)
    value["model"]["table_dims"] = dict(config.model.table_dims)
    value["training"]["task_weights"] = dict(config.training.task_weights)
    value["model"]["streams"] = {s.pop("name"): s for s in value["model"]["streams"]}
    return value
