"""Kunlun on tables of your own, of which a data set has been built.

    python -m kunlun_jax.data.build --schema=my_schema.py --impressions=impressions.csv
        --events=views.csv --out=datasets/mine
    python train.py --config=configs/own_data.py:datasets/mine --workdir=runs/mine

What follows the colon is the directory of the data set; the model gets one stream for each of the
data set's, with histories of at most 64 events. Give other sizes as flags
(`--config.model.streams.view.max_len=128`), or copy this file.
"""

import pathlib

from ml_collections import ConfigDict

from kunlun_jax.configs import base
from kunlun_jax.data.dataset import MANIFEST, read_schema

MAX_LEN = 64


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
    config.model.streams = ConfigDict()
    for stream in read_schema(path).streams:
        config.model.streams[stream.name] = base.stream(
            model_dim=32, num_heads=1, n_kv=16, n_tokens=8, n_seeds=16, num_layers=3, window=16,
            max_len=min(stream.max_len, MAX_LEN), mlp_dim=32,
        )  # fmt: skip
    return config
