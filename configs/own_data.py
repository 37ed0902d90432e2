"""Kunlun on tables of your own, of which a data set has been built.

    kunlun-jax build --schema=my_schema.py --impressions=impressions.csv --events=views.csv
        --out=datasets/mine
    python train.py --config=configs/own_data.py:datasets/mine --workdir=runs/mine
    kunlun-jax train --config=own_data:datasets/mine --workdir=runs/mine    # the same, anywhere

What follows the colon is the directory of the data set. The model gets one stream for each of the
data set's, with histories as long as nine of ten in training are, rounded up, and at most MAX_LEN.
Give other sizes as flags (`--config.model.streams.view.max_len=512`), or write a file of your own:
`from kunlun_jax.configs import own_data`. Labels have a weight in the loss, 1 by default
(`--config.training.task_weights.purchase=5.0`).
"""

import pathlib

from ml_collections import ConfigDict

from kunlun_jax.configs import base
from kunlun_jax.data.manifest import MANIFEST, read_manifest, read_schema

MAX_LEN = 256  # events
COVERED = 0.9  # of the training examples have their whole history


def get_config(directory: str = "datasets/own_data") -> ConfigDict:
    """Return base with the streams of a data set.

    Args:
        directory: Directory of the data set.
    """
    config = base.get_config()
    config.data.source = "built"
    config.data.options = ConfigDict()
    config.data.directory = directory
    config.data.num_epochs = 1.0
    path = pathlib.Path(directory)
    if not (path / MANIFEST).exists():
        return config  # opening the data set will say what is missing
    within = read_manifest(path).get("histories_within", {})  # older data sets do not say
    config.model.streams = ConfigDict()
    schema = read_schema(path)
    config.training.task_weights = ConfigDict(dict.fromkeys(schema.labels, 1.0))
    config.model.count_features = bool(schema.cross)
    config.model.popularity_features = bool(schema.popularity)
    for stream in schema.streams:
        config.model.streams[stream.name] = base.stream(
            model_dim=32, num_heads=1, n_kv=16, n_tokens=4, n_seeds=8, num_layers=2, window=16,
            max_len=_max_len(within.get(stream.name, {}), stream.max_len), mlp_dim=32,
        )  # fmt: skip
    return config


def _max_len(within: dict[str, float | None], offered: int) -> int:
    """Return the least length within which are enough histories."""
    enough = [int(n) for n, share in within.items() if share is not None and share >= COVERED]
    return min([*enough, MAX_LEN, offered])
