"""Users, candidates and spellings that should meet and do not."""

import collections
import dataclasses
import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kunlun_jax.data.quality import mismatches
from kunlun_jax.data.quality.mismatches import count_meetings, find_mismatches, name_ids
from kunlun_jax.data.schema import Limits
from kunlun_jax.data.tables import Shard
from tests.data import toy

SCHEMA = toy.SCHEMA


def lines(tmp_path, values=(), *, counts=None, meetings=None, rows=None, **limits):
    """The findings of one vocabulary, of given meetings and of given rows."""
    schema = dataclasses.replace(SCHEMA, limits=Limits(**limits))
    manifest = {"source_rows": {"tables": rows or {}}}
    if values:
        counts = counts or [1] * len(values)
        table = {"value": list(values), "id": range(1, len(values) + 1), "count": counts}
        pq.write_table(pa.table({k: list(v) for k, v in table.items()}), tmp_path / "v.parquet")
        manifest["vocabularies"] = {"item": {"name": "v.parquet"}}
    return list(find_mismatches(schema, manifest, meetings or {}, tmp_path))


PLAIN = [f"i{i}" for i in range(150)]


@pytest.mark.parametrize(
    ("pair", "shown"),
    [
        (("7", "7.0"), "'7' and '7.0'"),
        (("7", "007"), "'007' and '7'"),
        (("Ab", "ab"), "'Ab' and 'ab'"),
        (("a b", "ab"), "'a b' and 'ab'"),
        (("x" * 50, "X" * 50), "'XXXX.*X...' and 'xxx.*x...'"),
    ],
)
def test_two_spellings_of_a_value(tmp_path, pair, shown):
    values = sorted([*PLAIN, *pair])
    (line,) = lines(tmp_path, values)
    assert line.startswith("vocabulary 'item': expected at most 1.00% of values that equal another")
    assert re.search(f"got 1.32%, such as {shown}$", line), line
    assert lines(tmp_path, values, spelling_share=0.02) == []


def test_honest_values_have_no_finding(tmp_path):
    assert lines(tmp_path, [*PLAIN, "7.5", "75", "a.0", "a0", "x1", "x01", "Nancy", "-1"]) == []


@pytest.mark.parametrize(
    "value", ["n.a.", "\u200b", "nan", "NULL", "None", r"\N", "-", "?", "undefined", "[]"]
)
def test_a_value_that_looks_like_nothing(tmp_path, value):
    (line,) = lines(tmp_path, [*PLAIN, value], counts=[1] * 150 + [50])
    assert line == (
        "vocabulary 'item': expected at most 0.00% of values that look like nothing, got 25.00%, "
        f"such as {value!r}; the schema's `missing` makes them missing"
    )
    assert lines(tmp_path, [*PLAIN, value], nothing_share=0.5) == []


def test_the_spellings_of_many_values_are_sampled(tmp_path, monkeypatch):
    monkeypatch.setattr(mismatches, "SPELLINGS_LOOKED_AT", 500)
    values = [spelt for i in range(1, 2001) for spelt in (f"{i}", f"{i}.0")]
    (line,) = lines(tmp_path, sorted(values))
    assert "got 100.00%" in line
    assert lines(tmp_path, [f"{i}" for i in range(4000)]) == []


def test_users_of_events_without_a_request(tmp_path):
    def rows(strangers):
        left_out = {"where": 1000, "user_without_impressions": strangers}
        return {
            "impressions": {"read": 9, "kept": 9, "left_out": {"where": 0}},
            "click": {"read": 1100, "kept": 100 - strangers, "left_out": left_out},
        }

    assert lines(tmp_path, rows=rows(25)) == []
    assert lines(tmp_path, rows=rows(50)) == [
        "stream 'click': expected at most 25.00% of events whose user has no request, got 50.00%; "
        "are users spelled alike in both tables?"
    ]
    assert lines(tmp_path, rows=rows(50), stranger_share=0.5) == []


def test_candidates_that_no_event_has(tmp_path):
    meetings = {"candidate/item": (3, 1, 0), "event/item": (0, 7, 9)}
    assert lines(tmp_path, meetings=meetings) == [
        "candidate 'item': expected at most 50.00% of ids that no event has, got 75.00%; are they "
        "spelled alike in both tables?"
    ]
    assert lines(tmp_path, meetings=meetings, unseen_share=0.75) == []


def shard_of(tables):
    return Shard(tables, np.arange(tables.num_users, dtype=np.int32), {})


@pytest.mark.parametrize("looked_at", [8192, 5])
def test_meetings_are_counted(monkeypatch, looked_at):
    monkeypatch.setattr(mismatches, "IDS_LOOKED_AT", looked_at)
    tables = toy.toy_tables()
    counts = count_meetings(shard_of(tables), SCHEMA)
    assert set(counts) == {"candidate/item", "event/item"}
    chosen = range(1, 14) if looked_at > 13 else sorted(set(mismatches._chosen_ids(13).tolist()))
    assert 0 < len(chosen) <= 13
    examples = np.concatenate([e.sparse["item"][:, 0] for e in tables.splits.values()])
    for key, ids in (
        ("candidate/item", examples),
        ("event/item", tables.logs["click"].ids["item"]),
    ):
        known = collections.Counter(ids.tolist())
        assert counts[key] == tuple(known[i] for i in chosen)


def test_ids_are_told_by_their_text(tmp_path):
    pq.write_table(pa.table({"value": ["a", "b" * 99]}), tmp_path / "v.parquet")
    name_of = name_ids(SCHEMA, {"vocabularies": {"item": {"name": "v.parquet"}}}, tmp_path)
    assert name_of("item", 1) == "'a'"
    assert name_of("item", 2) == repr("b" * 30 + "...")
    assert name_of("item", 0) == "out of vocabulary"
    assert name_of("user", 3) == "of id 3"


def test_findings_are_in_the_manifest_and_come_again_in_validation(tmp_path):
    from kunlun_jax.data.build import write_dataset
    from kunlun_jax.data.validate import validate

    tables = toy.toy_tables()
    for examples in tables.splits.values():
        items = examples.sparse["item"]
        items[:] = np.where(items > 0, 1, 0)
    click = tables.logs["click"].ids["item"]
    click[:] = np.maximum(click, 2)
    source = {"name": "toy", "version": 1, "options": {}}
    write_dataset(tables, tmp_path / "toy", source=source)
    findings = json.loads((tmp_path / "toy" / "dataset.json").read_text())["findings"]
    assert [line for line in findings if line.startswith("candidate 'item': expected at most 50")]
    assert set(findings) <= set(validate(tmp_path / "toy").findings)
