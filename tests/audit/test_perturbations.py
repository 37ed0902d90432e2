import dataclasses

import chex
import jax
import numpy as np
import pytest

from kunlun_jax.audit.perturbations import (
    histories_swapped,
    only_last_event,
    order_and_times_shuffled,
    order_shuffled,
    perturbations,
    times_shuffled,
)
from kunlun_jax.data import BatchSource
from tests.data import toy

STREAMS = tuple(toy.MAX_LENS)


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """A batch of several users, its last examples padding."""
    dataset = toy.toy_dataset(tmp_path_factory.mktemp("toy") / "dataset")
    size = len(dataset.splits["test"]) + 3
    found = BatchSource(
        dataset, split="test", batch_size=size, max_lens=toy.MAX_LENS, shuffle=False
    )[0]
    assert (np.asarray(found.weights) == 0).sum() == 3
    assert max(np.asarray(e.lengths).max() for e in found.streams.values()) > 2
    return found


def columns(events):
    """Return [B, T, columns]: ids, matches, attributes and age of every event."""
    parts = [*events.ids.values(), *events.matches.values(), *np.moveaxis(events.dense, 2, 0)]
    parts.append(events.ages)
    return np.stack([np.asarray(x, np.float64) for x in parts], axis=2)


def histories(batch):
    """Return, by stream and example, the real events; padding has to be zeros."""
    found = {}
    for name, events in batch.streams.items():
        values, lengths = columns(events), np.asarray(events.lengths)
        assert not values[np.arange(values.shape[1]) >= lengths[:, None]].any()
        found[name] = [rows[:length] for rows, length in zip(values, lengths, strict=True)]
    return found


def as_multiset(rows):
    return sorted(map(tuple, rows))


@pytest.mark.parametrize("name", perturbations(STREAMS))
def test_is_a_pure_function_that_changes_histories_only(batch, name):
    before = jax.tree.map(np.array, batch)
    perturb = perturbations(STREAMS)[name]
    first, again = perturb(batch, (0, 1)), perturb(batch, (0, 1))
    chex.assert_trees_all_equal(first, again)
    chex.assert_trees_all_equal(batch, before)
    chex.assert_trees_all_equal_shapes_and_dtypes(batch, first)
    rest, rest_before = (dataclasses.replace(b, streams={}) for b in (first, batch))
    chex.assert_trees_all_equal(rest, rest_before)
    assert any(
        not np.array_equal(x, y)
        for x, y in zip(jax.tree.leaves(first), jax.tree.leaves(batch), strict=True)
    )


@pytest.mark.parametrize("shuffle", [times_shuffled, order_shuffled, order_and_times_shuffled])
def test_another_seed_shuffles_otherwise(batch, shuffle):
    first, other = (histories(shuffle(batch, (seed,))) for seed in (0, 1))
    assert any(
        not np.array_equal(x, y)
        for name in STREAMS
        for x, y in zip(first[name], other[name], strict=True)
    )


def test_times_shuffled_permutes_the_ages_alone(batch):
    for name, after in histories(times_shuffled(batch, (0,))).items():
        for x, y in zip(histories(batch)[name], after, strict=True):
            assert np.array_equal(x[:, :-1], y[:, :-1])
            assert sorted(x[:, -1]) == sorted(y[:, -1])


def test_order_shuffled_keeps_the_events_whole(batch):
    for name, after in histories(order_shuffled(batch, (0,))).items():
        for x, y in zip(histories(batch)[name], after, strict=True):
            assert as_multiset(x) == as_multiset(y)


def test_order_and_times_shuffled_keeps_ages_in_place(batch):
    for name, after in histories(order_and_times_shuffled(batch, (0,))).items():
        for x, y in zip(histories(batch)[name], after, strict=True):
            assert np.array_equal(x[:, -1], y[:, -1])
            assert as_multiset(x[:, :-1]) == as_multiset(y[:, :-1])


def test_only_the_last_event_is_kept(batch):
    for name, after in histories(only_last_event(batch)).items():
        for x, y in zip(histories(batch)[name], after, strict=True):
            assert np.array_equal(x[-1:], y)
            assert len(y) <= 1


def test_dropped_streams_are_empty_and_others_stand(batch):
    for name, perturb in perturbations(STREAMS).items():
        if name.startswith("without "):
            after = histories(perturb(batch, ()))
            gone = STREAMS if name == "without any history" else (name.removeprefix("without "),)
            for stream in STREAMS:
                for x, y in zip(histories(batch)[stream], after[stream], strict=True):
                    assert len(y) == 0 if stream in gone else np.array_equal(x, y)


class TestHistoriesSwapped:
    def with_users(self, batch, users):
        """The batch with users of our choice, and histories that name their example."""
        users = np.resize(np.asarray(users, np.int32), len(batch.weights))
        mark = np.arange(len(users), dtype=np.int32)
        streams = {
            name: dataclasses.replace(e, ages=np.broadcast_to(mark[:, None], e.ages.shape))
            for name, e in batch.streams.items()
        }
        weights = np.ones_like(batch.weights)
        return dataclasses.replace(batch, streams=streams, user_ids=users, weights=weights)

    def donors(self, batch, seed=(0,)):
        """Which example every example's history is of; whole, and the same in all streams."""
        after = histories_swapped(batch, seed)
        (donors,) = {tuple(e.ages[:, 0]) for e in after.streams.values()}
        donors = np.array(donors)
        for name, events in after.streams.items():
            donated = jax.tree.map(lambda x: np.asarray(x)[donors], batch.streams[name])
            own = dataclasses.replace(donated, matches=events.matches)
            chex.assert_trees_all_equal(events, own)
            for feature, column in events.matches.items():
                ids = events.ids[feature]
                assert np.array_equal(column, (ids == batch.sparse[feature].ids) & (ids > 0))
        return donors

    @pytest.mark.parametrize("users", [[5, 3, 3, 9], [1, 2], [*range(100)]])
    def test_permutes_whole_histories_between_users(self, batch, users):
        marked = self.with_users(batch, users)
        donors = self.donors(marked)
        assert sorted(donors) == list(range(len(donors)))
        assert (marked.user_ids[donors] != marked.user_ids).all()
        assert not np.array_equal(donors, self.donors(marked, (1,)))

    def test_with_a_user_of_more_than_half(self, batch):
        marked = self.with_users(batch, [7, 7, 7, 8])
        assert (marked.user_ids[self.donors(marked)] != marked.user_ids).all()

    def test_a_single_user_keeps_its_own(self, batch):
        donors = self.donors(self.with_users(batch, [7]))
        assert np.array_equal(donors, np.arange(len(donors)))

    def test_padding_gives_and_takes_nothing(self, batch):
        marked = dataclasses.replace(self.with_users(batch, [1, 2, 3]), weights=batch.weights)
        donors, padding = self.donors(marked), np.asarray(batch.weights) == 0
        assert np.array_equal(donors[padding], np.flatnonzero(padding))
        assert not padding[donors[~padding]].any()
