"""The commands of README.md and of docs/start.md.

All of them are read: what they name exists, and the program knows their flags. Those of `FOLLOWED`
are run too, page by page and in order, each page in a fresh environment and an empty directory,
from a wheel; the rest is named below, with the reason. It takes some ten minutes and needs a
package index:

    pytest -m slow tests/test_commands.py
"""

import ast
import contextlib
import importlib
import importlib.util
import json
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
import tomllib
import urllib.request

import pytest

from kunlun_jax.command_line import CONFIGS, STUDIES, config_file
from kunlun_jax.programs import PROGRAMS
from tests.documents import ROOT, shell_lines
from tests.test_own_data import SMALL
from tests.wheels import build_wheel, copy_example, fresh_environment, run

PAGES = ("docs/start.md", "README.md")
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
TABLES = "--schema=my_schema.py --impressions=impressions.csv --events=views.csv"

# What is appended to a command, so that it takes seconds instead of minutes.
A_FIFTH = ("--config.data.num_epochs=0.4",)
FEW_ROWS = ("--config.data.options.num_negatives=1",)
FEW_STEPS = (
    *FEW_ROWS,
    "--config.data.num_epochs=0.005",
    "--config.data.max_eval_examples=1024",
    "--config.model.num_layers=1",
    *(f"--config.model.streams.{name}.num_layers=1" for name in ("purchase", "trip", "coupon")),
    "--config.model.streams.purchase.max_len=8",
)
FEW_EXAMPLES = ("--max_examples=1000", "--resamples=20")
FOLLOWED = {
    'pip install -e ".[own-data]"': (),
    'pip install -e ".[data]"': (),
    'pip install -e ".[serve,export]"': (),
    'pip install -e ".[audit,plot]"': (),
    "python train.py --config=configs/smoke.py --workdir=runs/smoke": A_FIFTH,
    f"kunlun-jax build {TABLES} --out=datasets/shop": (),
    "kunlun-jax validate datasets/shop": (),
    "kunlun-jax train --config=own_data:datasets/shop --workdir=runs/shop": SMALL,
    "kunlun-jax predict --run=runs/shop --impressions=impressions.csv --events=views.csv "
    "--out=scores.csv": (),
    "kunlun-jax predict --run=runs/shop --impressions=impressions.csv --events=views.csv "
    "--out=scores.parquet": (),
    "kunlun-jax serve --run=runs/shop --port=8000": (),
    "kunlun-jax export --run=runs/shop --out=exported": (),
    "python train.py --config=configs/base.py": FEW_STEPS,
    "python train.py --config=configs/base.py --workdir=runs/base": FEW_STEPS,
    "python train.py --config=configs/base.py --workdir=runs/wide --config.model.dim=96 "
    "--config.optimizer.learning_rate=2e-3": FEW_STEPS,
    "pip install tensorboard": (),
    "tensorboard --logdir=runs": (),
    "kunlun-jax audit --workdir=runs/base": ("--rounds=2", *FEW_EXAMPLES),
    "kunlun-jax compare runs/base runs/wide": ("--resamples=20",),
    "kunlun-jax report runs/base runs/wide": ("--resamples=20",),
    "kunlun-jax why --run=runs/base": FEW_EXAMPLES,
    "kunlun-jax study --study=complete_journey --max-minutes=25": (
        "--study.experiment.data.options.num_negatives=1",
        "--max-minutes=0.1",
    ),
    "kunlun-jax plan --config=b200 --machine=b200x8": (),
}
# What answers, and where.
SERVERS = {"kunlun-jax serve": "/readyz", "tensorboard": "/"}
ELSEWHERE = {
    'pip install -e ".[test]"': "with every extra; .ci/run",
    "pytest": "these tests; .ci/run",
    'pip install -e ".[beam]"': "older versions of some packages; .ci/run has it apart",
    "python train.py --config=... --workdir=/shared/run --coordinator=HOST0:1234 "
    "--num_processes=4 --process_id=0": "several hosts; tests/faults/test_processes.py",
    "python train.py --config=configs/base.py --workdir=runs/base "
    "--profile_steps=101:110": "the run above has fewer steps; tests/training/test_profiling.py",
    "kunlun-jax tune --config=base --workdir=runs/search --trials=20 "
    "--search=optimizer.learning_rate=log:1e-3:1e-2": "twenty runs; tests/tune",
    "sbatch --nodes=4 launch/train.sbatch --config=...": "SLURM; tests/test_launch.py",
    "kubectl apply -f launch/jobset.yaml": "Kubernetes; tests/test_launch.py",
    "kunlun-jax plan --config=b200 --machine=b200x8 --compile": "gigabytes of CUDA's compilers",
}


