"""The typed configuration, and the only place that reads a ConfigDict.

A file in `configs/` returns a `ConfigDict`; `experiment_config` turns it into frozen dataclasses
and refuses whatever does not fit. Everything below this file takes the dataclasses.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from kunlun_jax.config.model import CHOICES, ModelConfig, validate_model
from kunlun_jax.config.parsing import (
    free,
    naming_data,
    parse,
    require,
    require_numbers,
    settings_that_bind,
)

MAX_BATCH_SIZE = 2**24  # far beyond any use; what is above is a slip


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which data, and how it is fed.

    Attributes:
        source: Name of the data source.
        options: Options of the source, as (name, value) pairs.
        directory: Where the built data set lives; built there when it is missing.
        batch_size: Examples per step.
        eval_batch_size: Examples per evaluation step.
        num_epochs: Passes over the training examples; may be fractional.
        max_train_examples: Train on this many examples, drawn once by seed; 0: all.
        max_eval_examples: Evaluate on this many of each split during training; 0: all. The final
            evaluation always uses all.
        seed: Seed of shuffle and draws.
        prefetch: Batches made ahead of the step.
        num_threads: Threads that make batches.
    """

    source: str = naming_data("complete_journey")
    options: tuple[tuple[str, Any], ...] = naming_data(())
    directory: str = naming_data("datasets/complete_journey")
    batch_size: int = 512
    eval_batch_size: int = 1024
    num_epochs: float = 1.0
    max_train_examples: int = 0
    max_eval_examples: int = 0
    seed: int = 0
    prefetch: int = free(4)
    num_threads: int = free(1)


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW for dense parameters, row-wise Adagrad for embedding tables.

    Attributes:
        learning_rate: Peak of AdamW.
        table_learning_rate: Peak of the tables' Adagrad.
        warmup_steps: Steps of linear warm-up, of both.
        final_fraction: Learning rate at the end of the cosine, as a fraction of the peak.
        b1: AdamW's decay of the first moment.
        b2: AdamW's decay of the second moment.
        eps: AdamW's epsilon.
        weight_decay: AdamW's decay of kernels (not of biases and gains).
        clip_norm: Bound on the global norm of the dense gradient; 0: none.
        table_initial_accumulator: Start of Adagrad's sums.
        table_init_std: Standard deviation of the tables' initial rows.
        table_dtype: Type that tables are stored in: "float32"; or "bfloat16", half the memory,
            where an update rounds at random to one of the two neighbours, right on average.
    """

    learning_rate: float = 4e-3
    table_learning_rate: float = 0.03
    warmup_steps: int = 100
    final_fraction: float = 0.05
    b1: float = 0.9
    b2: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    table_initial_accumulator: float = 1e-8
    table_init_std: float = 0.1
    table_dtype: str = "float32"


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Cadences of the loop, in steps, and when it gives up.

    Attributes:
        log_every: Steps between two lines of training metrics.
        eval_every: Steps between two evaluations on the validation split.
        checkpoint_every: Steps between two checkpoints (an evaluation also writes one).
        keep_checkpoints: Best and latest checkpoints kept, of each this many.
        stop_after_skips: Updates in a row that are skipped for a NaN or an infinity before the run
            stops.
        log_effective_rank: Whether evaluations also measure the effective rank of the events'
            representation after every layer.
        task_weights: Weights >= 0 of the tasks in the loss and in the mean NE that decides which
            checkpoint is the best, as (name, weight) pairs; 1 for a task that is not named. Only
            their ratios matter.
    """

    log_every: int = free(50)
    eval_every: int = 500
    checkpoint_every: int = free(500)
    keep_checkpoints: int = free(2)
    stop_after_skips: int = free(10)
    log_effective_rank: bool = False
    task_weights: tuple[tuple[str, Any], ...] = ()


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """How many devices each axis of the mesh has; one of them may be -1, the rest.

    A run may go on with another mesh: that changes its numbers by rounding only.

    Attributes:
        data: Copies of the dense parameters; the batch is split over data * fsdp.
        fsdp: Devices that share one copy of dense parameters and their optimizer state.
        tensor: Devices that share heads and the widths of MLPs.
        expert: Devices that share the Wukong experts.
    """

    data: int = free(-1)
    fsdp: int = free(1)
    tensor: int = free(1)
    expert: int = free(1)


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """Everything one run needs.

    Attributes:
        seed: Seed of the parameters.
        data: Data.
        model: Model.
        optimizer: Optimizer.
        training: Cadences.
        mesh: Devices.
    """

    seed: int = 0
    data: DataConfig = DataConfig()
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    mesh: MeshConfig = MeshConfig()


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
    values = config.to_dict() if isinstance(config, ConfigDict) else config
    result = parse(ExperimentConfig, values, "config")
    require_numbers(result, "config")
    _validate_positive(result)
    _validate_ranges(result)
    validate_model(result.model)
    _validate_task_weights(result.training)
    require(
        result.optimizer.table_dtype in CHOICES["dtype"],
        "config.optimizer.table_dtype",
        f"one of {CHOICES['dtype']}",
        result.optimizer.table_dtype,
    )
    return result


