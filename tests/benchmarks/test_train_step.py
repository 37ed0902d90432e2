import json

import pytest

from tests.processes import run_python


def dry_run(name, directory):
    """Run a benchmark on tiny shapes; return what it writes and what it prints."""
    out = directory / "out.json"
    result = run_python("-m", f"benchmarks.{name}", "--dry_run", f"--out={out}")
    assert result.returncode == 0, result.stderr
    content = json.loads(out.read_text())
    assert content["dry_run"]
    return content, result.stdout


@pytest.mark.parametrize(
    ("name", "line"), [("kernels", "nothing was timed: no NVIDIA GPU"), ("train_step", "no GPU")]
)
def test_without_a_gpu_one_line_says_so(name, line):
    result = run_python("-m", f"benchmarks.{name}")
    assert result.returncode == 1
    assert f"{line}: JAX finds cpu alone" in result.stderr


@pytest.mark.slow
def test_the_dry_run_compares_both(tmp_path):
    content, printed = dry_run("train_step", tmp_path)
    assert content["batch_size"] == 2
    for name in ("triton_interpret", "xla"):
        assert content["results"][name]["mfu"] > 0
    assert "times as fast with kernels; goal" in printed
