r"""What Figure 1's wiring is worth on Complete Journey, and what rests on it; events alone.

    python -m kunlun_jax.scaling --study=configs/scaling/wiring.py \
        --records=benchmarks/results/runs/wiring

The model of configs/base.py, 131,000 examples a run, three seeds, one change each. The first three
changes undo the figure; the others ask again what was decided with the earlier wiring.
"""

from ml_collections import ConfigDict

from kunlun_jax.configs import base
from kunlun_jax.configs.scaling import complete_journey
from kunlun_jax.configs.scaling.complete_journey import ablation

ABLATIONS = {
    "pool_events": ablation(pooling__pool_from="events"),
    "interact_summary": ablation(interaction_input="summary"),
    "earlier_wiring": ablation(pooling__pool_from="events", interaction_input="summary"),
    "full_partition": ablation(wukong__partition="full"),
    "one_expert": ablation(wukong__num_experts=1),
    "no_final_pooling": ablation(pooling__final_pooling=False),
    "no_comp_skip": ablation(comp_skip=False),
    "head_context": ablation(head_context=True),
    "gaps_to_request": ablation(rote__gaps="to_request"),
    "positions_only": ablation(rote__gaps="positions_only"),
    "random_start": ablation(init="random"),
}


def get_config() -> ConfigDict:
    """Return one family of one size, and changes of it, three seeds each."""
    experiment = complete_journey.events_alone(base.get_config())
    experiment.data.num_epochs = 0.1
    experiment.training.eval_every = 1_000_000  # steps: the last one is evaluated in any case
    experiment.training.checkpoint_every = 200
    experiment.training.keep_checkpoints = 1
    families = {"kunlun": ({"model.name": "kunlun"},)}
    study = complete_journey.study("Complete Journey, wiring", families, experiment, ABLATIONS)
    study.ablation_seeds = study.seeds
    return study
