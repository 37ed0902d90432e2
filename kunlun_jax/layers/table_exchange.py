"""Rows of embedding tables that are split over devices: fetched for a batch, and updated by it.

Device i of n owns a contiguous block of a table's rows. Every device needs the distinct rows of
its own examples, `rows` below, in ascending order, so those of one owner stand together. Both
directions send ids and rows, never the table:

    fetch   ids -> owners, rows -> back
    push    ids and gradients -> owners, who add up what several devices send for one row

Each message between two devices has room for C rows, a little more than an even share. Ids need not
be spread evenly; then it takes several rounds. In a plan of S rounds, round r exchanges the r-th of
S equal parts of every owner's rows, so that all gradients of a row meet in one round. S is the
smallest power of two with which every part fits, found anew for every batch; all devices agree on
it. A part with no more rows than C always fits, so there is always such an S, and the result is
exact.

All functions run inside `jax.shard_map` over every axis of the mesh.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from kunlun_jax.shapes import Array, Float, Int

# Room of a message, relative to an even share of the rows over the owners.
_SLACK = 1.25
_SMALLEST_MESSAGE = 8


class Plan(NamedTuple):
    """How the rows of one device are spread over owners and rounds.

    Attributes:
        bounds: [n, parts + 1] int32, where in `rows` each part of each owner's rows begins.
        rounds: Rounds of the exchange, a power of two that divides `parts`.
        capacity: C, rows of a message.
        block: Rows that each device owns.
        axes: All axes of the mesh, in the order in which they split the table.
    """

    bounds: Array
    rounds: Array
    capacity: int
    block: int
    axes: tuple[str, ...]

    def message(self, index: Array) -> tuple[Int[Array, "n C"], Array]:
        """Return the places in `rows` that go to each owner in a round, and which are real."""
        parts = self.bounds.shape[1] - 1
        width = parts // self.rounds
        start = jnp.take(self.bounds, index * width, axis=1)
        end = jnp.take(self.bounds, (index + 1) * width, axis=1)
        places = start[:, None] + jnp.arange(self.capacity, dtype=jnp.int32)
        return places, places < end[:, None]

    def swap(self, messages: Array) -> Array:
        """Send message i to device i; return what every device sent here."""
        return jax.lax.all_to_all(messages, self.axes, split_axis=0, concat_axis=0, tiled=True)

    def local_rows(self, rows: Int[Array, "M"], places: Array, real: Array) -> Array:
        """Return numbers of rows in their owner's block; one past its end for what is not real."""
        owner = jnp.arange(places.shape[0], dtype=jnp.int32)[:, None]
        wanted = jnp.take(rows, places, mode="clip") - owner * self.block
        return jnp.where(real, wanted, self.block)


def make_plan(rows: Int[Array, "M"], block: int, axes: tuple[str, ...]) -> Plan:
    """Spread the rows over owners and rounds.

    Args:
        rows: Distinct rows in ascending order, filled up with numbers past the table's end.
        block: Rows that each device owns.
        axes: All axes of the mesh.
    """
    devices = jax.lax.axis_size(axes)
    capacity = max(_SMALLEST_MESSAGE, round(_SLACK * rows.size / devices))
    capacity = min(capacity, rows.size, block)
    parts = 1 << (-(-block // capacity) - 1).bit_length()
    step = -(-block // parts)
    inner = jnp.minimum(jnp.arange(parts + 1, dtype=jnp.int32) * step, block)
    first = jnp.arange(devices, dtype=jnp.int32)[:, None] * block
    bounds = jnp.searchsorted(rows, first + inner).astype(jnp.int32)
    counts = jnp.diff(bounds, axis=1)
    # The fullest message of every number of rounds 1, 2, 4, ..., on any device.
    options = [1 << power for power in range(parts.bit_length())]
    fullest = jnp.stack(
        [jnp.max(counts.reshape(devices, option, -1).sum(axis=2)) for option in options]
    )
    fullest = jax.lax.pmax(fullest, axes)
    rounds = jnp.asarray(options, jnp.int32)[jnp.argmax(fullest <= capacity)]
    return Plan(bounds, rounds, capacity, block, axes)


def fetch(
    table: Float[Array, "block D"], rows: Int[Array, "M"], axes: tuple[str, ...]
) -> Float[Array, "M D"]:
    """Return the rows named, each from its owner; what is filled up gives 0.

    Args:
        table: The rows that this device owns.
        rows: Distinct rows in ascending order, filled up with numbers past the table's end.
        axes: All axes of the mesh.
    """
    plan = make_plan(rows, table.shape[0], axes)

    def one_round(index: Array, found: Array) -> Array:
        places, real = plan.message(index)
        asked = plan.swap(plan.local_rows(rows, places, real))
        answers = plan.swap(table.at[asked].get(mode="clip"))
        places = jnp.where(real, places, rows.size)
        return found.at[places].set(answers, mode="drop", unique_indices=False)

    start = jnp.zeros((rows.size, table.shape[1]), table.dtype)
    return jax.lax.fori_loop(0, plan.rounds, one_round, start)


def push(
    state: tuple[Array, Array],
    rows: Int[Array, "M"],
    gradients: Float[Array, "M D"],
    axes: tuple[str, ...],
    *,
    update: Callable[[tuple[Array, Array], Array, Array], tuple[Array, Array]],
) -> tuple[Array, Array]:
    """Bring gradients to the rows' owners, who update table and accumulator.

    Args:
        state: The owned block of the table, [block, D], and of its accumulator, [block].
        rows: Distinct rows in ascending order, filled up with numbers past the table's end.
        gradients: Of those rows; those of devices that share examples must come from one of them
            only, the others fill up all their rows.
        axes: All axes of the mesh.
        update: (state, numbers of rows, gradients) -> state, with rows past the end dropped.
    """
    block = state[0].shape[0]
    plan = make_plan(rows, block, axes)

    def one_round(index: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        places, real = plan.message(index)
        named = plan.swap(plan.local_rows(rows, places, real)).ravel()
        sent = plan.swap(jnp.take(gradients, places, axis=0, mode="clip"))
        sent = sent.reshape(-1, gradients.shape[1])
        distinct, inverse = distinct_rows(named, fill=block)
        summed = jnp.zeros_like(sent).at[inverse].add(sent, mode="promise_in_bounds")
        return update(state, distinct, summed)

    return jax.lax.fori_loop(0, plan.rounds, one_round, state)


def distinct_rows(ids: Int[Array, "M"], *, fill: int) -> tuple[Int[Array, "M"], Int[Array, "M"]]:
    """Return the distinct ids in ascending order, filled up, and the place of every id in them."""
    ordered, origin = jax.lax.sort((ids, jnp.arange(ids.size, dtype=jnp.int32)), num_keys=1)
    is_new = jnp.concatenate([jnp.zeros(1, bool), ordered[1:] != ordered[:-1]])
    place = jnp.cumsum(is_new, dtype=jnp.int32)
    distinct = jnp.full_like(ids, fill).at[place].set(ordered, mode="promise_in_bounds")
    inverse = (
        jnp.zeros_like(ids).at[origin].set(place, mode="promise_in_bounds", unique_indices=True)
    )
    return distinct, inverse
