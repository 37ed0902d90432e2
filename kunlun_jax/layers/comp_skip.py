"""CompSkip: which modules of which stream run in which layer (docs/model.md#compskip).

The schedule is static, a table of booleans; nothing in it depends on the input. A module that is
not scheduled is never built and has no parameters.
"""

import dataclasses

from kunlun_jax.config import ModelConfig, StreamConfig


@dataclasses.dataclass(frozen=True)
class LayerSchedule:
    """What one stream computes in one layer.

    Attributes:
        pffn: Personalised feed-forward block.
        attention: Sliding-window self-attention.
        pooling: Fresh seed pooling; otherwise the pooled tokens of the layer before are reused.
    """

    pffn: bool
    attention: bool
    pooling: bool


def stream_schedule(stream: StreamConfig, model: ModelConfig) -> tuple[LayerSchedule, ...]:
    """Return the schedule of a stream, one entry for every layer of the model.

    Layers count from 0: even layers run PFFN and pooling, odd layers attention. Beyond the
    stream's own `num_layers` nothing runs. Modules whose output reaches no logit, because no
    pooling reads it, are left out: they would be parameters without a gradient.

    Args:
        stream: The stream.
        model: The model it belongs to.
    """
    if stream.schedule:
        layers = [
            LayerSchedule(*(word in layer.split() for word in ("pffn", "attention", "pooling")))
            for layer in stream.schedule
        ]
    elif model.comp_skip:
        layers = [
            LayerSchedule(pffn=i % 2 == 0, attention=i % 2 == 1, pooling=i % 2 == 0)
            for i in range(stream.num_layers)
        ]
    else:
        layers = [LayerSchedule(True, True, True)] * stream.num_layers
    layers += [LayerSchedule(False, False, False)] * (model.num_layers - stream.num_layers)
    return _without_dead_modules(layers, model)


def _without_dead_modules(
    layers: list[LayerSchedule], model: ModelConfig
) -> tuple[LayerSchedule, ...]:
    live = []
    read_later = model.pooling.final_pooling
    for layer in reversed(layers):
        pools_pffn = layer.pooling and model.pooling.pool_from == "pffn"
        live.append(
            LayerSchedule(
                pffn=layer.pffn and (read_later or pools_pffn),
                attention=layer.attention and read_later,
                pooling=layer.pooling,
            )
        )
        read_later = read_later or layer.pooling
    return tuple(reversed(live))
