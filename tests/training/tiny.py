"""The smallest experiment with every part of the model; the tests' config file.

python train.py --config=tests/training/tiny.py
"""

import pathlib

from ml_collections import ConfigDict

from configs import base, smoke
from kunlun_jax.config import ExperimentConfig, experiment_config

NUM_STEPS = 20


def get_config() -> ConfigDict:
    config = smoke.get_config()
    config.data.options.update(
        num_users=40,
        num_items=50,
        num_train=32 * NUM_STEPS,
        num_validation=200,
        num_test=150,
        events_per_user=16,
        history_len=8,
    )
    config.data.update(batch_size=32, eval_batch_size=64, num_epochs=1.0)
    config.model.dim = 8
    config.model.head_dims = (8,)
    config.model.streams = ConfigDict()
    config.model.streams.purchase = base.stream(
        model_dim=8, num_heads=1, n_kv=4, n_tokens=2, n_seeds=4, num_layers=2, window=2,
        max_len=8, mlp_dim=8,
    )  # fmt: skip
    config.optimizer.warmup_steps = 4
    config.training.update(log_every=1, eval_every=10, checkpoint_every=4, keep_checkpoints=1)
    return config


def experiment(directory: pathlib.Path, **changes: object) -> ExperimentConfig:
    """Return the experiment with its data set in a directory, and settings changed.

    experiment(tmp_path / "data", **{"data.batch_size": 16})
    """
    config = get_config()
    config.update_from_flattened_dict({"data.directory": str(directory), **changes})
    return experiment_config(config)
