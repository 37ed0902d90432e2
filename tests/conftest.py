import dataclasses
import os

import hypothesis
import jax
import pytest

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("any_machine", deadline=None)
hypothesis.settings.load_profile("any_machine")


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    """Compile a program once, however small, and however many processes of the tests use it."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # of all workers
    directory = root / "compilations"
    directory.mkdir(exist_ok=True)
    settings = {
        "compilation_cache_dir": str(directory),
        "persistent_cache_min_compile_time_secs": 0.0,
    }
    for name, value in settings.items():
        jax.config.update(f"jax_{name}", value)
        os.environ[f"JAX_{name.upper()}"] = str(value)  # of the programs that tests start
    return directory


@pytest.fixture(scope="session")
def finished_runs(tmp_path_factory, compilation_cache):
    """Working directories of two runs that differ in their seed; the model compiles quickly."""
    del compilation_cache
    # Not above: what is imported before pytest is set up escapes jaxtyping's checks.
    from kunlun_jax.training.results import report_best
    from kunlun_jax.training.run import open_run
    from kunlun_jax.training.run_loop import run_loop
    from kunlun_jax.training.workdir import open_workdir
    from tests.training import tiny

    root = tmp_path_factory.mktemp("finished_runs")
    workdirs = []
    for seed in (0, 1):
        config = tiny.experiment(root / "data", **{"model.name": "din", "seed": seed})
        with (
            open_workdir(root / f"seed_{seed}", config) as workdir,
            open_run(config, workdir) as run,
        ):
            state, _ = run_loop(run, run.resume_or_initialize(), run.train_step())
            report_best(run, state)
        workdirs.append(workdir)
    return workdirs


@dataclasses.dataclass(frozen=True)
class WorldRun:
    """A finished run, and the tables that it was trained on."""

    workdir: object
    tables: object
    inputs: object
    dataset: object


@pytest.fixture(scope="session")
def world_run(tmp_path_factory, compilation_cache):
    """A run on tables with every corner: labels, weights, lists, hashed ids, a condition."""
    del compilation_cache
    return _trained_on_world(tmp_path_factory.mktemp("world_run"))


@pytest.fixture(scope="session")
def world_run_of_events(tmp_path_factory, compilation_cache):
    """The same without popularity, which a request does not tell."""
    del compilation_cache
    root = tmp_path_factory.mktemp("world_run_of_events")
    return _trained_on_world(root, {"model.popularity_features": False})


def _trained_on_world(root, changes=None):
    # Likewise.
    from configs import own_data
    from kunlun_jax.config import experiment_config
    from kunlun_jax.training.results import report_best
    from kunlun_jax.training.run import open_run
    from kunlun_jax.training.run_loop import run_loop
    from kunlun_jax.training.workdir import open_workdir
    from tests.data.cross_oracle import DAY
    from tests.data.own_data import world

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
            **(changes or {}),
        }
    )
    config = experiment_config(config)
    with open_workdir(root / "run", config) as workdir, open_run(config, workdir) as run:
        state, _ = run_loop(run, run.resume_or_initialize(), run.train_step())
        report_best(run, state)
    inputs = world.write_tables(root / "tables", tables)
    return WorldRun(workdir, tables, inputs, dataset)
