"""Begin a run with another's weights on all devices of this process; writes its state."""

import dataclasses
import json
import pathlib
import sys

import jax
import numpy as np

from kunlun_jax.config import experiment_config
from kunlun_jax.training.run import open_run
from kunlun_jax.training.warm_start import WarmStart
from kunlun_jax.training.workdir import open_workdir


def main(config_file: str, source: str, directory: str) -> None:
    """Write `state.npz` into the directory of the run."""
    assert jax.device_count() == 8
    config = experiment_config(json.loads(pathlib.Path(config_file).read_text()))
    with open_workdir(directory, config) as workdir, open_run(config, workdir) as run:
        state = run.resume_or_initialize(WarmStart.of(workdir, source, "keep").state)
        assert any(not t.sharding.is_fully_replicated for t in state.tables.values())
        leaves = jax.tree_util.tree_leaves_with_path(dataclasses.asdict(jax.device_get(state)))
    np.savez(
        pathlib.Path(directory) / "state.npz",
        **{jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves},
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
