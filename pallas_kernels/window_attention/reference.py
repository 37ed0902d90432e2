"""Window attention in XLA: banded, O(T w) in time and memory; what runs where no kernel applies.

Queries are cut into blocks of 32 rows; a block sees its own keys and w more on either side, so that
32 + 2w keys are scored for each row, where the window has 2w + 1. Smaller blocks would waste fewer
scores, but below 32 rows the batched products slow down faster than the waste shrinks.
"""

from functools import partial

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pallas_kernels.batched import merge_heads, split_heads, zero_padding
from pallas_kernels.chunks import SCORE_BYTES, map_examples
from pallas_kernels.rotation import rotate_for_scores, rotation_table
from pallas_kernels.softmax_attention import MASKED, softmax_attention
from pallas_kernels.window_attention.blocks import gather_windows

_BLOCK = 32
# Up to this many times the keys of a banded row, the full square is cheaper than cutting windows.
_FULL_BELOW = 1.5


def window_attention_reference(
    query: Float[Array, "B T N H"],
    key: Float[Array, "B T N H"],
    value: Float[Array, "B T N H"],
    lengths: Int[Array, " B"] | None,
    window_size: int,
    angles: Float[Array, "B T H2"] | None,
) -> Float[Array, "B T N H"]:
    """Compute softmax(Q_t K_[t-w,t+w]^T / sqrt(H)) V_[t-w,t+w]; softmax and sums in f32.

    See `pallas_kernels.window_attention.window_attention` for the arguments; query and key are
    rotated by `angles` first, which are finite in the padding.
    """
    _, time, heads, _ = query.shape
    window = min(window_size, time)
    pairs = time * heads * (_BLOCK + 2 * window if _is_banded(time, window) else time)
    sin, cos = (None, None) if angles is None else rotation_table(angles)
    arrays = (query, key, value, lengths, angles, sin, cos)
    attend = partial(_attend, window=window)
    return map_examples(attend, *arrays, score_bytes=SCORE_BYTES * pairs)


def _is_banded(time: int, window: int) -> bool:
    return time > _FULL_BELOW * (_BLOCK + 2 * window)


def _attend(
    query: Array,
    key: Array,
    value: Array,
    lengths: Array | None,
    angles: Array | None,
    sin: Array | None,
    cos: Array | None,
    window: int,
) -> Array:
    batch, time, heads, dim = query.shape
    dtype, scale = query.dtype, dim**-0.5
    query, key = zero_padding(query, lengths), zero_padding(key, lengths)
    value = zero_padding(value, lengths)
    if angles is None or sin is None or cos is None:
        query = (query * scale).astype(dtype)
    else:
        query = rotate_for_scores(query, angles, sin, cos, scale)
        key = rotate_for_scores(key, angles, sin, cos, 1.0)
    if lengths is None:
        lengths = jnp.full((batch,), time, jnp.int32)
    out = _banded(
        merge_heads(query),
        merge_heads(key),
        merge_heads(value),
        jnp.repeat(lengths, heads),
        window,
    )
    return split_heads(out.astype(dtype), heads)


def _banded(
    query: Float[Array, "G T H"],
    key: Float[Array, "G T H"],
    value: Float[Array, "G T H"],
    lengths: Int[Array, " G"],
    window: int,
) -> Float[Array, "G T H"]:
    groups, time, dim = query.shape
    banded = _is_banded(time, window)
    block, halo = (_BLOCK, window) if banded else (time, 0)
    blocks, size = -(-time // block), block + 2 * halo
    rows = np.arange(blocks * block).reshape(blocks, block)
    keys = np.arange(blocks)[:, None] * block + np.arange(-halo, block + halo)
    reach = np.abs(rows[0][:, None] - keys[0][None, :]) <= window
    seen = (keys >= 0) & (keys < lengths[:, None, None])
    row_valid = rows < lengths[:, None, None]
    if banded:
        query = jnp.pad(query, ((0, 0), (0, blocks * block - time), (0, 0)))
        key, value = gather_windows(key, block, halo), gather_windows(value, block, halo)
    out = softmax_attention(
        query.reshape(groups * blocks, block, dim),
        key.reshape(groups * blocks, size, dim),
        value.reshape(groups * blocks, size, dim),
        jnp.where(seen, 0.0, MASKED).reshape(groups * blocks, 1, size),
        jnp.asarray(np.where(reach, 0.0, MASKED), jnp.float32),
        row_valid.reshape(groups * blocks, block, 1),
    )
    return out.reshape(groups, blocks * block, dim)[:, :time]
