"""The command: a plan and exit code 0, or one line and 1."""

import json

import pytest

from tests.processes import run_python


def plan(config, *arguments):
    return run_python("-m", "kunlun_jax.plan", f"--config=configs/{config}", *arguments)


def one_line(result):
    assert result.returncode == 1, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in result.stderr
    return lines[0]


def test_what_does_not_fit_is_an_error_after_the_plan(tmp_path):
    file = tmp_path / "plan.json"
    arguments = ("--config.model.name=din", "--machine=cpu", "--memory_fraction=0.00001")
    result = plan("smoke.py", *arguments, f"--json={file}")
    assert one_line(result).startswith("error: too little memory on cpu: ")
    for word in ("click_encoder", "segment", "state and batch", "ms a step"):
        assert word in result.stdout
    assert json.loads(file.read_text())["needs"]["state_bytes"]["batch"] > 0


@pytest.mark.slow
def test_an_unknown_machine_is_an_error():
    assert "--machine: expected one of b200" in one_line(plan("smoke.py", "--machine=dgx"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "machine"),
    [
        ("base.py", "cpu"),
        ("complete_journey.py", "cpu"),
        ("movielens_1m.py", "cpu"),
        ("synthetic.py", "cpu"),
        ("smoke.py", "cpu"),
        ("b200.py", "b200x8"),
        ("b200.py:64", "b200x512"),
    ],
)
def test_every_config_has_a_plan(config, machine):
    result = plan(config, f"--machine={machine}")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1].startswith(f"state and batch on {machine}: fits")
