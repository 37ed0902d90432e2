"""Ids, dense features and event logs of Complete Journey."""

import dataclasses

import numpy as np

from kunlun_jax.data.counting import popularity_columns
from kunlun_jax.data.cross import Popularity
from kunlun_jax.data.schema import OOV_ID
from kunlun_jax.data.sources.complete_journey_households import CouponEvents
from kunlun_jax.data.sources.complete_journey_schema import CANDIDATE, LINE
from kunlun_jax.data.sources.complete_journey_tables import (
    DAY,
    LOCAL_OFFSET,
    Promotions,
    Purchases,
)
from kunlun_jax.data.sources.encoding import encode, event_log
from kunlun_jax.data.tables import EventLog
from kunlun_jax.data.windows import History, Moments

WINDOW = 28 * DAY


@dataclasses.dataclass(frozen=True)
class Candidates:
    """One row per example, in time order.

    Attributes:
        line: A transaction line of the example's basket: the positive's, also for its negatives.
        product: Dense index of the candidate.
        promotion: Row of the promotions.
        label: 1 for the products that were bought.
    """

    line: np.ndarray
    product: np.ndarray
    promotion: np.ndarray
    label: np.ndarray


def encode_columns(
    columns: dict[str, np.ndarray], train: np.ndarray, sizes: dict[str, int]
) -> dict[str, np.ndarray]:
    """Encode columns whose vocabularies have their names; adds the vocabulary sizes."""
    result = {}
    for name, values in columns.items():
        result[name], sizes[name] = encode(values, train)
    return result


def encode_products(
    attributes: dict[str, np.ndarray], lines: Purchases, candidates: Candidates, *, train_end: int
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Number products and their attributes, as far as the training period has seen them.

    Returns:
        By "product" and attribute, the id of every product; and the vocabulary sizes.
    """
    seen = np.zeros(len(attributes["category"]), dtype=bool)
    seen[lines.product[lines.time < train_end]] = True
    seen[candidates.product[lines.time[candidates.line] < train_end]] = True
    sizes: dict[str, int] = {}
    columns = {"product": np.arange(len(seen)), **attributes}
    return encode_columns(columns, seen, sizes), sizes


def product_lines(attributes: dict[str, np.ndarray]) -> np.ndarray:
    """Return int64 [products], equal where manufacturer and type are, missing ones among them.

    Args:
        attributes: By attribute, the value of every product.
    """
    maker, kind = (
        np.unique(attributes[name], return_inverse=True)[1] for name in ("manufacturer", "type")
    )
    return maker * (kind.max() + 1) + kind


def encode_visits(
    lines: Purchases, sizes: dict[str, int], *, train_end: int
) -> dict[str, np.ndarray]:
    """Number the household, store, hour and weekday of every transaction line."""
    local = lines.time - LOCAL_OFFSET
    columns = {
        "household": lines.user,
        "store": lines.store,
        "hour": local // 3600 % 24,
        # Day 0 of Unix time was a Thursday; Monday is 0.
        "weekday": (local // DAY + 3) % 7,
    }
    return encode_columns(columns, lines.time < train_end, sizes)


def household_and_slot_columns(
    candidates: Candidates,
    lines: Purchases,
    promotions: Promotions,
    demographics: dict[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Raw values of every example's household and promotion slots."""
    user = lines.user[candidates.line]
    columns = {name: values[user] for name, values in demographics.items()}
    columns["display"] = promotions.display[candidates.promotion]
    columns["mailer"] = promotions.mailer[candidates.promotion]
    return columns


def dense_features(candidates: Candidates, lines: Purchases) -> dict[str, np.ndarray]:
    """Price, discount and popularity of every example's candidate before the request.

    Price and discount are means over all stores in the 28 days before the request's day, or
    the last value before them, or NaN; popularity counts purchase lines in the 28 days before
    the request.
    """
    time = lines.time[candidates.line]
    day_start = (time - LOCAL_OFFSET) // DAY * DAY + LOCAL_OFFSET
    bought = Moments.build(lines.product, lines.time)
    result = {"popularity_28d": bought.count(candidates.product, time - WINDOW, time)}
    for name, values in {"price": lines.price, "discount": lines.discount}.items():
        history = History.build(lines.product, lines.time, values)
        result[name] = history.mean_or_last(candidates.product, day_start - WINDOW, day_start)
    return result


def popularity(
    declared: Popularity,
    attributes: dict[str, np.ndarray],
    candidates: Candidates,
    lines: Purchases,
) -> np.ndarray:
    """Return the columns of a declaration, of what is in no vocabulary, too.

    Args:
        declared: The declaration; its ids are "product" and attributes of products.
        attributes: By attribute, the value of every product.
        candidates: The examples.
        lines: The purchases.
    """
    keys = {}
    for name in declared.ids:
        if name == "product":
            keys[name] = lines.product, candidates.product
            continue
        codes = np.unique(attributes[name], return_inverse=True)[1]
        keys[name] = codes[lines.product], codes[candidates.product]
    return popularity_columns(declared, lines.time, keys, lines.time[candidates.line])


def purchase_log(num_users: int, lines: Purchases, item_ids: dict[str, np.ndarray]) -> EventLog:
    """One event per transaction line."""
    names = [name for name in (*CANDIDATE, LINE) if name in item_ids]
    ids = {name: item_ids[name][lines.product] for name in names}
    dense = [lines.quantity, lines.price, lines.discount]
    return event_log(num_users, lines.user, lines.time, ids, dense)


def trip_log(num_users: int, lines: Purchases, visit_ids: dict[str, np.ndarray]) -> EventLog:
    """One event per basket."""
    _, first = np.unique(lines.basket, return_index=True)
    size = np.bincount(lines.basket)
    spend = np.bincount(lines.basket, weights=lines.spend)
    ids = {name: visit_ids[name][first] for name in ("store", "hour", "weekday")}
    return event_log(num_users, lines.user[first], lines.time[first], ids, [size, spend])


def coupon_log(
    num_users: int,
    coupons: CouponEvents,
    item_ids: dict[str, np.ndarray],
    sizes: dict[str, int],
    *,
    train_end: int,
) -> EventLog:
    """One event per campaign received or coupon redeemed; adds the vocabulary sizes."""
    columns = {
        "kind": coupons.redeemed,
        "campaign": coupons.campaign,
        "campaign_type": coupons.campaign_type,
    }
    ids = encode_columns(columns, coupons.time < train_end, sizes)
    has_product = coupons.product >= 0
    for name in ("category", "department"):
        ids[name] = np.where(has_product, item_ids[name][coupons.product], OOV_ID)
    return event_log(num_users, coupons.user, coupons.time, ids, [])