def commands(page):
    """Return the commands of a page's shell blocks, and what its text says to install, in order."""
    found = re.finditer(
        r"^```(\w*)\n(.*?)^```$|`(pip install [^`&]+)`",
        (ROOT / page).read_text(),
        re.MULTILINE | re.DOTALL,
    )
    for language, block, inline in (match.groups() for match in found):
        lines = shell_lines(block) if language == "bash" else [inline] if inline else []
        yield from (command for line in lines for command in line.split(" && "))


def inline_commands(page):
    """Return the commands in a page's text."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"`((?:pip|python|pytest|kunlun-jax|mkdocs)\s[^`]+)`", text)
    return [part for code in found for part in " ".join(code.split()).split(" && ")]


def test_every_command_is_followed_or_there_is_a_reason():
    found = {command for page in PAGES for command in commands(page)}
    assert found == FOLLOWED.keys() | ELSEWHERE.keys()
    assert not FOLLOWED.keys() & ELSEWHERE.keys()


@pytest.mark.parametrize("page", PAGES)
def test_there_is_no_other_kind_of_block(page):
    fences = re.findall(r"^```(\S*)$", (ROOT / page).read_text(), re.MULTILINE)
    assert set(fences[::2]) <= {"bash", "python"}
    assert set(fences[1::2]) == {""}


def defined_flags(file):
    """Return the flags that a program defines, by its source."""
    found = re.findall(
        r'(?:DEFINE_\w+|define_config|add_argument|text|whole)\(\s*"(?:--)?([\w-]+)"',
        file.read_text(),
    )
    return {*found, "help"}


def source_of(module):
    """Return the file that `python -m` runs."""
    found = importlib.util.find_spec(module)
    assert found is not None, module
    file = pathlib.Path(found.origin)
    return file.with_name("__main__.py") if file.name == "__init__.py" else file


def setting(config, path):
    """Return a setting of a configuration file, which has to have it."""
    name, _, argument = config.partition(":")
    spec = importlib.util.spec_from_file_location("config", name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.get_config(argument) if argument else module.get_config()
    for part in path.split("."):
        found = found[part]
    return found


def check_flags(file, arguments):
    """Check that a program knows its flags, and that the configuration knows its settings."""
    given = dict(re.findall(r"^--([\w.-]+)(?:=(.*))?$", argument)[0] for argument in arguments)
    config, ready = given.get("config"), CONFIGS
    if "study" in given:
        config, ready = given["study"], STUDIES
    if config not in (None, "..."):
        path = config_file(config, ready)
        config = str(ROOT / path) + config.removeprefix(config.split(":")[0])
        assert (ROOT / path).is_file(), config
    for name, value in given.items():
        group, _, path = name.partition(".")
        assert group in defined_flags(file), (name, file)
        if path:
            found = setting(config, path)
            assert isinstance(ast.literal_eval(value), type(found)), (name, value)


def check_files(arguments):
    """Check the files that a command names; those of the worked example are the user's copies."""
    for argument in arguments:
        name = argument.split("=")[-1]
        if re.fullmatch(r"[\w/]+\.(py|sbatch|yaml)|\w+\.csv", name) and "--out=" not in argument:
            assert any((place / name).is_file() for place in (ROOT, ROOT / "tests/data/shop")), name


