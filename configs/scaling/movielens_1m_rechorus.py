r"""Kunlun and DIN, half an epoch, on ReChorus's split of MovieLens-1M, beside its own table.

    python -m kunlun_jax.scaling --study=configs/scaling/movielens_1m_rechorus.py \
        --records=benchmarks/results/runs/movielens_1m_rechorus

Without numbers (`model.use_dense`): the data set's running averages go on through the test period,
and two of them alone reach an AUC of 0.7955, above every published model, none of which sees them.
Histories do go on through the test period, here as there. DIN is in the published table as well and
ties this set-up to that one; the other peers stand in the study of the other split, and would take
all studies together beyond six hours of two CPU cores here.
"""

from ml_collections import ConfigDict

from kunlun_jax.configs import movielens_1m
from kunlun_jax.configs.scaling import complete_journey
from kunlun_jax.configs.scaling import movielens_1m as user_time


def get_config() -> ConfigDict:
    """Return two families of one size."""
    config = complete_journey.earlier_wiring(movielens_1m.get_config())
    config.data.num_epochs = 0.5
    config.data.options.split = "rechorus"
    config.data.directory = "datasets/movielens_1m_rechorus"
    config.model.use_dense = False
    title = "MovieLens-1M, ReChorus's split, without numbers"
    return user_time.study(title, config, ("kunlun", "din"))
