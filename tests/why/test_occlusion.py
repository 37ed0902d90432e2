import jax
import numpy as np
import pytest

from kunlun_jax.serving.predictor import BatchPredictor
from kunlun_jax.why.occlusion import EVENT, FIELD, STREAM, effects, occlusions
from tests import factories
from tests.why.test_permutations import leaves


@pytest.fixture(scope="module")
def batch():
    found = factories.batch(lengths={"buy": [3], "view": [1]})
    found = jax.tree.map(np.array, found)
    item = found.streams["buy"].ids["item"]
    item[0, :3] = 5, 6, 5
    found.sparse["item"].ids[...] = 5
    found.streams["buy"].matches["item"][...] = item == 5
    found.streams["view"].matches["item"][...] = found.streams["view"].ids["item"] == 5
    return found


@pytest.fixture(scope="module")
def parts(batch):
    return occlusions(batch, factories.SCHEMA, factories.config())


class TestOcclusions:
    def test_every_part_is_left_out_once(self, parts):
        names = [(one.kind, one.stream, one.name, one.position) for one in parts]
        assert names == [
            *((FIELD, "", name, -1) for name in ("price", "hour", "count")),
            *((FIELD, "", name, -1) for name in ("item", "brand", "tags")),
            (STREAM, "buy", "", -1), *((EVENT, "buy", "", i) for i in range(3)),
            *((FIELD, "buy", name, -1) for name in ("item", "brand", "amount", "price")),
            (STREAM, "view", "", -1), (EVENT, "view", "", 0),
            *((FIELD, "view", name, -1) for name in ("item", "seconds")),
        ]  # fmt: skip

    def part(self, parts, *wanted):
        (found,) = (one for one in parts if one[:4] == wanted)
        return leaves(found.batch)

    def test_an_event_goes_and_the_others_stay_in_their_order(self, batch, parts):
        before, after = leaves(batch), self.part(parts, EVENT, "buy", "", 1)
        assert after["streams/buy/lengths"].tolist() == [2]
        for name, values in before.items():
            if name.startswith("streams/buy/") and "lengths" not in name:
                kept = after[name][0]
                assert np.array_equal(kept[:2], values[0, [0, 2]]), name
                assert not kept[2:].any(), name
            elif not name.startswith("streams/buy/"):
                assert np.array_equal(after[name], values), name

    def test_a_candidate_without_an_item_matches_nothing(self, batch, parts):
        assert batch.streams["buy"].matches["item"].any()
        after = self.part(parts, FIELD, "", "item", -1)
        assert not after["streams/buy/matches/item"].any()
        assert after["sparse/item/lengths"].tolist() == [0]

    @pytest.mark.parametrize(
        ("stream", "name", "array", "column"),
        [("", "hour", "dense", 1), ("buy", "price", "streams/buy/dense", 1),
         ("buy", "brand", "streams/buy/ids/brand", None)],
    )  # fmt: skip
    def test_a_field_is_at_its_mean_or_out_of_vocabulary(
        self, batch, parts, stream, name, array, column
    ):
        before, after = leaves(batch), self.part(parts, FIELD, stream, name, -1)
        changed = {key for key in before if not np.array_equal(before[key], after[key])}
        assert array in changed and changed <= {array, "streams/buy/matches/brand"}
        chosen = after[array] if column is None else after[array][..., column]
        assert not chosen.any()

    def test_an_empty_stream_is_that_of_a_user_without_one(self, parts):
        after = self.part(parts, STREAM, "buy", "", -1)
        assert not any(x.any() for key, x in after.items() if key.startswith("streams/buy/"))


class Sum(BatchPredictor):
    """Predicts a known function: the log-odds are sums of the batch's numbers."""

    def __init__(self):
        self.batch_size = 4

    def predict(self, batch):
        used = np.asarray(batch.weights) > 0
        ages = np.asarray(batch.streams["buy"].ages, np.float64).sum(axis=1) / factories.DAY / 99
        logits = np.stack([np.asarray(batch.dense, np.float64).sum(axis=1) / 3, ages - 1], axis=1)
        return 1 / (1 + np.exp(-logits[used]))


def test_effects_are_what_is_lost(batch, parts):
    logits, added = effects(Sum(), batch, parts)
    dense, ages = batch.dense[0].astype(np.float64), batch.streams["buy"].ages[0]
    assert logits == pytest.approx([dense.sum() / 3, ages.sum() / factories.DAY / 99 - 1])
    for one, (first, second) in zip(parts, added, strict=True):
        names = [f.name for f in factories.SCHEMA.dense]
        is_dense = one.kind == FIELD and not one.stream and one.name in names
        assert first == pytest.approx(dense[names.index(one.name)] / 3 if is_dense else 0, abs=1e-9)
        lost = ages[one.position] if one.kind == EVENT else ages.sum()
        is_age = one.stream == "buy" and one.kind in (EVENT, STREAM)
        assert second == pytest.approx(lost / factories.DAY / 99 if is_age else 0, abs=1e-9)


def test_a_request_without_history_has_no_events():
    batch = jax.tree.map(np.array, factories.batch(lengths={"buy": [0], "view": [0]}))
    found = occlusions(batch, factories.SCHEMA, factories.config())
    assert not [one for one in found if one.kind == EVENT]
    assert [one.stream for one in found if one.kind == STREAM] == ["buy", "view"]
