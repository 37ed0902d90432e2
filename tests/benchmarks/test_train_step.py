import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def run_program(*arguments):
    command = [sys.executable, "-m", "benchmarks.train_step", *arguments]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_without_a_gpu_one_line_says_so():
    result = run_program()
    assert result.returncode == 1
    assert "no GPU: JAX finds cpu alone" in result.stderr


@pytest.mark.slow
def test_the_dry_run_compares_both(tmp_path):
    result = run_program("--dry_run", f"--out={tmp_path / 'train_step.json'}")
    assert result.returncode == 0, result.stderr
    content = json.loads((tmp_path / "train_step.json").read_text())
    assert content["dry_run"] and content["batch_size"] == 2
    for name in ("triton_interpret", "xla"):
        assert content["results"][name]["mfu"] > 0
    assert "times as fast with kernels; goal" in result.stdout
