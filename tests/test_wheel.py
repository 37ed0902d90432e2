"""docs/data.md, followed from a wheel: its commands, in an empty directory, with an old pip.

Needs a package index; some two minutes: `pytest -m slow tests/test_wheel.py`, which CI runs.
"""

import json

import pytest

from tests.documents import blocks
from tests.wheels import build_wheel, copy_example, fresh_environment, run

PIP = "23.2.1"  # of Python 3.11.7: it asks for an extra under the very name that it is given
SECTION = "## Tables of your own"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """An empty virtual environment with that pip; nothing of the source tree is in sight."""
    return fresh_environment(tmp_path_factory.mktemp("environment"), PIP)


@pytest.fixture(scope="module")
def directory(environment, tmp_path_factory):
    """A directory elsewhere with the wheel and the files of the example."""
    directory = tmp_path_factory.mktemp("elsewhere")
    build_wheel(tmp_path_factory.mktemp("source"), directory, environment)
    copy_example(directory)
    return directory


def test_from_own_csv_files_to_an_audited_model(directory, environment):
    commands = blocks("docs/data.md", SECTION, "bash")[0]
    assert [line.split()[1] for line in commands.splitlines() if line.startswith("kunlun-jax")] == [
        "build", "validate", "plan", "train", "audit",
    ]  # fmt: skip
    out = run(["bash", "-euo", "pipefail", "-c", commands], cwd=directory, env=environment)
    assert "0 findings" in out
    assert "best checkpoint: step 1" in out
    assert json.loads((directory / "runs" / "shop" / "audit.json").read_text())
    assert f"pip {PIP} " in run(["pip", "--version"], env=environment)
    # The extra came with it, by its documented name, and nothing took a name that is not ours.
    run(["python", "-c", "import duckdb"], cwd=directory, env=environment)
    for name in ("configs", "train", "tests", "benchmarks"):
        code = f"import importlib.util as u; assert u.find_spec({name!r}) is None"
        run(["python", "-c", code], cwd=directory, env=environment)
