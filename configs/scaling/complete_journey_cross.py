r"""Kunlun, its peers and its ablations on Complete Journey, all given the same cross features.

    python -m kunlun_jax.scaling --study=configs/scaling/complete_journey_cross.py \
        --records=benchmarks/results/runs/complete_journey_cross

Every model knows which events are of the candidate's ids, reads counts, ages and popularity, and
has a head that reads the context: what configs/base.py has. Kunlun has the shape of that file, in
the wiring of Figure 1, and costs 9.0 million FLOPs an example; the peers are as wide as it takes to
cost 8.6 to 9.6. Of the ablations the first two undo the figure, the others ask again what was
decided with the earlier wiring.
"""

from ml_collections import ConfigDict

from kunlun_jax.configs.scaling import complete_journey
from kunlun_jax.configs.scaling.complete_journey import STREAMS, ablation, size

DIMS = {
    "kunlun": 32,
    "din": 52,
    "unidot": 28,
    "interformer": 18,
    "wukong": 58,
    "hstu": 24,
    "tokenformer": 20,
}

ABLATIONS = {
    "pool_events": ablation(pooling__pool_from="events"),
    "interact_summary": ablation(interaction_input="summary"),
    "head_without_context": ablation(head_context=False),
    "full_partition": ablation(wukong__partition="full"),
    "one_expert": ablation(wukong__num_experts=1),
    "no_final_pooling": ablation(pooling__final_pooling=False),
    "no_comp_skip": ablation("NE neutral", comp_skip=False),
    "gaps_to_request": ablation(rote__gaps="to_request"),
    "positions_only": ablation(rote__gaps="positions_only"),
    "random_start": ablation(init="random"),
}


def get_config() -> ConfigDict:
    """Return seven families of one size, and ablations; 131,000 examples a run."""
    families = {name: (size(name, dim, STREAMS),) for name, dim in DIMS.items()}
    return complete_journey.study(
        "Complete Journey, with cross features", families, complete_journey.short(), ABLATIONS
    )
