"""Kunlun on MovieLens-1M: does this person rate this film 4 or 5?

    python train.py --config=configs/movielens_1m.py --workdir=runs/movielens_1m

15 processor minutes (46 on two crowded CPU cores), final evaluation included; 800,000 examples;
test NE 0.782, AUC 0.809 (benchmarks/results/runs/movielens_1m/kunlun_seed0.json).

Put the files into `datasets/ml-1m` first, or name their place with
`--config.data.options.path=...`: GroupLens's `ratings.dat`, `users.dat`, `movies.dat`, or RecBole's
`ml-1m.inter`, `ml-1m.user`, `ml-1m.item`. GroupLens's licence allows research and forbids
redistribution.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """Return base with a stream of films that were liked and one of those that were not."""
    config = base.get_config()
    config.data.source = "movielens_1m"
    config.data.options = ConfigDict({"path": "datasets/ml-1m", "split": "user_time"})
    config.data.directory = "datasets/movielens_1m_user_time"
    config.data.num_epochs = 1.0
    config.model.dim = 48
    config.model.num_layers = 1
    config.model.head_dims = (192, 96)
    config.model.head_context = True
    config.model.wukong.mlp_dim = 96
    config.model.streams = ConfigDict()
    for name in ("like", "dislike"):
        config.model.streams[name] = base.stream(
            model_dim=24, num_heads=1, n_kv=16, n_tokens=4, n_seeds=8, num_layers=1, window=16,
            max_len=64, mlp_dim=24,
        )  # fmt: skip
    config.optimizer.table_learning_rate = 0.06
    return config
