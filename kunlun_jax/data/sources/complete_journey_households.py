"""Reads what Complete Journey knows about households besides purchases."""

import dataclasses
import pathlib

import numpy as np
import pyarrow as pa

from kunlun_jax.data.sources.complete_journey_tables import (
    DAY,
    LOCAL_OFFSET,
    Columns,
    read_columns,
    seconds,
    text,
)
from kunlun_jax.data.sources.encoding import index_of

DEMOGRAPHIC_COLUMNS = (
    "age",
    "income",
    "home_ownership",
    "marital_status",
    "household_size",
    "household_comp",
    "kids_count",
)


@dataclasses.dataclass(frozen=True)
class CouponEvents:
    """Campaigns received and coupons redeemed, in no particular order.

    Attributes:
        user: Dense index of the household.
        time: Unix seconds of the end of the (local) day on which it happened.
        redeemed: Whether it is a redemption.
        campaign: Campaign number.
        campaign_type: "Type A" .. "Type C".
        product: Of a redemption, index of a product that stands for the coupon (the
            lowest one of its most common category); -1 otherwise.
    """

    user: np.ndarray
    time: np.ndarray
    redeemed: np.ndarray
    campaign: np.ndarray
    campaign_type: np.ndarray
    product: np.ndarray


def read_coupon_events(
    directory: pathlib.Path, users: np.ndarray, products: np.ndarray, category: np.ndarray
) -> CouponEvents:
    """Read which household received which campaign, and which coupons it redeemed.

    Args:
        directory: Folder of the files.
        users: Ascending household numbers.
        products: Ascending product numbers.
        category: Category of every product.
    """
    files = ("campaign_descriptions", "campaigns", "coupon_redemptions", "coupons")
    described, received, redeemed, coupons = (read_columns(directory, name) for name in files)
    numbers = described["campaign_id"].to_numpy()
    by_number = np.argsort(numbers)

    def joined(name: str) -> np.ndarray:
        return np.concatenate([received[name].to_numpy(), redeemed[name].to_numpy()])

    campaign = joined("campaign_id")
    row = by_number[np.searchsorted(numbers[by_number], campaign)]
    num_received = len(received["campaign_id"])
    dates = seconds(described["start_date"].to_numpy())[row]
    dates[num_received:] = seconds(redeemed["redemption_date"].to_numpy())
    product = np.full(len(campaign), -1)
    product[num_received:] = _coupon_products(coupons, redeemed["coupon_upc"], products, category)
    user = index_of(users, joined("household_id"))
    known = user >= 0
    return CouponEvents(
        user=user[known].astype(np.int32),
        time=(dates + DAY + LOCAL_OFFSET)[known],
        redeemed=(np.arange(len(campaign)) >= num_received)[known],
        campaign=campaign[known],
        campaign_type=text(described["campaign_type"])[row][known],
        product=product[known],
    )


def read_demographics(directory: pathlib.Path, users: np.ndarray) -> dict[str, np.ndarray]:
    """Read one string per household and demographic column, "" if unknown."""
    columns = read_columns(directory, "demographics")
    user = index_of(users, columns["household_id"].to_numpy())
    result = {}
    for name in DEMOGRAPHIC_COLUMNS:
        column = text(columns[name])
        values = np.zeros(len(users), dtype=column.dtype)
        values[user[user >= 0]] = column[user >= 0]
        result[name] = values
    return result


def _coupon_products(
    coupons: Columns, redeemed: pa.ChunkedArray, products: np.ndarray, category: np.ndarray
) -> np.ndarray:
    """For each redeemed coupon, the lowest product of its most common category, or -1."""
    product = index_of(products, coupons["product_id"].to_numpy())
    coupon = coupons["coupon_upc"].to_numpy()[product >= 0]
    product = product[product >= 0]
    code = np.unique(category, return_inverse=True)[1][product]
    order = np.lexsort((product, code, coupon))
    coupon, code, product = coupon[order], code[order], product[order]
    # Runs of one coupon and one category; of a coupon's runs, the longest (then the first).
    new = np.append(True, (coupon[1:] != coupon[:-1]) | (code[1:] != code[:-1]))
    start = np.flatnonzero(new)
    size = np.diff(np.append(start, len(coupon)))
    best = start[np.lexsort((start, -size, coupon[start]))]
    names, first = np.unique(coupon[best], return_index=True)
    position = index_of(names, redeemed.to_numpy())
    return np.where(position >= 0, product[best[first]][position], -1)
