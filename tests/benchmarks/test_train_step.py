import json

import pytest

from tests.processes import run_python


def test_without_a_gpu_one_line_says_so():
    result = run_python("-m", "benchmarks.train_step")
    assert result.returncode == 1
    assert "no GPU: JAX finds cpu alone" in result.stderr


@pytest.mark.slow
def test_the_dry_run_compares_both(tmp_path):
    result = run_python(
        "-m", "benchmarks.train_step", "--dry_run", f"--out={tmp_path / 'train_step.json'}"
    )
    assert result.returncode == 0, result.stderr
    content = json.loads((tmp_path / "train_step.json").read_text())
    assert content["dry_run"] and content["batch_size"] == 2
    for name in ("triton_interpret", "xla"):
        assert content["results"][name]["mfu"] > 0
    assert "times as fast with kernels; goal" in result.stdout
