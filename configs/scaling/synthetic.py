r"""Kunlun and DIN on synthetic data: do they scale towards the best NE, which is known?

    python -m kunlun_jax.scaling --study=configs/scaling/synthetic.py \
        --records=benchmarks/results/runs/synthetic

The law that is found again is planted by tests/scaling; here the data is, and with it the bound.
"""

from ml_collections import ConfigDict

from kunlun_jax.configs import synthetic
from kunlun_jax.configs.scaling import complete_journey

DIMS = {"kunlun": (8, 12, 16, 24), "din": (16, 24, 32, 40)}
STREAMS = {"purchase": 1.0, "click": 1.0, "view": 1.0}


def get_config() -> ConfigDict:
    """Return two families of four sizes, three seeds, one epoch of 100,000 examples a run."""
    config = complete_journey.earlier_wiring(synthetic.get_config())
    config.data.num_epochs = 1.0
    config.data.max_eval_examples = 4096
    config.training.eval_every = 1_000_000  # steps: the last one is evaluated in any case
    config.training.keep_checkpoints = 1
    families = {
        name: tuple(complete_journey.size(name, dim, STREAMS) for dim in dims)
        for name, dims in DIMS.items()
    }
    return complete_journey.study("Synthetic", families, config, {})
