"""The programs of the package, by name: `kunlun-jax NAME`, or `python -m kunlun_jax.NAME`."""

import runpy
import sys

from kunlun_jax.interrupts import end_at_once

# name: the module that runs, and what it does
PROGRAMS = {
    "build": ("kunlun_jax.data.build", "a data set, from tables of your own or a ready source"),
    "validate": ("kunlun_jax.data.validate", "a data set: what is wrong with it, and its card"),
    "train": ("kunlun_jax.train", "a model, or go on with it"),
    "predict": ("kunlun_jax.predict", "scores, of tables or of a split of the run's data set"),
    "serve": ("kunlun_jax.serve", "a run over HTTP: JSON in, scores out"),
    "export": ("kunlun_jax.export", "a run's model, for use without this package"),
    "audit": ("kunlun_jax.audit", "a finished run: against counting; without order, time, streams"),
    "compare": ("kunlun_jax.compare", "two finished runs on the same examples"),
    "report": ("kunlun_jax.report", "a finished run as a page of HTML, or two side by side"),
    "why": ("kunlun_jax.why", "what a run's scores depend on: importance of every input"),
    "plan": ("kunlun_jax.plan", "state, operations and memory of a training step on a machine"),
    "tune": ("kunlun_jax.tune", "settings: searches them, every trial a run of its own"),
    "study": ("kunlun_jax.scaling", "families of models, and the scaling law they follow"),
}
_USAGE = "usage: kunlun-jax COMMAND [flags]"
_EXAMPLE = """kunlun-jax COMMAND --help lists the flags of a command and shows an example. From own
tables to a trained model:

    kunlun-jax build --schema=my_schema.py --impressions=impressions.csv --events=views.csv \\
        --out=datasets/shop
    kunlun-jax train --config=own_data:datasets/shop --workdir=runs/shop"""


def run(name: str) -> None:
    """Run a program with the rest of the command line, as `python -m` runs its module.

    Args:
        name: A key of PROGRAMS.
    """
    runpy.run_module(PROGRAMS[name][0], run_name="__main__", alter_sys=True)


def main() -> None:
    """Run the program that the first argument names.

    Raises:
        SystemExit: Without one, or if there is no such program.
    """
    end_at_once()
    if len(sys.argv) < 2:
        sys.exit(f"error: expected a command, one of {', '.join(PROGRAMS)}; see kunlun-jax --help")
    name = sys.argv.pop(1)
    if name in ("--help", "-h", "help"):
        rows = "\n".join(f"  {key:10}{meaning}" for key, (_, meaning) in PROGRAMS.items())
        print(f"{_USAGE}\n\n{rows}\n\n{_EXAMPLE}")
    elif name in PROGRAMS:
        run(name)
    else:
        sys.exit(f"error: unknown command {name!r:.60}: expected one of {', '.join(PROGRAMS)}")
