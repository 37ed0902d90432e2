r"""Kunlun, its peers and its ablations on Complete Journey, all given the same cross features.

    python -m kunlun_jax.scaling --study=configs/scaling/complete_journey_cross.py \
        --records=benchmarks/results/runs/complete_journey_cross

Every model knows which events are of the candidate's ids, reads counts, ages and popularity, and
has a head that reads the context. They cost 6.0 to 6.7 million FLOPs an example.

The wiring is Figure 1's. Kunlun has the shape of configs/complete_journey.py, which was chosen on
validation (seed 0, before product lines): one layer, 64 wide, with streams half as wide and fewer
pooled tokens, had NE 0.7551; two layers, 56 wide, 0.7563; three layers, 32 wide, 0.7561. The peers
have one width for all, as wide as FLOPs allow, and three layers. Histories are as long as base's.
The first two ablations undo the figure.
"""

from typing import Any

from ml_collections import ConfigDict

from kunlun_jax.configs.scaling import complete_journey
from kunlun_jax.configs.scaling.complete_journey import STREAMS, ablation

PEERS = {"din": 56, "unidot": 30, "interformer": 22, "wukong": 54, "hstu": 30, "tokenformer": 22}

ABLATIONS = {
    "pool_events": ablation(pooling__pool_from="events"),
    "interact_summary": ablation(interaction_input="summary"),
    "head_without_context": ablation(head_context=False),
    "full_partition": ablation(wukong__partition="full"),
    "one_expert": ablation(wukong__num_experts=1),
    "no_final_pooling": ablation(pooling__final_pooling=False),
    "no_comp_skip": ablation("NE neutral", comp_skip=False),
    "random_start": ablation(init="random"),
}


def get_config() -> ConfigDict:
    """Return seven families of one size, and ablations; 131,000 examples a run."""
    families = {"kunlun": (kunlun(),)}
    families |= {n: (complete_journey.size(n, dim, STREAMS),) for n, dim in PEERS.items()}
    return complete_journey.study(
        "Complete Journey, with cross features", families, complete_journey.short(), ABLATIONS
    )


def kunlun() -> dict[str, Any]:
    """Return what Kunlun's shape changes of configs/base.py."""
    changes = complete_journey.size("kunlun", 64, {name: x / 2 for name, x in STREAMS.items()})
    changes["model.num_layers"] = 1
    for stream, num_tokens in (("purchase", 4), ("trip", 2), ("coupon", 2)):
        changes[f"model.streams.{stream}.num_layers"] = 1
        changes[f"model.streams.{stream}.n_tokens"] = num_tokens
        changes[f"model.streams.{stream}.n_seeds"] = 2 * num_tokens
    return changes
