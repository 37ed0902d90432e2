r"""Kunlun and its peers on MovieLens-1M, every user's ratings split by time; one epoch.

    python -m kunlun_jax.scaling --study=configs/scaling/movielens_1m.py \
        --records=benchmarks/results/runs/movielens_1m

The models cost 8.4 to 9.2 million FLOPs an example, Kunlun the least.
"""

from ml_collections import ConfigDict

from configs import movielens_1m
from configs.scaling import complete_journey

DIMS = {"kunlun": 32, "interformer": 22, "wukong": 68, "din": 62, "hstu": 32, "tokenformer": 22}
STREAMS = {"like": 1.0, "dislike": 1.0}


def get_config() -> ConfigDict:
    """Return six families of one size."""
    return study("MovieLens-1M, split user_time", movielens_1m.get_config())


def study(title: str, experiment: ConfigDict) -> ConfigDict:
    """Return a study of the six models.

    Args:
        title: What the data are.
        experiment: What all runs share.
    """
    families = {name: (complete_journey.size(name, dim, STREAMS),) for name, dim in DIMS.items()}
    return complete_journey.study(title, families, experiment, {})
