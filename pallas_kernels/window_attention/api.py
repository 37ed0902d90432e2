"""The public function of window attention."""

from functools import partial
from numbers import Integral
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from pallas_kernels import tiles
from pallas_kernels.implementation import resolve_implementation
from pallas_kernels.rotation import rotate, rotation_angles, sin_cos
from pallas_kernels.tile_choices import choose
from pallas_kernels.validation import (
    check_floating,
    check_shape,
    checked_lengths,
)
from pallas_kernels.window_attention.backward import Rotation, Saved, backward
from pallas_kernels.window_attention.forward import Inputs, forward
from pallas_kernels.window_attention.reference import window_attention_reference


# The arrays carry no shape annotations, here and in the other two public functions, so that a
# wrong shape meets the messages below also where jaxtyping's checks are switched on.
def window_attention(
    query: Array,
    key: Array,
    value: Array,
    *,
    lengths: Array | None = None,
    window_size: int,
    positions: Array | None = None,
    times: Array | None = None,
    position_frequencies: Array | None = None,
    time_frequencies: Array | None = None,
    implementation: str | None = None,
) -> Array:
    """Compute multi-head sliding-window self-attention with ROTE (Kunlun; docs/model.md#rote).

        out[b,t,n] = sum_s softmax_s(q[b,t,n] . k[b,s,n] / sqrt(H)) v[b,s,n],   |t - s| <= w

    With `positions` or `times`, query and key are rotated first: the pair (x[i], x[i + H/2]) of
    every head by the angle positions * position_frequencies[i] + times * time_frequencies[i].
    Deviation: the pairs are half-split, not interleaved; see `pallas_kernels.rotation.rotate`.

    Angles, rotation, scores, softmax and sums are f32 whatever the dtype of the inputs; the
    weights are rounded to the inputs' dtype before the product with `value`. Time and memory grow
    as T * w. Reverse-mode differentiation only.

    Args:
        query: [B, T, N, H], oldest event first.
        key: [B, T, N, H].
        value: [B, T, N, H].
        lengths: [B] integers, cut to 0..T; None for full. Rows beyond are padding: never read;
            their outputs and gradients are exactly 0.
        window_size: w >= 0, a Python integer; w >= T is full attention.
        positions: [B, T], in events; or None. Not differentiated.
        times: [B, T], tau = log(1 + dt / t_scale), without unit; or None. Not differentiated.
        position_frequencies: [H/2], radian per event; with `positions` only. Differentiable.
        time_frequencies: [H/2], radian per unit of tau; with `times` only. Differentiable.
        implementation: one of `pallas_kernels.IMPLEMENTATIONS`; None picks the best that applies.

    Returns:
        [B, T, N, H] in the dtype of `query`. A row without a valid key is 0.

    Raises:
        ValueError: a shape, dtype, window size or implementation other than the above; positions
            or times without their frequencies, or the reverse; rotation of an odd H.

    Examples:
        Equal scores average the values that the window holds: each event and its neighbours.

        >>> zeros = jnp.zeros((1, 4, 1, 2))
        >>> value = jnp.broadcast_to(jnp.arange(4.0)[None, :, None, None], zeros.shape)
        >>> out = window_attention(zeros, zeros, value, window_size=1)
        >>> out[0, :, 0, 0].tolist()
        [0.5, 1.0, 2.0, 2.5]
    """
    check_shape("query", query, (None,) * 4, "[B, T, N, H]")
    batch, time, _, dim = query.shape
    check_shape("key", key, query.shape, "[B, T, N, H] of query")
    check_shape("value", value, query.shape, "[B, T, N, H] of query")
    check_floating({"query": query, "key": key, "value": value})
    lengths = checked_lengths("lengths", lengths, batch, time)
    if not isinstance(window_size, Integral) or window_size < 0:
        raise ValueError(f"window_size: expected a Python integer >= 0, got {window_size!r}")
    for name, values, frequencies in (
        ("position", positions, position_frequencies),
        ("time", times, time_frequencies),
    ):
        _check_rotation(name, values, frequencies, (batch, time), dim)
    runs = resolve_implementation(implementation, dtype=query.dtype, head_dim=dim)
    positions, times = jax.lax.stop_gradient((positions, times))
    if runs == "xla":
        angles = rotation_angles(positions, times, position_frequencies, time_frequencies, lengths)
        return window_attention_reference(query, key, value, lengths, int(window_size), angles)
    rotated = positions is not None or times is not None
    rotation = _Rotation(
        _or_zeros(positions, (batch, time)),
        _or_zeros(times, (batch, time)),
        tiles.pad_last(_or_zeros(position_frequencies, (dim // 2,)), tiles.padded_size(dim // 2)),
        tiles.pad_last(_or_zeros(time_frequencies, (dim // 2,)), tiles.padded_size(dim // 2)),
    )
    pad = partial(tiles.pad_head_dim, halves=rotated)
    out: Any = _kernels(
        Inputs(pad(query), pad(key), pad(value), tiles.full_or(lengths, query)),
        rotation if rotated else None,
        _Options(min(int(window_size), time), tiles.LOG2_E * dim**-0.5, runs == "triton_interpret"),
    )
    return tiles.unpad_head_dim(out, dim, halves=rotated)


class _Rotation(NamedTuple):
    positions: Array
    times: Array
    theta: Array
    phi: Array

    def table(self, lengths: Array) -> Rotation:
        """Return what the kernels read; padded rows are not turned."""
        angles = rotation_angles(self.positions, self.times, self.theta, self.phi, lengths)
        assert angles is not None
        positions, times = (x.astype(jnp.float32) for x in (self.positions, self.times))
        return Rotation(*sin_cos(angles), positions, times)


class _Options(NamedTuple):
    window: int
    scale: float
    interpret: bool


def _or_zeros(x: Array | None, shape: tuple[int, ...]) -> Array:
    return jnp.zeros(shape, jnp.float32) if x is None else x.astype(jnp.float32)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _kernels(inputs: Inputs, rotation: _Rotation | None, options: _Options) -> Array:
    return _forward(inputs, rotation, options)[0]


def _forward(inputs: Inputs, rotation: _Rotation | None, options: _Options) -> tuple[Array, tuple]:
    if rotation:
        # In XLA, which fuses it into whatever writes queries and keys; the kernels would turn
        # every key for each tile of queries that sees it. The backward pass needs no unturned row.
        table = rotation.table(inputs.lengths)
        query, key = (rotate(x, table.sin, table.cos) for x in (inputs.query, inputs.key))
        inputs = inputs._replace(query=query, key=key)
    tile = choose("window_attention_forward", inputs.query, **_sizes(inputs.query, options))
    out, lse = forward(inputs, tile=tile, **options._asdict())
    return out, (inputs, rotation, out, lse)


def _gradients(options: _Options, saved: tuple, cotangent: Array) -> tuple:
    inputs, rotation, out, lse = saved
    query = inputs.query
    table = rotation.table(inputs.lengths) if rotation else None
    sizes = {**_sizes(query, options), "rotated": rotation is not None}
    gradients = backward(
        Saved(inputs, table, out, lse, cotangent.astype(query.dtype)),
        query_tile=choose("window_attention_backward_queries", query, **sizes),
        key_tile=choose("window_attention_backward_keys", query, **sizes),
        **options._asdict(),
    )
    of_rotation = None
    if rotation:
        assert gradients.theta is not None and gradients.phi is not None
        none = jnp.zeros_like(rotation.positions)
        of_rotation = _Rotation(none, none, gradients.theta, gradients.phi)
    of_inputs = inputs._replace(
        query=gradients.query, key=gradients.key, value=gradients.value, lengths=None
    )
    return of_inputs, of_rotation


def _sizes(query: Array, options: _Options) -> dict[str, Any]:
    rows = query.shape[1]
    return {"rows": rows, "keys": min(rows, 2 * options.window + 1)}


_kernels.defvjp(_forward, _gradients)


def _check_rotation(
    name: str,
    values: Array | None,
    frequencies: Array | None,
    shape: tuple[int, int],
    dim: int,
) -> None:
    if values is None and frequencies is None:
        return
    if values is None or frequencies is None:
        given, missing = f"{name}_frequencies", f"{name}s"
        if frequencies is None:
            given, missing = missing, given
        raise ValueError(f"{missing}: expected together with {given}, got None")
    if dim % 2:
        raise ValueError(f"query: expected an even H to rotate pairs, got H = {dim}")
    check_shape(f"{name}s", values, shape, "[B, T]")
    check_shape(f"{name}_frequencies", frequencies, (dim // 2,), "[H/2]")
