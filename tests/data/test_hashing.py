import numpy as np
import pytest

from kunlun_jax.data.batch import batch_shapes
from kunlun_jax.data.hashing import (
    expected_collision_rate,
    hashed_ids,
    id_dtypes,
    is_known,
    separate,
)
from kunlun_jax.data.reading.requests import Request, RequestError, batch_requests
from kunlun_jax.data.schema import Schema, SchemaError, SparseFeature, Vocabulary

SINGLE, PAIR = Vocabulary("url", 1000, hashes=1), Vocabulary("url", 1000, hashes=2)
VALUES = [f"https://example.com/{i}" for i in range(3000)]


def schema_of(vocabulary):
    return Schema("shop", (vocabulary,), (), (SparseFeature("url", "url"),), ("url",), ())


def test_the_first_id_of_a_pair_is_the_only_one_of_a_single_hash():
    one, two = hashed_ids(VALUES, SINGLE), hashed_ids(VALUES, PAIR)
    assert (one.dtype, two.dtype) == (np.int32, np.int64)
    pairs = separate(two, PAIR)
    assert (pairs.dtype, pairs.shape) == (np.int32, (3000, 2))
    np.testing.assert_array_equal(pairs[:, 0], one)
    assert (pairs.min(), pairs.max()) == (1, 1000)
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 0.1
    np.testing.assert_array_equal(separate(one, SINGLE), one)


def test_no_values_have_no_ids():
    assert hashed_ids([], PAIR).shape == (0,)


def test_ids_of_the_largest_table_fit():
    largest = Vocabulary("url", 2**31 - 2, hashes=2)
    ids = hashed_ids(VALUES, largest)
    assert is_known(ids, largest).all()
    assert (separate(ids, largest) > 0).all()


@pytest.mark.parametrize(
    ("ids", "known"),
    [
        (np.asarray([0, 1, 1 + (1 << 32), 1001 + (1 << 32), 1 + (1001 << 32), -1]), [2]),
        (np.asarray([2**70, 1000 + (1000 << 32)]), [1]),
    ],
)
def test_a_pair_is_known_if_both_are(ids, known):
    np.testing.assert_array_equal(np.flatnonzero(is_known(ids, PAIR)), known)


@pytest.mark.parametrize("vocabulary", [SINGLE, PAIR])
def test_collisions_are_as_many_as_expected(vocabulary):
    counts = []
    for part in range(8):
        ids = hashed_ids([f"{part}:{value}" for value in VALUES], vocabulary)
        looks = np.sort(separate(ids, vocabulary).reshape(len(ids), -1), axis=1)
        _, inverse, count = np.unique(looks, axis=0, return_inverse=True, return_counts=True)
        counts.append((count[inverse.ravel()] > 1).sum())
    expected = 3000 * expected_collision_rate(3000, 1000, vocabulary.hashes)
    assert expected == pytest.approx({1: 2850, 2: 18}[vocabulary.hashes], rel=0.02)
    # Values collide in twos, so the variance is twice that of as many independent ones.
    assert abs(np.mean(counts) - expected) < 5 * (2 * expected / 8) ** 0.5


def test_collisions_of_few_values():
    assert expected_collision_rate(0, 10, 2) == expected_collision_rate(1, 10, 1) == 0.0
    assert expected_collision_rate(2, 10, 1) == pytest.approx(0.1)
    # The pairs (a, b) and (b, a) have the same sum.
    assert expected_collision_rate(2, 10, 2) == pytest.approx((2 * 10 - 1) / 10**3)
    assert expected_collision_rate(2, 1, 2) == pytest.approx(1.0)


class TestRequests:
    def ids(self, value, vocabulary=PAIR):
        batch = batch_requests(
            [Request(5, sparse={"url": value})], schema_of(vocabulary), max_lens={}
        )
        return batch.sparse["url"].ids

    @pytest.mark.parametrize("vocabulary", [SINGLE, PAIR])
    def test_text_is_hashed_and_ids_are_taken_as_they_are(self, vocabulary):
        expected = separate(hashed_ids(["a"], vocabulary), vocabulary)
        np.testing.assert_array_equal(self.ids("a", vocabulary)[0], expected)
        np.testing.assert_array_equal(self.ids(["a"], vocabulary)[0], expected)
        known = int(hashed_ids(["a"], vocabulary)[0])
        np.testing.assert_array_equal(self.ids(known, vocabulary)[0], expected)

    @pytest.mark.parametrize("value", [3, -1, 2**70, 2000 + (1 << 32)])
    def test_what_is_no_pair_is_out_of_vocabulary(self, value):
        np.testing.assert_array_equal(self.ids(value), [[[0, 0]]])

    def test_text_of_a_vocabulary_without_hashes_is_refused(self):
        with pytest.raises(RequestError, match=r"sparse 'url': expected integers, got \['a'\]"):
            self.ids("a", Vocabulary("url", 1000))


def test_shapes_and_types_of_columns():
    assert id_dtypes(schema_of(PAIR)) == {"url": np.int64}
    assert batch_shapes(schema_of(PAIR), {}, 3).sparse["url"].ids.shape == (3, 1, 2)
    assert batch_shapes(schema_of(SINGLE), {}, 3).sparse["url"].ids.shape == (3, 1)


def test_the_schema_keeps_the_hashes_and_tells_nothing_of_none():
    for vocabulary in (SINGLE, PAIR):
        schema = schema_of(vocabulary)
        assert Schema.from_json(schema.to_json()) == schema
    assert schema_of(Vocabulary("url", 9)).to_json()["vocabularies"] == [
        {"name": "url", "num_ids": 9}
    ]
    with pytest.raises(SchemaError, match="vocabulary 'url': expected 0, 1 or 2 hashes, got 3"):
        schema_of(Vocabulary("url", 9, hashes=3))
