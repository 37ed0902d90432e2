r"""Kunlun and its peers on MovieLens-1M, every user's ratings split by time; half an epoch.

    python -m kunlun_jax.scaling --study=configs/scaling/movielens_1m.py \
        --records=benchmarks/results/runs/movielens_1m

The models cost 4.0 to 4.8 million FLOPs an example, Kunlun the least. Kunlun has the shape of
configs/movielens_1m.py, which was chosen on validation; the peers have three layers. With a
single one, as Kunlun has, and wider for as many FLOPs, InterFormer loses 0.0009 of validation AUC
and Wukong gains 0.0007, where it is 0.005 behind (half an epoch, seed 0). What is no part of the
trunk is the same for all: tables, their learning rate, the scale of time, the head that reads the
context. At 0.4 epochs Kunlun gained 0.003 of validation AUC by that head, and DIN lost 0.0005; the
scale of time gave Kunlun 0.004 and InterFormer 0.0003.
"""

from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

from kunlun_jax.configs import movielens_1m
from kunlun_jax.configs.scaling import complete_journey

DIMS = {"kunlun": 48, "interformer": 14, "wukong": 54, "din": 48, "hstu": 20, "tokenformer": 16}
STREAMS = {"like": 0.5, "dislike": 0.5}
PEER_LAYERS = 3


def get_config() -> ConfigDict:
    """Return six families of one size."""
    experiment = complete_journey.earlier_wiring(movielens_1m.get_config())
    experiment.data.num_epochs = 0.5
    return study("MovieLens-1M, split user_time", experiment)


def study(title: str, experiment: ConfigDict, names: Iterable[str] = tuple(DIMS)) -> ConfigDict:
    """Return a study of models of one size.

    Args:
        title: What the data are.
        experiment: What all runs share.
        names: The models.
    """
    experiment.training.eval_every = 1_000_000  # steps: the last one is evaluated in any case
    experiment.training.keep_checkpoints = 1
    families = {name: (_size(name, DIMS[name]),) for name in names}
    return complete_journey.study(title, families, experiment, {})


def _size(name: str, dim: int) -> dict[str, Any]:
    size = complete_journey.size(name, dim, STREAMS)
    return size if name == "kunlun" else {**size, "model.num_layers": PEER_LAYERS}
