"""Searches settings: every trial is a run of its own, and Optuna proposes the next.

    kunlun-jax tune --config=base --workdir=runs/search --trials=20 \
        --search=optimizer.learning_rate=log:1e-3:1e-2 --search=model.dim=choice:16,32,64

`python -m kunlun_jax.tune` is the same command; docs/tuning.md has the forms of --search. The same
command goes on after a stop, with the trial that was under way, and with more --trials. Values that
all trials share are overridden as in --config.data.num_epochs=0.1.
"""

import pathlib
import sys

from absl import flags

from kunlun_jax.training.allocator import keep_freed_memory

keep_freed_memory()  # before anything large is allocated

from kunlun_jax.command_line import define_config, one_line, parse_flags, run_program  # noqa: E402
from kunlun_jax.config import ExperimentConfig, experiment_config  # noqa: E402
from kunlun_jax.training.run import USER_ERRORS  # noqa: E402
from kunlun_jax.tune.metric import Metric  # noqa: E402
from kunlun_jax.tune.space import Search, read_space  # noqa: E402

CONFIG = define_config("config", "Config file, or the name of a ready one, such as base.")
WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the search.", required=True)
TRIALS = flags.DEFINE_integer("trials", 20, "Trials in all, those of earlier starts included.", 1)
SEARCH = flags.DEFINE_multi_string(
    "search", [], "A setting to search and its range: NAME=log:LOW:HIGH, linear:, int:, choice:A,B."
)
SPACE = flags.DEFINE_string("space", None, "File of such settings, one a line.")
METRIC = flags.DEFINE_string(
    "metric", "normalized_entropy", "Of validation: such as auc_roc, or TASK/auc_roc of several."
)
PRUNER = flags.DEFINE_enum(
    "pruner", "median", ("median", "hyperband", "none"), "Which trials end at an evaluation."
)


def main(argv: list[str]) -> None:
    """Carry out what is left of the search, and show the best trials."""
    del argv
    try:
        config = experiment_config(CONFIG.value)
        file = pathlib.Path(SPACE.value) if SPACE.value else None
        space = read_space(config, SEARCH.value, file)
        _search(config, space)
    except USER_ERRORS as error:
        sys.exit(one_line(error))


def _search(config: ExperimentConfig, space: tuple[Search, ...]) -> None:
    # Not above: --help needs none of it, and the extra may be missing.
    try:
        from kunlun_jax.tune.results import ranking, summary
        from kunlun_jax.tune.trials import Plan, carry_out
    except ModuleNotFoundError as error:
        sys.exit(one_line(ImportError(f"{error}: pip install 'kunlun_jax[tune]'")))

    metric = Metric(METRIC.value)
    plan = Plan(config, space, metric, PRUNER.value)
    trials = carry_out(plan, pathlib.Path(WORKDIR.value), TRIALS.value)
    print(f"\n{summary(metric, trials)}", flush=True)
    if len(trials) < TRIALS.value:
        print("the search is not complete yet; the same command continues", flush=True)
    elif not ranking(metric, trials):
        sys.exit(f"error: expected a trial that is complete, got none of {len(trials)}")


if __name__ == "__main__":
    run_program(main, lambda argv: parse_flags(argv, CONFIG), quiet=True)
