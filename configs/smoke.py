"""A minute on synthetic data: does everything run?

python train.py --config=configs/smoke.py --workdir=runs/smoke
"""

from ml_collections import ConfigDict

from kunlun_jax.configs import base, synthetic


def get_config() -> ConfigDict:
    """Return a model small in everything but its kinds of parts: all of them are there."""
    config = synthetic.get_config()
    config.data.options.update(
        num_users=500, num_items=500, num_categories=10, num_train=32_000, num_validation=4_000,
        num_test=8_000, events_per_user=64, history_len=32,
    )  # fmt: skip
    config.data.directory = "datasets/synthetic_smoke"
    config.data.batch_size = 256
    config.data.num_epochs = 2.0

    config.model.dim = 16
    config.model.num_layers = 2
    config.model.n_sum = 4
    config.model.head_dims = (32,)
    config.model.pooling.rank = 4
    config.model.wukong.fm_rank = 4
    config.model.wukong.mlp_dim = 16
    config.model.streams = ConfigDict()
    for name in ("purchase", "click", "view"):
        config.model.streams[name] = base.stream(
            model_dim=16, num_heads=2, n_kv=8, n_tokens=4, n_seeds=8, num_layers=2, window=8,
            max_len=32, mlp_dim=16,
        )  # fmt: skip
    config.optimizer.warmup_steps = 20
    config.training.log_every = 25
    config.training.eval_every = 125
    config.training.checkpoint_every = 50
    return config
