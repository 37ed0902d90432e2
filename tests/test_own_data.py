"""The worked example of docs/data.md: from CSV files to a checkpoint with two commands."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from configs import own_data
from kunlun_jax.config import experiment_config
from kunlun_jax.data import DatasetError
from kunlun_jax.training.run import open_dataset

ROOT = pathlib.Path(__file__).parents[1]
SHOP = pathlib.Path("tests") / "data" / "shop"
# The example's own sizes take minutes to compile on a busy machine; the parts are the same.
SMALL = (
    "--config.model.num_layers=1",
    "--config.model.dim=8",
    "--config.model.n_sum=2",
    "--config.model.head_dims=(8,)",
    "--config.model.pooling.rank=2",
    "--config.model.wukong.fm_rank=2",
    "--config.model.wukong.mlp_dim=8",
    "--config.model.streams.view.num_layers=1",
    "--config.model.streams.view.n_tokens=2",
    "--config.model.streams.view.n_seeds=4",
    "--config.model.streams.view.max_len=8",
    "--config.data.batch_size=32",
)


@pytest.fixture(scope="module")
def run(compilation_cache):
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(compilation_cache),
        "PYTHONPATH": str(ROOT),
    }

    def run(*command):
        return subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_from_csv_to_a_checkpoint_with_two_commands(run, tmp_path):
    built = run(
        "-m",
        "kunlun_jax.data.build",
        f"--schema={SHOP / 'my_schema.py'}",
        f"--impressions={SHOP / 'impressions.csv'}",
        f"--events={SHOP / 'views.csv'}",
        f"--out={tmp_path / 'shop'}",
    )
    assert built.returncode == 0, built.stderr
    assert json.loads(built.stdout)["rows"] == {"train": 320, "validation": 40, "test": 40}
    config = f"--config=configs/own_data.py:{tmp_path / 'shop'}"
    trained = run("train.py", config, f"--workdir={tmp_path / 'run'}", *SMALL)
    assert trained.returncode == 0, trained.stderr
    assert "best checkpoint: step 10" in trained.stdout
    assert list((tmp_path / "run" / "checkpoints").rglob("10"))


def test_the_schema_has_fewer_than_ten_lines():
    assert len((ROOT / SHOP / "my_schema.py").read_text().splitlines()) < 10


def test_without_a_data_set_the_run_says_so(tmp_path):
    config = experiment_config(own_data.get_config(str(tmp_path / "nowhere")))
    with pytest.raises(DatasetError, match="nowhere: no data set here"):
        open_dataset(config.data)
