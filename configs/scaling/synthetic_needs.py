r"""Kunlun and its peers on synthetic data in which the order and the times of events matter.

    python -m kunlun_jax.scaling --study=configs/scaling/synthetic_needs.py \
        --records=benchmarks/results/runs/synthetic_needs

A purchase answers a need that returns after the period of its category, and calls for the category
that follows (`kunlun_jax/data/sources/synthetic_labels.py`): who forgets when events were, or in
which order, cannot know these. The best NE is known. Every model sees which events match the
candidate, and no counts. All families cost about 6.3 million (6.1 to 6.6) FLOPs an example.
"""

from ml_collections import ConfigDict

from kunlun_jax.configs import synthetic
from kunlun_jax.configs.scaling import complete_journey

DIMS = {
    "kunlun": 44, "din": 52, "unidot": 28, "interformer": 14, "wukong": 74, "hstu": 24,
    "tokenformer": 14,
}  # fmt: skip
STREAMS = {"purchase": 0.5, "click": 0.5, "view": 0.5}  # of Kunlun, as shares of its width


def get_config() -> ConfigDict:
    """Return seven families of one size, three seeds, one epoch of 100,000 examples a run."""
    config = synthetic.get_config()
    config.data.directory = "datasets/synthetic_needs"
    config.data.options.num_categories = 20  # each follows another, and has a period, to be learned
    config.data.options.need_weight = 3.0
    config.data.options.transition_weight = 3.0
    config.data.num_epochs = 1.0
    config.model.num_layers = 2  # the fewest in which every part of the figure acts
    for stream in STREAMS:
        config.model.streams[stream].num_layers = 2
    config.data.max_eval_examples = 4096
    config.training.eval_every = 1_000_000  # steps: the last one is evaluated in any case
    config.training.keep_checkpoints = 1
    families = {n: (complete_journey.size(n, dim, STREAMS),) for n, dim in DIMS.items()}
    return complete_journey.study("Synthetic, with needs", families, config, {})
