"""A run on tables with every corner: several labels, weights, lists, hashed ids, a condition."""

import dataclasses

import pytest

from tests.data.cross_oracle import DAY
from tests.data.own_data import world


@dataclasses.dataclass(frozen=True)
class WorldRun:
    """A finished run, and the tables that it was trained on."""

    workdir: object
    tables: object
    inputs: object
    dataset: object


@pytest.fixture(scope="session")
def world_run(tmp_path_factory, compilation_cache):
    del compilation_cache
    from configs import own_data
    from kunlun_jax.config import experiment_config
    from kunlun_jax.training.results import report_best
    from kunlun_jax.training.run import open_run
    from kunlun_jax.training.run_loop import run_loop
    from kunlun_jax.training.workdir import open_workdir

    root = tmp_path_factory.mktemp("world_run")
    tables = world.make_tables(7, num_users=30, num_requests=600, num_events=400, stride=DAY)
    dataset = world.build(root, tables)
    config = own_data.get_config(str(root / "built"))
    config.update_from_flattened_dict(
        {
            "model.name": "din",
            "model.dim": 8,
            "model.head_dims": (8,),
            "data.batch_size": 32,
            "data.eval_batch_size": 64,
            "data.num_epochs": 2.0,
            "optimizer.warmup_steps": 4,
            "training.eval_every": 10,
        }
    )
    config = experiment_config(config)
    with open_workdir(root / "run", config) as workdir, open_run(config, workdir) as run:
        state, _ = run_loop(run, run.resume_or_initialize(), run.train_step())
        report_best(run, state)
    inputs = world.write_tables(root / "tables", tables)
    return WorldRun(workdir, tables, inputs, dataset)
