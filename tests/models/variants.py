"""Configurations that between them turn on every option that ships, and one of every peer.

Most have one stream and one layer that runs everything, which is quick to compile.
"""

import dataclasses
from typing import Any

from kunlun_jax.config import ModelConfig
from tests import factories

BUY, VIEW = factories.BUY, factories.VIEW


def one_layer(*, stream: dict[str, Any] | None = None, **changes: Any) -> ModelConfig:
    """Return a configuration of one stream and one layer without CompSkip."""
    buy = dataclasses.replace(BUY, num_layers=1, n_tokens=3, **(stream or {}))
    return factories.config(streams=(buy,), num_layers=1, comp_skip=False, **changes)


# A peer has as many layers as the model, and no stream with fewer.
STREAMS = tuple(dataclasses.replace(stream, num_layers=2) for stream in (BUY, VIEW))
VARIANTS = {
    "default": factories.config(
        streams=(dataclasses.replace(BUY, num_layers=2), dataclasses.replace(VIEW, num_layers=1)),
        num_layers=2,
    ),
    "mlp_and_pma": one_layer(
        gdpa={"pffn": "mlp"},
        pooling={"pooling": "pma"},
        allocation="uniform",
        wukong={"partition": "contiguous"},
        rote={"gaps": "to_request", "learnable": True},
    ),
    "linear_and_full_experts": one_layer(
        gdpa={"pffn": "linear"},
        attention="full",
        wukong={"partition": "full", "fm_fraction": 0.3},
        rote={"gaps": "positions_only", "learnable": True},
    ),
    "no_final_pooling": factories.config(
        streams=(dataclasses.replace(BUY, n_tokens=3),),
        pooling={"final_pooling": False},
        gdpa={"temperature": "outside"},
        init="random",
        match_attributes=False,
        use_dense=False,
    ),
    "head_of_the_trunk": one_layer(head_context=False),
    "uneven_widths": one_layer(
        table_dims=(("brand", 3), ("item", 12)),
        gdpa={"temperature": "none", "activation": ("gelu", "silu")},
        pooling={"use_sum_kron": False},
        wukong={"num_experts": 1, "fm_fraction": 0.0},
        rote={"learnable": True},
    ),
    # As before Figure 1 was known, and in the records of docs/results.md.
    "earlier_wiring": one_layer(interaction_input="summary", pooling={"pool_from": "events"}),
    "interaction_without_a_summary": one_layer(
        stream={"schedule": ("pooling attention",)},
        wukong={"fm_fraction": 1.0},
        head_dims=(),
    ),
}
PEERS = {
    name: factories.config(
        name=name, num_layers=2, streams=STREAMS, table_dims=(("item", 12), ("tag", 5))
    )
    for name in ("wukong", "interformer", "din", "hstu", "tokenformer", "unidot")
}
