"""A study in two minutes, on synthetic data: does everything run? Its numbers mean nothing.

python -m kunlun_jax.scaling --study=configs/scaling/smoke.py
"""

from ml_collections import ConfigDict

from configs import base, smoke

DIMS = (4, 8, 12, 16)


def get_config() -> ConfigDict:
    """Return two families of four sizes, one seed, thirty steps a run."""
    study = ConfigDict()
    study.subject = "kunlun"
    study.seeds = (0,)
    study.learning_rate = ConfigDict({"reference_dim": 16, "exponent": 0.5})
    study.bootstrap = ConfigDict({"num_draws": 500, "confidence": 0.95, "seed": 0})
    study.families = ConfigDict()
    for name in ("kunlun", "din"):
        study.families[name] = ConfigDict({"sizes": tuple(size(name, dim) for dim in DIMS)})
    study.experiment = experiment()
    return study


def size(name: str, dim: int) -> dict[str, object]:
    """Return what a size of a family changes."""
    return {
        "model.name": name,
        "model.dim": dim,
        "model.head_dims": (2 * dim,),
        "model.streams.purchase.model_dim": dim,
        "model.streams.purchase.mlp_dim": dim,
    }


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
