"""A study in two minutes, on synthetic data: does everything run? Its numbers mean nothing.

python -m kunlun_jax.scaling --study=configs/scaling/smoke.py
"""

from ml_collections import ConfigDict

from kunlun_jax.configs import base, smoke
from kunlun_jax.configs.scaling import complete_journey

DIMS = (4, 8, 12, 16)


def get_config() -> ConfigDict:
    """Return two families of four sizes, one of one, and an ablation; thirty steps a run."""
    sizes = {name: DIMS for name in ("kunlun", "din")} | {"hstu": DIMS[-1:]}
    study = complete_journey.study(
        "Smoke",
        {
            name: tuple(complete_journey.size(name, dim, {"purchase": 1.0}) for dim in dims)
            for name, dims in sizes.items()
        },
        experiment(),
        {"comp_skip": complete_journey.ablation("neutral", comp_skip=False)},
    )
    study.seeds = (0,)
    return study


def experiment() -> ConfigDict:
    """Return what all runs share: the smoke test's data, fewer of them, and one stream."""
    config = smoke.get_config()
    config.data.options.update(
        num_users=100, num_items=50, num_train=960, num_validation=256, num_test=512,
        events_per_user=32, history_len=16,
    )  # fmt: skip
    config.data.directory = "datasets/synthetic_scaling_smoke"
    config.data.batch_size = 32
    config.data.num_epochs = 1.0
    config.model.num_layers = 1
    config.model.streams = ConfigDict()
    config.model.streams.purchase = base.stream(
        model_dim=16, num_heads=1, n_kv=4, n_tokens=2, n_seeds=4, num_layers=1, window=4,
        max_len=16, mlp_dim=16,
    )  # fmt: skip
    config.optimizer.warmup_steps = 5
    config.training.log_every = 10
    config.training.eval_every = 1000  # the end alone
    config.training.checkpoint_every = 15
    config.training.keep_checkpoints = 1
    return config
