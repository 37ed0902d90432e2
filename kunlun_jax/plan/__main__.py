"""What a training step needs on a machine, before there is one.

    python -m kunlun_jax.plan --config=configs/b200.py --machine=b200x8
    kunlun-jax plan --config=b200 --machine=b200x8    # the same, installed, from anywhere

Prints parameters, tables, bytes of state and batch on a device, operations by module, and the time
of a step at the least; needs neither data nor an accelerator. `--compile` compiles the very step
for the machine, and prints XLA's memory and collectives: for GPUs with the packages of
`pip install -e ".[aot]"`. Ends with exit code 1 where what is known does not fit.
"""

import dataclasses
import json
import pathlib
import sys

import jax
from absl import flags
from ml_collections import config_flags

from kunlun_jax.command_line import config_file, define_config, one_line, parse_flags, run_program
from kunlun_jax.config import ConfigError, experiment_config
from kunlun_jax.data.format import DatasetError
from kunlun_jax.data.schema import SchemaError
from kunlun_jax.plan import absent_gpu, report
from kunlun_jax.plan.compilation import compile_step
from kunlun_jax.plan.machines import DEVICES, machine
from kunlun_jax.plan.requirements import requirements
from kunlun_jax.plan.schemas import schema_of

CONFIG = define_config("config", "Config file, or the name of a ready one, such as b200.")
_MACHINE = flags.DEFINE_string(
    "machine", "b200x8", f"Of {', '.join(DEVICES)}; a number of devices may follow, as in b200x8."
)
_FRACTION = flags.DEFINE_float(
    "memory_fraction", None, "Share of a device's memory for JAX (XLA_CLIENT_MEM_FRACTION)."
)
_COMPILE = flags.DEFINE_bool("compile", False, "Also compile the step for that machine.")
_JSON = flags.DEFINE_string("json", None, "File for the numbers.")


def main(argv: list[str]) -> None:
    """Plan, and perhaps compile, what the flags describe."""
    del argv
    try:
        fits, line = plan()
    except absent_gpu.MissingPackagesError as error:
        sys.exit(f"error: --compile: expected pip install -e '.[aot]', got no {error}")
    except (ConfigError, DatasetError, SchemaError, OSError) as error:
        sys.exit(one_line(error))
    if not fits:
        sys.exit(f"error: {line}")
    print(line)


def plan() -> tuple[bool, str]:
    """Print the plan; return whether the step fits, and the line that says so."""
    target = machine(_MACHINE.value, memory_fraction=_FRACTION.value)
    config = experiment_config(CONFIG.value)
    name = config_flags.get_config_filename(flags.FLAGS["config"])
    schema = schema_of(config.data, config_file(name))
    if _COMPILE.value and target.device.gpu is not None:
        absent_gpu.require_packages()  # before JAX looks for devices
    else:
        jax.config.update("jax_platforms", "cpu")  # nothing runs: a GPU need not be taken
    needs, compiled = requirements(config, schema, target), None
    print(report.report(needs, config, target), end="\n\n", flush=True)
    record = {"config": name, "machine": target.name, "needs": needs}
    if _COMPILE.value:
        compiled = record["compiled"] = compile_step(config, schema, target)
        print(report.compiler_says(compiled), end="\n\n")
    if _JSON.value:
        text = json.dumps(record, indent=1, default=dataclasses.asdict)
        pathlib.Path(_JSON.value).write_text(text + "\n")
    return report.verdict(needs, target, compiled)


def _parse_flags(argv: list[str]) -> list[str]:
    return parse_flags(argv, CONFIG)


if __name__ == "__main__":
    run_program(main, _parse_flags)
