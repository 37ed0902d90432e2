"""Where the rows of a vocabulary stand in its table.

Ids are numbered by popularity as often as not, and a table that is split over devices is split into
blocks of consecutive rows: in the order of the ids, one device would own what most batches ask for.
So the rows of a large table are dealt to `LANES` lanes, and a device owns some whole lanes:

    lane(id) = 633 id mod LANES,   row(id) = lane(id) * (rows / LANES) + floor(id / LANES)

633 is odd, so this is a bijection; and it is LANES over the golden ratio, so that consecutive ids
fall into lanes far apart. Nothing here depends on how many devices there are.
"""

import jax.numpy as jnp

from kunlun_jax.data.schema import OOV_ID
from kunlun_jax.shapes import Array, Int

LANES = 1024
_STRIDE = 633
# From here on the rows that fill the lanes are at most a sixteenth of the table.
_LARGE = 16 * LANES


def stored_rows(num_rows: int) -> int:
    """Return the rows that are stored for so many: of a large table, the next multiple of LANES.

    Any power of two of devices, up to LANES of them, can share those equally.
    """
    return -(-num_rows // LANES) * LANES if num_rows >= _LARGE else num_rows


def known_ids(ids: Int[Array, "*ids"], num_rows: int) -> Int[Array, "*ids"]:
    """Return the ids with everything outside 1 .. num_rows - 1 replaced by the OOV row's, 0."""
    return jnp.where((ids > OOV_ID) & (ids < num_rows), ids, OOV_ID)


def row_of(ids: Int[Array, "*ids"], num_rows: int) -> Int[Array, "*ids"]:
    """Return the stored row of every id; row 0 is the OOV row, and that of any id without a row.

    Args:
        ids: Any integers.
        num_rows: Rows of the vocabulary, the OOV row included.
    """
    ids = known_ids(ids, num_rows)
    if num_rows < _LARGE:
        return ids
    lane = ids % LANES * _STRIDE % LANES
    return lane * (stored_rows(num_rows) // LANES) + ids // LANES
