"""Kunlun and its peers on Complete Journey, at sizes that two CPU cores manage.

    python -m kunlun_jax.scaling --study=configs/scaling/complete_journey.py --max-minutes=25

An estimated three hours on two idle CPU cores (from the time of single steps), sixty runs; a GPU
needs no other command.

Sizes rise in width alone: everything that has a width is proportional to `dim`, histories and
numbers of tokens and layers are those of configs/base.py. The widths of the families are chosen to
end at the same FLOPs, about 10 million an example, and to begin as low as 1 to 2, because where a
curve flattens its slope depends on where it is looked at. The tables are as wide as the model.
"""

from ml_collections import ConfigDict

from configs import base

DIMS = {
    "kunlun": (8, 12, 16, 24, 32),
    "interformer": (6, 8, 12, 16, 20),
    "wukong": (16, 24, 32, 48, 64),
    "din": (16, 24, 32, 40, 56),
}


def get_config() -> ConfigDict:
    """Return four families of five sizes, three seeds, 262,000 examples a run."""
    study = ConfigDict()
    study.subject = "kunlun"
    study.seeds = (0, 1, 2)
    study.learning_rate = ConfigDict({"reference_dim": 32, "exponent": 0.5})
    study.bootstrap = ConfigDict({"num_draws": 2000, "confidence": 0.95, "seed": 0})
    study.families = ConfigDict()
    for name, dims in DIMS.items():
        study.families[name] = ConfigDict({"sizes": tuple(size(name, dim) for dim in dims)})
    study.experiment = experiment()
    return study


def size(name: str, dim: int) -> dict[str, object]:
    """Return what a size of a family changes.

    Args:
        name: The family.
        dim: Width, even.
    """
    changes: dict[str, object] = {
        "model.name": name,
        "model.dim": dim,
        "model.head_dims": (4 * dim, 2 * dim),
        "model.wukong.mlp_dim": 2 * dim,
        "model.din.attention_dims": (dim, dim // 2),
        "model.tokenformer.ffn_dim": 2 * dim,
    }
    half = 2 * (dim // 4)  # even, as the rotation of attention needs it
    for stream, width in (("purchase", dim), ("trip", half), ("coupon", half)):
        changes[f"model.streams.{stream}.model_dim"] = width
        changes[f"model.streams.{stream}.mlp_dim"] = width
    return changes


def experiment() -> ConfigDict:
    """Return what all runs share: the base experiment, evaluated at its end alone."""
    config = base.get_config()
    config.data.num_epochs = 0.2
    config.training.eval_every = 1_000_000  # steps: the last one is evaluated in any case
    config.training.checkpoint_every = 200
    config.training.keep_checkpoints = 1
    return config
