import json
import sys

import pytest

from benchmarks import event_tables
from benchmarks.processes import measure

BUILD = (sys.executable, "-m", "kunlun_jax.data.build")


def test_a_build_is_measured(tmp_path):
    arguments = event_tables.make_tables(tmp_path, "csv", 2_000)
    result = measure([*BUILD, *arguments, f"--out={tmp_path / 'built'}"])
    manifest = json.loads((tmp_path / "built" / "dataset.json").read_text())
    counts = event_tables.found_counts(manifest)
    assert counts == event_tables.expected_counts(2_000)
    assert counts["examples"] == 200
    assert 1_900 <= counts["events"] <= 2_000
    # A Python with NumPy, Arrow and JAX has some hundred MB.
    assert 50e6 < result["peak_bytes"] < 2e9
    assert result["processor_seconds"] > 0


@pytest.mark.slow
def test_memory_does_not_grow_with_the_tables(tmp_path):
    """Ten times the events take no more than joins and sorts are allowed, at most."""
    peaks = []
    for events in (1_000_000, 10_000_000):
        directory = tmp_path / str(events)
        directory.mkdir()
        arguments = event_tables.make_tables(directory, "csv", events)
        arguments += ["--num_shards=64", "--memory_gb=0.3", f"--out={directory / 'built'}"]
        peaks.append(measure([*BUILD, *arguments])["peak_bytes"])
    assert peaks[1] < peaks[0] + 0.3e9, peaks  # what joins and sorts may take, --memory_gb