def to_mapping(config: ExperimentConfig) -> dict[str, Any]:
    """Return the nested plain mapping that `experiment_config` accepts (for JSON)."""
    value = dataclasses.asdict(config)
    value["data"]["options"] = dict(config.data.options)
    value["model"]["table_dims"] = dict(config.model.table_dims)
    value["training"]["task_weights"] = dict(config.training.task_weights)
    value["model"]["streams"] = {s.pop("name"): s for s in value["model"]["streams"]}
    return value


def _validate_positive(config: ExperimentConfig) -> None:
    positive = {
        "data.batch_size": config.data.batch_size,
        "data.eval_batch_size": config.data.eval_batch_size,
        "data.num_epochs": config.data.num_epochs,
        "data.prefetch": config.data.prefetch,
        "data.num_threads": config.data.num_threads,
        "model.dim": config.model.dim,
        "model.num_layers": config.model.num_layers,
        "model.n_sum": config.model.n_sum,
        "model.pooling.rank": config.model.pooling.rank,
        "model.wukong.num_experts": config.model.wukong.num_experts,
        "model.wukong.fm_rank": config.model.wukong.fm_rank,
        "model.wukong.mlp_dim": config.model.wukong.mlp_dim,
        "model.wukong.num_tokens": config.model.wukong.num_tokens,
        "model.head_dims": min(config.model.head_dims, default=1),
        "model.rote.time_scale": config.model.rote.time_scale,
        "model.rote.base": config.model.rote.base,
        "model.rote.time_base": config.model.rote.time_base,
        "optimizer.learning_rate": config.optimizer.learning_rate,
        "optimizer.table_learning_rate": config.optimizer.table_learning_rate,
        "optimizer.eps": config.optimizer.eps,
        "optimizer.table_initial_accumulator": config.optimizer.table_initial_accumulator,
        "training.log_every": config.training.log_every,
        "training.eval_every": config.training.eval_every,
        "training.checkpoint_every": config.training.checkpoint_every,
        "training.keep_checkpoints": config.training.keep_checkpoints,
        "training.stop_after_skips": config.training.stop_after_skips,
    }
    for name, value in positive.items():
        require(value > 0, f"config.{name}", "> 0", value)


def _validate_task_weights(training: TrainingConfig) -> None:
    for name, weight in training.task_weights:
        is_weight = isinstance(weight, int | float) and not isinstance(weight, bool)
        is_weight = is_weight and math.isfinite(weight) and weight >= 0
        require(is_weight, f"config.training.task_weights.{name}", "a finite number >= 0", weight)


def _validate_ranges(config: ExperimentConfig) -> None:
    optimizer, data = config.optimizer, config.data
    at_least_zero = {
        "seed": config.seed,
        "data.seed": data.seed,
        "data.max_train_examples": data.max_train_examples,
        "data.max_eval_examples": data.max_eval_examples,
        "optimizer.warmup_steps": optimizer.warmup_steps,
        "optimizer.final_fraction": optimizer.final_fraction,
        "optimizer.weight_decay": optimizer.weight_decay,
        "optimizer.clip_norm": optimizer.clip_norm,
        "optimizer.table_init_std": optimizer.table_init_std,
    }
    for name, value in at_least_zero.items():
        require(value >= 0, f"config.{name}", ">= 0", value)
    for name, value in (("b1", optimizer.b1), ("b2", optimizer.b2)):
        require(0.0 <= value < 1.0, f"config.optimizer.{name}", "a fraction in [0, 1)", value)
    for name, value in (("batch_size", data.batch_size), ("eval_batch_size", data.eval_batch_size)):
        require(value <= MAX_BATCH_SIZE, f"config.data.{name}", f"<= {MAX_BATCH_SIZE}", value)
