import os

import hypothesis
import jax
import pytest

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("any_machine", deadline=None)
hypothesis.settings.load_profile("any_machine")


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    """Compile a training step once, however many runs and processes of the tests use it."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # of all workers
    directory = root / "compilations"
    directory.mkdir(exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(directory))
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
