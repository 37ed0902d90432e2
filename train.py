"""Trains a model, or goes on with it.

    python train.py --config=configs/base.py --workdir=runs/base
    kunlun-jax train --config=base --workdir=runs/base    # the same, installed, from anywhere

Running the same command again resumes; values are overridden as in --config.data.batch_size=256.
"""

import pathlib
import sys

from absl import flags
from ml_collections import config_flags

from kunlun_jax.interrupts import end_at_once
from kunlun_jax.training.allocator import keep_freed_memory

if __name__ == "__main__":
    end_at_once()  # before imports that take seconds
keep_freed_memory()  # before anything large is allocated

import jax  # noqa: E402

from kunlun_jax.command_line import define_config, one_line, parse_flags, run_program  # noqa: E402
from kunlun_jax.config import ExperimentConfig, experiment_config  # noqa: E402
from kunlun_jax.hosts.processes import Options, connected  # noqa: E402
from kunlun_jax.metrics.scores import Scores  # noqa: E402
from kunlun_jax.models.registry import create_model  # noqa: E402
from kunlun_jax.report.writing import end_with_report  # noqa: E402
from kunlun_jax.training.batches import open_data  # noqa: E402
from kunlun_jax.training.profiling import Window, profiled  # noqa: E402
from kunlun_jax.training.progressive import progressive_summary  # noqa: E402
from kunlun_jax.training.results import report_best  # noqa: E402
from kunlun_jax.training.run import USER_ERRORS, Run  # noqa: E402
from kunlun_jax.training.run_loop import run_loop  # noqa: E402
from kunlun_jax.training.summary import kernels_line  # noqa: E402
from kunlun_jax.training.warm_start import OPTIMIZERS, TABLES, WarmStart, described  # noqa: E402
from kunlun_jax.training.workdir import open_workdir  # noqa: E402

CONFIG = define_config("config", "Config file, or the name of a ready one, such as base.")
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of the run; by default runs/<name of the config file>."
)
INIT_FROM = flags.DEFINE_string(
    "init_from", None, "Directory of a finished run, whose weights this one begins with."
)
INIT_OPTIMIZER = flags.DEFINE_enum(
    "init_optimizer", "fresh", OPTIMIZERS, "Whether it takes the optimizers' state too."
)
INIT_TABLES = flags.DEFINE_enum(
    "init_tables", "keep", TABLES, "Whether it takes the embedding tables; fresh for a second pass."
)
PROFILE_STEPS = flags.DEFINE_string(
    "profile_steps", None, "Steps to trace, START:STOP, into `profile` in the workdir."
)
# Of several processes; under SLURM, Open MPI and Kubernetes they know each other without.
COORDINATOR = flags.DEFINE_string("coordinator", None, "Host and port of process 0.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Processes of this run.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this one is, from 0.")
START_TIMEOUT = flags.DEFINE_integer("start_timeout", 300, "Seconds to wait for all of them.")
HEARTBEAT_TIMEOUT = flags.DEFINE_integer(
    "heartbeat_timeout", 100, "Seconds of silence after which one of them counts as lost."
)


def main(argv: list[str]) -> None:
    """Train, or resume, the run that the flags describe, and report its best checkpoint."""
    del argv
    try:
        config = experiment_config(CONFIG.value)
        window = Window.of(PROFILE_STEPS.value)
        with (
            connected(_processes(), expected=USER_ERRORS),
            open_workdir(WORKDIR.value or _default_workdir(), config) as workdir,
        ):
            start = WarmStart.of(workdir, INIT_FROM.value, INIT_OPTIMIZER.value, INIT_TABLES.value)
            train(config, workdir, start, window)
    except USER_ERRORS as error:
        sys.exit(one_line(error))


def train(
    config: ExperimentConfig, workdir: pathlib.Path, start: WarmStart, window: Window | None
) -> None:
    """Run the experiment in a working directory.

    Args:
        config: The experiment.
        workdir: Where checkpoints and metrics go, and are found again.
        start: Whose weights the run begins with.
        window: The steps to trace.
    """
    print(f"jax {jax.__version__} on {jax.devices()}", flush=True)
    print(kernels_line(config.model), flush=True)
    data = open_data(config, workdir)  # built first where it is missing
    model = create_model(config, data.schema)
    with Run(config, workdir, data, model) as run:  # the devices and the checkpoints
        print(run.summary(), flush=True)
        state = run.resume_or_initialize(start.state)  # and the training batches stand at its step
        if described(workdir):  # what it took of another run
            print(described(workdir), flush=True)
        steps = {"taken": int(state.step), "num_steps": run.num_steps}
        with profiled(run.train_step(), window, workdir, **steps) as train_step:
            state, complete = run_loop(run, state, train_step)
        print(run.goodput.line(), flush=True)
        if complete:
            predictions: dict[str, Scores] = {}
            print(report_best(run, state, predictions=predictions), flush=True)
            if config.data.period_hours:
                print(f"\n{progressive_summary(workdir)}", flush=True)
            end_with_report(run, predictions["test"])
        else:
            print(f"stopped and saved at step {int(state.step)}; the same command continues")


def _processes() -> Options:
    return Options(
        coordinator=COORDINATOR.value,
        num_processes=NUM_PROCESSES.value,
        process_id=PROCESS_ID.value,
        start_timeout=START_TIMEOUT.value,
        heartbeat_timeout=HEARTBEAT_TIMEOUT.value,
    )


def _default_workdir() -> pathlib.Path:
    last = pathlib.Path(config_flags.get_config_filename(flags.FLAGS["config"])).name
    return pathlib.Path("runs") / pathlib.Path(last.partition(":")[0]).stem


def _parse_flags(argv: list[str]) -> list[str]:
    return parse_flags(argv, CONFIG)


if __name__ == "__main__":
    run_program(main, _parse_flags, quiet=True)