@pytest.mark.parametrize(
    "command",
    sorted({c for p in PAGES for c in (*commands(p), *inline_commands(p)) if "NAME" not in c}),
)
def test_a_command_names_what_there_is(command):
    program, *arguments = shlex.split(command)
    check_files(arguments)
    if program == "pip":
        (extras,) = re.findall(r"\[(.+)\]", command) or ("",)
        assert set(filter(None, extras.split(","))) <= EXTRAS.keys()
    elif program == "python" and arguments[0] == "-m":
        check_flags(source_of(arguments[1]), arguments[2:])
    elif program == "python":
        check_flags(ROOT / arguments[0], arguments[1:])
    elif program == "kunlun-jax":
        flags = [argument for argument in arguments[1:] if argument.startswith("-")]
        check_flags(source_of(PROGRAMS[arguments[0]][0]), flags)
    elif program == "pytest":
        assert [x for x in arguments if x.startswith("tests") and not (ROOT / x).exists()] == []
    else:
        assert program in ("mkdocs", "tensorboard", "sbatch", "kubectl")


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("kunlun-jax tain --config=base", KeyError),
        ("kunlun-jax train --confg=base", AssertionError),
        ("kunlun-jax train --config=base --config.model.dims=3", KeyError),
        ("python train.py --config=configs/bse.py", AssertionError),
        ("python -m benchmarks.kernel", AssertionError),
        ("kunlun-jax build --schema=shema.py", AssertionError),
        ('pip install -e ".[owndata]"', AssertionError),
        ("conda install jax", AssertionError),
    ],
)
def test_a_wrong_command_is_found(command, error):
    with pytest.raises(error):
        test_a_command_names_what_there_is(command)


class Follower:
    """Runs commands in a directory of its own, in an environment of its own."""

    def __init__(self, place, environment, wheel):
        self.place, self.environment, self.wheel = place, environment, wheel

    def follow(self, command):
        """Run a command of a page, with what is appended to it."""
        # The wheel stands in the place of the source tree, with the same extras.
        line = re.sub(
            r'^pip install -e "\.(.*)"$', rf'pip install --quiet "{self.wheel}\1"', command
        )
        line = shlex.join([*shlex.split(line), *FOLLOWED[command]])
        path = next((p for name, p in SERVERS.items() if command.startswith(name)), None)
        if path is None:
            run(["bash", "-euo", "pipefail", "-c", line], cwd=self.place, env=self.environment)
        else:
            self.ask(shlex.split(line), path)

    def ask(self, arguments, path):
        """Run a server on a free port until it has answered."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with subprocess.Popen(
            [*arguments, f"--port={port}"], cwd=self.place, env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ) as server:  # fmt: skip
            status = None
            while status is None and server.poll() is None:
                with contextlib.suppress(OSError):
                    status = urllib.request.urlopen(f"http://127.0.0.1:{port}{path}").status
                time.sleep(0.2)
            server.send_signal(signal.SIGTERM)
            printed, _ = server.communicate(timeout=60)
        assert status == 200, printed


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    environment = fresh_environment(tmp_path_factory.mktemp("wheels"))
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    return build_wheel(source, out, environment)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_do_what_they_say(page, wheel, tmp_path):
    environment = fresh_environment(tmp_path / "environment")
    place = tmp_path / "empty"
    place.mkdir()
    copy_example(place)
    # `python train.py --config=configs/...` is a command of the source tree.
    shutil.copy(ROOT / "train.py", place)
    shutil.copytree(ROOT / "configs", place / "configs")
    follower = Follower(place, environment, wheel)
    for command in commands(page):
        if command in FOLLOWED:
            begin = time.monotonic()
            follower.follow(command)
            print(f"{time.monotonic() - begin:6.1f} s  {command}", flush=True)
    results = {
        "docs/start.md": ("smoke/report.html", "shop/report.html"),
        "README.md": ("base/report_wide.html", "base/audit.json", "base/why.json"),
    }
    assert [name for name in results[page] if not (place / "runs" / name).is_file()] == []
    if page == "README.md":
        assert json.loads((place / "exported" / "manifest.json").read_text())
