import chex
import jax
import numpy as np
import pytest

from kunlun_jax.why.permutations import ATTRIBUTE, FEATURE, STREAM, inputs_of
from tests import factories

INPUTS = {one.title: one for one in inputs_of(factories.SCHEMA, factories.config())}


PLACES = (("buy", "item"), ("buy", "brand"), ("view", "item"))


def matching(events, candidate):
    """Tell, one by one, which events have an id of the candidate; 0 equals nothing."""
    rows = zip(np.asarray(events).tolist(), np.asarray(candidate).tolist(), strict=True)
    return np.array([[bool(e) and e in known for e in row] for row, known in rows])


@pytest.fixture(scope="module")
def batch():
    """40 examples of 14 users, the last three of weight 0; few items, so that events match."""
    rng = np.random.default_rng(0)
    lengths = {"buy": rng.integers(11, size=40).tolist(), "view": rng.integers(8, size=40).tolist()}
    found = factories.batch(lengths=lengths)
    weights = np.where(np.arange(40) < 37, 1, 0).astype(np.float32)
    found = found.replace(user_ids=(np.arange(40) // 3).astype(np.int32), weights=weights)
    found = jax.tree.map(np.array, found)
    for ids in (found.sparse["item"].ids, *(e.ids["item"] for e in found.streams.values())):
        ids %= 7
    for stream, name in PLACES:
        events = found.streams[stream]
        events.matches[name] = matching(events.ids[name], found.sparse[name].ids)
        assert events.matches[name].any()
    return found


def leaves(batch):
    """Return the arrays of a batch by names such as "streams/buy/ids/item"."""
    return {
        "/".join(str(getattr(key, "key", getattr(key, "name", key))) for key in path): np.asarray(x)
        for path, x in jax.tree_util.tree_leaves_with_path(batch)
    }


def changed(batch, one):
    before, after = leaves(batch), leaves(one.permute(batch, (0, 3)))
    return {name for name in before if not np.array_equal(before[name], after[name])}


def test_every_input_of_the_model_is_there_once():
    assert list(INPUTS) == [
        "price", "hour", "count", "item", "brand", "tags",
        "stream buy", "stream buy: item", "stream buy: brand", "stream buy: amount",
        "stream buy: price", "stream buy: time", "stream buy: whether item is the candidate's",
        "stream buy: whether brand is the candidate's",
        "stream view", "stream view: item", "stream view: seconds", "stream view: time",
        "stream view: whether item is the candidate's",
    ]  # fmt: skip
    kinds = [one.kind for one in INPUTS.values()]
    assert [kinds.count(kind) for kind in (FEATURE, STREAM, ATTRIBUTE)] == [6, 2, 11]


def test_what_a_model_does_not_read_is_not_there():
    config = factories.config(use_dense=False, match_attributes=False, streams=(factories.VIEW,))
    titles = [one.title for one in inputs_of(factories.SCHEMA, config)]
    assert titles == ["item", "brand", "tags", "stream view", "stream view: item",
                      "stream view: time"]  # fmt: skip


@pytest.mark.parametrize(
    ("title", "arrays"),
    [
        ("hour", {"dense"}),
        ("tags", {"sparse/tags/ids", "sparse/tags/lengths"}),
        ("brand", {"sparse/brand/ids", "streams/buy/matches/brand"}),
        ("stream buy: amount", {"streams/buy/dense"}),
        ("stream buy: time", {"streams/buy/ages"}),
        ("stream view: item", {"streams/view/ids/item", "streams/view/matches/item"}),
        ("stream buy: whether brand is the candidate's", {"streams/buy/matches/brand"}),
    ],
)
def test_one_input_changes_and_what_follows_from_it(batch, title, arrays):
    found = changed(batch, INPUTS[title])
    assert found <= arrays
    assert arrays - found <= {name for name in arrays if "matches" in name or "lengths" in name}


@pytest.mark.parametrize("title", INPUTS)
def test_values_are_dealt_anew_and_none_is_lost(batch, title):
    one = INPUTS[title]
    first, again = (leaves(one.permute(batch, (0, 3))) for _ in range(2))
    chex.assert_trees_all_equal(first, again)
    before = leaves(batch)
    assert {k: (x.shape, x.dtype) for k, x in first.items()} == {
        k: (x.shape, x.dtype) for k, x in before.items()
    }
    padding = slice(-3, None)
    for name in first:
        assert np.array_equal(first[name][padding], before[name][padding]), name
        if "matches" not in name:
            as_sets = (np.sort(x[name], axis=None) for x in (first, before))
            assert np.array_equal(*as_sets), name
    for stream in ("buy", "view"):
        lengths = first[f"streams/{stream}/lengths"]
        gone = np.arange(first[f"streams/{stream}/ages"].shape[1]) >= lengths[:, None]
        for name in first:
            if name.startswith(f"streams/{stream}/") and "lengths" not in name:
                assert not first[name][gone].any(), name


@pytest.mark.parametrize("title", [t for t, one in INPUTS.items() if "whether" not in t])
def test_matches_are_those_of_the_ids(batch, title):
    found = leaves(INPUTS[title].permute(batch, (0, 3)))
    for stream, name in PLACES:
        expected = matching(found[f"streams/{stream}/ids/{name}"], found[f"sparse/{name}/ids"])
        assert np.array_equal(found[f"streams/{stream}/matches/{name}"], expected)
