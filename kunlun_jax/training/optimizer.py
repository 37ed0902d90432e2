"""AdamW for dense parameters. Embedding tables have their own optimizer (`tables/adagrad.py`)."""

from typing import Any, NamedTuple

import jax
import optax

from kunlun_jax.config import OptimizerConfig
from kunlun_jax.shapes import Array


class OptimizerArguments(NamedTuple):
    """Settings that a compiled step takes as arguments: runs that differ in them share it.

    Attributes:
        learning_rate: Peak of AdamW.
        table_learning_rate: Peak of the tables' Adagrad.
        weight_decay: AdamW's decay of kernels.
    """

    learning_rate: float | Array
    table_learning_rate: float | Array
    weight_decay: float | Array

    @classmethod
    def of(cls, config: OptimizerConfig) -> "OptimizerArguments":
        """Take them from the settings."""
        return cls(config.learning_rate, config.table_learning_rate, config.weight_decay)


def schedule(config: OptimizerConfig, num_steps: int) -> optax.Schedule:
    """Return linear warm-up then cosine, as a factor of the peak learning rate in [0, 1].

    After the warm-up, a constant schedule stays at the peak.

    Args:
        config: Warm-up steps, kind, and final fraction.
        num_steps: Steps of the whole run; a constant schedule does not depend on it.
    """
    if config.schedule == "constant":
        start = 0.0 if config.warmup_steps else 1.0
        return optax.linear_schedule(start, 1.0, max(config.warmup_steps, 1))
    warmup = min(config.warmup_steps, max(num_steps - 1, 0))
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0 if warmup else 1.0,
        peak_value=1.0,
        warmup_steps=warmup,
        decay_steps=max(num_steps, warmup + 1),
        end_value=config.final_fraction,
    )


def dense_optimizer(
    config: OptimizerConfig, num_steps: int, arguments: OptimizerArguments | None = None
) -> optax.GradientTransformation:
    """Return clipping by global norm followed by AdamW; only kernels decay.

    Args:
        config: Rates and decays.
        num_steps: Steps of the whole run.
        arguments: Take the place of these settings; None: nothing does.
    """
    factor, given = schedule(config, num_steps), arguments or OptimizerArguments.of(config)
    adamw = optax.adamw(
        lambda step: given.learning_rate * factor(step),
        b1=config.b1,
        b2=config.b2,
        eps=config.eps,
        weight_decay=given.weight_decay,
        mask=lambda params: jax.tree_util.tree_map_with_path(_is_kernel, params),
    )
    if not config.clip_norm:
        return adamw
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), adamw)


def _is_kernel(path: tuple[Any, ...], parameter: Array) -> bool:
    """Return whether a parameter decays; stacked experts' biases have two axes, but do not."""
    return parameter.ndim >= 2 and not path[-1].key.endswith("bias")
