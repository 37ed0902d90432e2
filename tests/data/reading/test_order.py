import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kunlun_jax.data.reading import order
from kunlun_jax.data.reading.order import BLOCK, WholeShuffle, WindowShuffle, permutation

sizes = st.integers(1, 5 * BLOCK)


def windows(count, window, *, seed=0, read_ahead=lambda first, stop: None):
    return WindowShuffle(seed, count, window, read_ahead)


@given(st.integers(0, 2**31), st.integers(0, 9), st.integers(1, 5000))
@settings(deadline=None, max_examples=20)
def test_a_mapped_permutation_is_that_of_numpy_in_memory(seed, epoch, count):
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, 0, epoch])))
    expected = generator.permutation(np.arange(count, dtype=np.int32))
    np.testing.assert_array_equal(permutation((seed, 0, epoch), count), expected)


@pytest.mark.parametrize("make", [WholeShuffle, lambda seed, n: windows(n, 700, seed=seed)])
@given(sizes, st.integers(1, 900), st.integers(0, 3))
@settings(deadline=None, max_examples=20)
def test_every_epoch_has_every_example_once(make, count, batch_size, seed):
    numbers = make(seed, count)
    stream = np.concatenate(
        [numbers(start + np.arange(batch_size)) for start in range(0, 3 * count, batch_size)]
    )
    if isinstance(numbers, WholeShuffle):
        epochs = stream[: 3 * count].reshape(3, count)
        assert (np.sort(epochs) == np.arange(count)).all()
        assert count < 100 or (epochs[0] != epochs[1]).any()
    else:  # a batch is in ascending order, so only whole batches can be told apart
        counted = np.bincount(stream, minlength=count)
        extra = len(stream) - 3 * count
        assert counted.min() >= 3 and counted.sum() == 3 * count + extra


@given(sizes, st.integers(1, 3 * BLOCK), st.integers(0, 3))
@settings(deadline=None, max_examples=30)
def test_a_window_holds_blocks_that_are_stored_together(count, window, seed):
    asked = []
    numbers = windows(count, window, seed=seed, read_ahead=lambda *block: asked.append(block))
    for start in range(0, count, window):
        chosen = numbers(np.arange(start, min(start + window, count)))
        assert (np.diff(chosen) > 0).all()
        # Whole blocks, but for the two at its ends; all of them were asked for.
        assert len(np.unique(chosen // BLOCK)) <= window // BLOCK + 3
        for number in chosen[:: max(len(chosen) // 20, 1)]:
            assert any(first <= number < stop for first, stop in asked)
    assert all(first % BLOCK == 0 and stop - first <= BLOCK for first, stop in asked)


def test_blocks_are_asked_for_a_window_before_they_are_needed():
    asked = []
    numbers = windows(8 * BLOCK, 2 * BLOCK, read_ahead=lambda first, stop: asked.append(first))
    numbers(np.arange(16))
    assert len(set(asked)) == 4
    second = numbers(2 * BLOCK + np.arange(2 * BLOCK))
    assert set(second // BLOCK * BLOCK) <= set(asked[:4])


def test_a_batch_does_not_depend_on_what_was_asked_before():
    positions = [start + np.arange(100) for start in (0, 9000, 300, 25_000, 100, 9000)]
    one = windows(5000, 2000)
    for position in positions:
        np.testing.assert_array_equal(one(position), windows(5000, 2000)(position))


def test_orders_differ_by_seed_epoch_and_window():
    found = [windows(3000, 1000, seed=seed)(start + np.arange(100)).tolist()
             for seed, start in ((0, 0), (1, 0), (0, 3000), (0, 1000))]  # fmt: skip
    assert len({tuple(numbers) for numbers in found}) == len(found)


def test_a_full_disk_is_an_error(monkeypatch):
    def full(file, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(order, "reserve", full)
    with pytest.raises(OSError, match="No space left"):
        WholeShuffle(0, 10)(np.arange(3))
