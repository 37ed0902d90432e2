"""Properties of the real data set, against the files it came from.

The data set is the one that training uses; it is built here if there is none yet (a minute).
"""

import pathlib

import numpy as np
import pyarrow.parquet as pq
import pytest

from kunlun_jax.data import BatchSource
from kunlun_jax.data.build import open_or_build
from kunlun_jax.data.sources import complete_journey
from kunlun_jax.data.sources.complete_journey_tables import PACKAGE, find_directory

ROOT = pathlib.Path(__file__).parents[2]
DATES = {
    "train": ("2017-01-01", "2017-10-22"),
    "validation": ("2017-10-22", "2017-11-26"),
    "test": ("2017-11-26", "2018-01-03"),
}


@pytest.fixture(scope="module")
def built():
    try:
        find_directory()
    except FileNotFoundError:
        pytest.skip(f"{PACKAGE} is not installed")
    directory = ROOT / "datasets" / "complete_journey"
    return open_or_build("complete_journey", complete_journey.Options(), directory)


@pytest.fixture(scope="module")
def transactions(built):
    """Columns of the file in the order of the purchase log."""
    table = pq.read_table(find_directory() / "transactions.parquet")
    columns = {name: table[name].to_numpy() for name in table.column_names}
    columns["time"] = columns["transaction_timestamp"].astype("datetime64[s]").astype(np.int64)
    order = np.lexsort((columns["basket_id"], columns["time"], columns["household_id"]))
    columns = {name: column[order] for name, column in columns.items()}
    columns["user"] = np.unique(columns["household_id"], return_inverse=True)[1]
    return columns


@pytest.fixture(scope="module")
def tested(built, transactions):
    """The test examples, with what the transactions say about their basket.

    Left out: the moments at which a household has two baskets.
    """
    examples = built.splits["test"]
    key = moments(transactions["user"], transactions["time"])
    unique, first = np.unique(key, return_index=True)
    _, last = np.unique(key[::-1], return_index=True)
    asked = moments(examples.users, examples.request_times)
    position = np.searchsorted(unique, asked)
    np.testing.assert_array_equal(unique[position], asked)
    line = first[position]
    one = transactions["basket_id"][first] == transactions["basket_id"][::-1][last]
    product = product_of_id(built, transactions)[examples.sparse["product"][:, 0]]
    return {
        "line": line,
        "usable": one[position] & (product >= 0),
        "product": product,
        "label": examples.labels[:, 0],
        "key": asked,
    }


def moments(user, time):
    return user.astype(np.int64) * 10**10 + time


def product_of_id(built, transactions):
    """The product number of every id that was ever bought, -1 for the others and for OOV."""
    log = built.logs["purchase"]
    np.testing.assert_array_equal(log.times, transactions["time"])
    ids, number = log.ids["product"], transactions["product_id"]
    result = np.full(built.schema.vocabulary_by_name["product"].num_rows, -1)
    result[ids] = number
    known = ids > 0
    np.testing.assert_array_equal(result[ids[known]], number[known])
    result[0] = -1
    return result


def test_size_and_rates(built):
    rows = built.manifest["counts"]["rows"]
    assert rows == {"train": 1_308_994, "validation": 144_894, "test": 151_255}
    assert built.manifest["counts"]["events"]["purchase"] == 1_469_307
    assert built.num_users == 2_469
    for rates in built.manifest["label_rates"].values():
        assert rates["purchase"] == pytest.approx(0.2035, abs=5e-4)


@pytest.mark.parametrize("split", DATES)
def test_splits_by_date(built, split):
    low, high = (np.datetime64(d, "s").astype(np.int64) for d in DATES[split])
    times = built.splits[split].request_times
    assert low <= times.min()
    assert times.max() < high


@pytest.mark.parametrize("split", DATES)
@pytest.mark.parametrize("stream", ["purchase", "trip", "coupon"])
def test_no_event_at_or_after_the_request_and_none_left_out(built, split, stream):
    examples, log = built.splits[split], built.logs[stream]
    start, stop = log.offsets[examples.users], log.offsets[examples.users + 1]
    end = start + examples.ends[stream]
    times = np.append(log.times, 0)
    assert (times[np.maximum(end - 1, 0)] < examples.request_times)[end > start].all()
    assert (times[end] >= examples.request_times)[end < stop].all()


