import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kunlun_jax.data.building.shards import shards_of_tables
from kunlun_jax.data.quality.summary import Moments, Summary, merge_all, summarize
from tests.data import toy

VALUES = hnp.arrays(np.float32, st.integers(0, 30), elements=st.floats(-1e4, 1e4, width=32))


@settings(derandomize=True, deadline=None)
@given(parts=st.lists(VALUES, min_size=1, max_size=5))
def test_merged_moments_are_those_of_the_whole(parts):
    whole = np.concatenate(parts).astype(np.float64)
    merged = Moments()
    for part in parts:
        merged = merged.merge(Moments.of(part))
    assert merged.count == len(whole)
    if len(whole):
        assert merged.mean == pytest.approx(whole.mean(), rel=1e-9, abs=1e-6)
        assert merged.std == pytest.approx(whole.std(), rel=1e-6, abs=1e-4)
        assert (merged.low, merged.high) == (whole.min(), whole.max())


def test_missing_values_are_counted_apart():
    moments = Moments.of(np.array([1.0, np.nan, 3.0]))
    assert (moments.count, moments.missing, moments.mean, moments.std) == (2, 1, 2.0, 1.0)


def test_shards_add_up_to_the_whole():
    tables = toy.toy_tables()
    whole = summarize(shards_of_tables(tables, 1).make(0))
    parts = [summarize(shards_of_tables(tables, 4).make(i)) for i in range(4)]
    merged = merge_all(parts)
    assert merged.sums == whole.sums
    assert merged.sums["rows/train"] == 203
    for key, moments in whole.moments.items():
        assert merged.moments[key].count == moments.count
        assert merged.moments[key].mean == pytest.approx(moments.mean)
        assert merged.moments[key].std == pytest.approx(moments.std)


def test_json_keeps_every_digit():
    summary = summarize(shards_of_tables(toy.toy_tables(), 1).make(0))
    assert Summary.from_json(json.loads(json.dumps(summary.to_json()))) == summary
