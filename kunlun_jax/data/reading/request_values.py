"""The single values of requests: what may stand for an id, a number or a time, and what may not."""

import numbers as kinds
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kunlun_jax.data.hashing import hashed_ids, id_dtype, is_known
from kunlun_jax.data.quality.consistency import LATEST_SECOND
from kunlun_jax.data.schema import OOV_ID, Schema


class RequestError(ValueError):
    """A request that contradicts the schema; the message names request, field, expected and got."""


def known_ids(values: Any, vocabulary: str, schema: Schema, subject: str) -> np.ndarray:
    """Return ids, those without a row replaced by the OOV row, in the vocabulary's type.

    Args:
        values: Integers; or texts, where the vocabulary is hashed, and None for nothing.
        vocabulary: Its name.
        schema: The schema.
        subject: What a message is about.

    Raises:
        RequestError: On values of another type.
    """
    described = schema.vocabulary_by_name[vocabulary]
    dtype = id_dtype(described)
    if described.hashes:
        texts = [value for value in values if isinstance(value, str)]
        given = [value is not None for value in values]
        if texts and len(texts) == sum(given):
            hashed = np.full(len(values), OOV_ID, dtype)
            hashed[given] = hashed_ids(texts, described)
            return hashed
    ids = integers(values, subject)
    return np.where(is_known(ids, described), ids, OOV_ID).astype(dtype)


def shape_of(values: Any) -> tuple[int, ...]:
    """Return the shape of what comes from outside; () of what is no array, as lists in lists."""
    try:
        return np.shape(values)
    except ValueError:
        return ()


def integers(values: Any, subject: str) -> np.ndarray:
    """Return a list of integers as an array; of objects, where 64 bits do not hold them.

    Raises:
        RequestError: If it is none.
    """
    try:
        array = np.asarray(values)
    except ValueError:  # lists of several lengths
        array = np.zeros((), object)
    if array.ndim != 1:
        raise RequestError(f"{subject}: expected a list of integers, got {values!r:.60}")
    if not array.size:
        return np.zeros(0, np.int64)
    # Python's integers past 64 bits make an array of objects.
    large = array.dtype == object and all(type(value) is int for value in array)
    if array.dtype.kind not in "iu" and not large:
        raise RequestError(f"{subject}: expected integers, got {values!r:.60}")
    return array


def numbers(values: Any, subject: Callable[[int], str]) -> np.ndarray:
    """Return float32, NaN for None.

    Args:
        values: Numbers and None.
        subject: What a message about the n-th value is about, a function of n.

    Raises:
        RequestError: On anything else.
    """
    flat = len(shape_of(values)) == 1
    if not flat or np.asarray(values).dtype.kind not in "iuf":
        for index, value in enumerate(values):
            real = isinstance(value, kinds.Real) and not isinstance(value, bool)
            if value is not None and not real:
                raise RequestError(f"{subject(index)}: expected a number, got {value!r:.60}")
    try:
        with np.errstate(over="ignore"):
            return np.asarray(values, np.float64).astype(np.float32)
    except OverflowError as error:  # an integer of a thousand bits
        raise RequestError(f"{subject(0)}: expected numbers of 64 bits: {error}") from error


def second(value: Any, subject: str) -> int:
    """Return Unix seconds.

    Raises:
        RequestError: If they are none.
    """
    (time,) = integers([value], subject)
    require_seconds(time, subject)
    return int(time)


def require_seconds(latest: Any, subject: str) -> None:
    """Refuse a time that can only be in another unit.

    Raises:
        RequestError: If it is one.
    """
    if latest > LATEST_SECOND:
        raise RequestError(f"{subject}: expected Unix seconds, got {latest}")


def require_known(subject: str, got: Any, known: list[str]) -> None:
    """Refuse what is no mapping, and names that the schema does not have.

    Raises:
        RequestError: If there are any.
    """
    if not isinstance(got, Mapping):
        raise RequestError(f"{subject}: expected a mapping, got {got!r:.60}")
    unknown = sorted(set(got) - set(known), key=str)
    if unknown:
        raise RequestError(f"{subject}: expected names of {known}, got {unknown[0]!r}")
