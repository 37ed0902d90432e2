"""Damaged data sets: a clean error that names the file, or the right answer; nothing else."""

import re
import shutil

import numpy as np
import pyarrow as pa
import pytest

from kunlun_jax.data import Dataset, DatasetError
from kunlun_jax.data import format as blocks
from kunlun_jax.data.manifest import MANIFEST
from kunlun_jax.data.reading.shard_reader import read_shard
from tests.data import toy
from tests.faults.harness import ROOT, build_command, fault_cases, flip_bit

FLIPS = 40


@pytest.fixture
def built(tmp_path):
    return toy.toy_dataset(tmp_path / "toy")


def flipped(content, rng):
    """The same bytes with one bit flipped."""
    damaged = bytearray(content)
    damaged[rng.integers(len(damaged))] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def forget_columns(directory):
    """Have the shards read again by whoever opens the data set next."""
    for path in directory.glob("columns-*"):
        path.unlink()


def first_shard(directory):
    return min(directory.glob("*.arrayrecord"))


def flip_a_number(directory):
    flip_bit(first_shard(directory), 4 * first_shard(directory).stat().st_size)


def cut(directory):
    content = first_shard(directory).read_bytes()
    first_shard(directory).write_bytes(content[: len(content) // 2])


def exchange(directory):
    first, second, *_ = sorted(directory.glob("*.arrayrecord"))
    second.write_bytes(first.read_bytes())


def flip_a_count(directory):
    text = (directory / MANIFEST).read_text()
    (directory / MANIFEST).write_text(text.replace('"users": 4', '"users": 5'))


DAMAGES = {
    "a flipped bit in a shard": (flip_a_number, "shard-00000.*damaged: expected SHA-256"),
    "a shard that is cut off": (cut, r"shard-00000.*expected \d+ bytes, got \d+"),
    "a shard that is missing": (lambda d: first_shard(d).unlink(), "shard-00000.*missing"),
    "a shard in the place of another": (exchange, "shard-00001.*expected"),
    "a flipped bit in dataset.json": (flip_a_count, "dataset.json: damaged: its content"),
    "dataset.json cut off": (
        lambda d: (d / MANIFEST).write_text((d / MANIFEST).read_text()[:100]),
        "dataset.json: not JSON",
    ),
}


@pytest.mark.parametrize(
    "name",
    fault_cases(DAMAGES, "data set without columns yet: {}", "refused before the first step"),
)
def test_refused(runs, uninterrupted, tmp_path, name, observe):
    damage, message = DAMAGES[name]
    shutil.copytree(runs.data, tmp_path / "data")
    forget_columns(tmp_path / "data")
    damage(tmp_path / "data")
    outcome = runs.here(tmp_path / "run", f"data.directory={tmp_path / 'data'}")
    assert outcome.code == 1
    assert re.search(message, outcome.message), outcome.message
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    observe(outcome)


@pytest.mark.fault(
    "data set without columns yet: a flipped bit in a shard, 40 times",
    "40 of 40 found, naming the shard",
)
def test_forty_flipped_bits(built, observe_text):
    rng = np.random.default_rng(0)
    shards = sorted(built.directory.glob("*.arrayrecord"))
    forget_columns(built.directory)
    found = 0
    for i in range(FLIPS):
        shard = shards[i % len(shards)]
        content = shard.read_bytes()
        shard.write_bytes(flipped(content, rng))
        with pytest.raises(DatasetError, match=shard.name):
            Dataset.open(built.directory)
        shard.write_bytes(content)
        found += 1
    assert found == FLIPS
    assert Dataset.open(built.directory).identity == built.identity
    observe_text(f"{found} of {FLIPS} found")


@pytest.mark.fault(
    "own tables: a flipped bit in the Parquet files of the vocabularies, 40 times",
    "40 of 40 found, naming the file",
)
def test_forty_flipped_bits_in_vocabularies(tmp_path, observe_text):
    shop, out = ROOT / "tests" / "data" / "shop", tmp_path / "built"
    outcome = build_command(
        f"--schema={shop / 'my_schema.py'}",
        f"--impressions={shop / 'impressions.csv'}",
        f"--events={shop / 'views.csv'}",
        f"--out={out}",
        "--num_shards=2",
    )
    assert outcome.code == 0, outcome.err
    files = sorted((out / "vocabularies").glob("*.parquet"))
    rng = np.random.default_rng(0)
    for i in range(FLIPS):
        file = files[i % len(files)]
        content = file.read_bytes()
        file.write_bytes(flipped(content, rng))
        with pytest.raises(DatasetError, match=file.name):
            Dataset.open(out)
        file.write_bytes(content)
    observe_text(f"{FLIPS} of {FLIPS} found")


def test_ids_of_64_bits_are_refused_where_they_are_read(built):
    shard = first_shard(built.directory)
    records = list(blocks.read_blocks(shard))
    wide = [
        {n: c.cast(pa.int64()) if n == "sparse/item" else c for n, c in record.columns.items()}
        for record in records
    ]
    shard.unlink()
    encoded = (
        blocks.encode_block(r.kind, r.name, columns)
        for r, columns in zip(records, wide, strict=True)
    )
    blocks.write_shard(shard, encoded)
    with pytest.raises(DatasetError, match="column 'sparse/item': expected int32, got int64"):
        read_shard(shard, built.schema)


def test_lists_that_point_out_of_the_record_are_refused():
    record = blocks.encode_block("log", "click", {"times": pa.array([[7], [8]])})
    offsets, others = (np.array([0, 1, n], np.int32).tobytes() for n in (2, 2**20))
    assert record.count(offsets) == 1
    with pytest.raises(DatasetError, match="not an Arrow block of this format"):
        blocks.decode_block(record.replace(offsets, others))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
def test_a_cut_shard_is_found(built, share):
    shard = first_shard(built.directory)
    content = shard.read_bytes()
    shard.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DatasetError, match=rf"{shard.name}: expected {len(content)} bytes, got"):
        Dataset.open(built.directory)
