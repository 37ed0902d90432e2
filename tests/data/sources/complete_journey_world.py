"""Made-up files of Complete Journey, and an oracle that answers questions about them in loops."""

import collections
import dataclasses
import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DAY = 86400
START = int(datetime.datetime(2017, 9, 4, tzinfo=datetime.UTC).timestamp())
VALIDATION = int(datetime.datetime(2017, 10, 22, tzinfo=datetime.UTC).timestamp())
TEST = int(datetime.datetime(2017, 11, 26, tzinfo=datetime.UTC).timestamp())
FILE_COLUMNS = {"category": "product_category", "type": "product_type"}
DEMOGRAPHICS = (
    *("age", "income", "home_ownership", "marital_status"),
    *("household_size", "household_comp", "kids_count"),
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

    def line(self, product):
        return self.attribute(product, "manufacturer"), self.attribute(product, "type")

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
