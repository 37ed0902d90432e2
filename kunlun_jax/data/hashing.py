"""Ids of open vocabularies: hashes of the values, made on the host, in 64 bits.

With h1 the last and h2 the first eight bytes of the MD5 of a value as UTF-8 text, each an unsigned
integer with the lowest byte first, and n known ids:

    one hash         id  = 1 + h1 mod n
    double hashing   ids = 1 + h1 mod n, 1 + h2 mod n      their embeddings are summed

Two values look equal to a model where all their ids meet: with double hashing, which needs no
larger table, about n times as seldom.

A pair of ids is one number, first + 2^32 second, in files and columns, which then know no pairs;
`separate` takes it apart where a batch is made, for training and for serving alike.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from kunlun_jax.data.schema import OOV_ID, Schema, Vocabulary

_HALF = 32
_MASK = 2**_HALF - 1


def id_dtype(vocabulary: Vocabulary) -> type[np.signedinteger]:
    """Return the type of a column of ids: int64 for pairs, else int32."""
    return np.int64 if vocabulary.hashes == 2 else np.int32


def id_dtypes(schema: Schema) -> dict[str, type[np.signedinteger]]:
    """Return by vocabulary what `id_dtype` says of it."""
    return {v.name: id_dtype(v) for v in schema.vocabularies}


def hashed_ids(values: Sequence[str], vocabulary: Vocabulary) -> np.ndarray:
    """Return the ids of values, as a build has them in its columns.

    Args:
        values: Text.
        vocabulary: A hashed one.
    """
    assert vocabulary.hashes, f"{vocabulary.name} is not hashed"
    digests = [hashlib.md5(value.encode(), usedforsecurity=False).digest() for value in values]
    halves = np.frombuffer(b"".join(digests), "<u8").reshape(-1, 2)
    ids = 1 + (halves % np.uint64(vocabulary.num_ids)).astype(np.int64)
    if vocabulary.hashes == 1:
        return ids[:, 1].astype(np.int32)
    return ids[:, 1] + (ids[:, 0] << _HALF)


def is_known(ids: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """Return which ids have rows of their own; the others are out of vocabulary."""
    first, *more = (ids & _MASK, ids >> _HALF) if vocabulary.hashes == 2 else (ids,)
    known = (first > OOV_ID) & (first <= vocabulary.num_ids)
    for part in more:
        known &= (part > OOV_ID) & (part <= vocabulary.num_ids)
    return np.asarray(known, bool)


def separate(ids: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """Return int32 ids as a model takes them: of pairs [..., 2], of others as they are."""
    if vocabulary.hashes != 2:
        return ids
    return np.stack([ids & _MASK, ids >> _HALF], axis=-1).astype(np.int32)


def expected_collision_rate(num_values: int, num_ids: int, hashes: int) -> float:
    """Return the share of values of which another one has all ids, if hashes are random.

    Args:
        num_values: Different values.
        num_ids: Known ids.
        hashes: 1 or 2; of a pair, the order does not matter.
    """

    def met(probability: float) -> float:
        return float(-np.expm1((num_values - 1) * np.log1p(-min(probability, 1 - 1e-16))))

    single = 1 / num_ids
    if num_values < 2 or hashes == 1:
        return met(single) if num_values > 1 else 0.0
    return (1 - single) * met(2 * single**2) + single * met(single**2)