def test_batches_hold_only_the_past(built):
    lens = {"purchase": 256, "trip": 64, "coupon": 16}
    batch = BatchSource(built, split="train", batch_size=2048, max_lens=lens)[3]
    for name, stream in batch.streams.items():
        real = np.arange(lens[name]) < stream.lengths[:, None]
        assert real.any()
        assert (stream.ages[real] > 0).all()
        assert (np.diff(stream.ages, axis=1) <= 0)[:, : stream.lengths.min()].all()
        assert not stream.ages[~real].any()


def test_labels_say_what_was_bought(tested, transactions):
    bought = np.unique(
        moments(transactions["user"], transactions["time"])
        + 10**14 * np.unique(transactions["product_id"], return_inverse=True)[1]
    )
    products = np.unique(transactions["product_id"])
    use = tested["usable"]
    index = np.searchsorted(products, tested["product"][use])
    found = np.isin(tested["key"][use] + 10**14 * index, bought)
    np.testing.assert_array_equal(found, tested["label"][use] == 1)
    assert use.mean() > 0.8


def test_candidates_are_promoted_in_the_store_and_week(tested, transactions):
    columns = ["product_id", "store_id", "week"]
    table = pq.read_table(
        find_directory() / "promotions.parquet", columns=columns, filters=[("week", ">=", 47)]
    )
    product, store, week = (table[name].to_numpy() for name in columns)
    promoted = np.unique((product * 100_000 + store) * 64 + week)
    line = tested["line"][tested["usable"]]
    assert transactions["week"][line].min() >= 47
    store_key = tested["product"][tested["usable"]] * 100_000 + transactions["store_id"][line]
    assert np.isin(store_key * 64 + transactions["week"][line], promoted).all()


@pytest.mark.parametrize("split", DATES)
def test_a_positive_is_followed_by_its_negatives(built, split):
    examples = built.splits[split]
    label = examples.labels[:, 0] == 1
    assert label[0]
    group = np.cumsum(label)
    sizes = np.bincount(group)[1:]
    assert sizes.max() == 5
    # What two positives of a basket both drew counts once.
    assert (sizes == 5).mean() > 0.9
    first = np.flatnonzero(label)[group - 1]
    for column in (examples.users, examples.request_times, examples.sparse["store"][:, 0]):
        np.testing.assert_array_equal(column, column[first])


def test_a_request_offers_a_product_once(tested):
    use = tested["usable"]
    products = np.unique(tested["product"][use], return_inverse=True)[1]
    pairs = tested["key"][use] + 10**14 * products
    assert len(np.unique(pairs)) == len(pairs)


def test_vocabularies_hold_what_training_has_seen(built):
    train, test = built.splits["train"], built.splits["test"]
    for feature in built.schema.sparse:
        assert (train.sparse[feature.name] > 0).all(), feature.name
    assert 0.01 < (test.sparse["product"] == 0).mean() < 0.05


def test_popularity_counts_the_days_before(built, transactions):
    examples = built.splits["test"]
    rng = np.random.default_rng(0)
    numbers = product_of_id(built, transactions)
    for row in rng.choice(len(examples), 100, replace=False):
        product, now = numbers[examples.sparse["product"][row, 0]], examples.request_times[row]
        if product < 0:
            continue
        time = transactions["time"][transactions["product_id"] == product]
        expected = ((time >= now - 28 * 86400) & (time < now)).sum()
        assert examples.dense[row, 2] == expected


def test_schemas_that_are_known_without_the_data():
    for lines in (True, False):
        known = complete_journey.known_schema(complete_journey.Options(product_lines=lines))
        assert ("line" in known.vocabulary_by_name) == lines
    assert complete_journey.known_schema(complete_journey.Options(seed=1)) is None
