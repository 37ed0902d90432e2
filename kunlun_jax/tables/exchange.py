"""Rows of embedding tables that are split over devices: fetched for a batch, and updated by it.

Device i of n owns a contiguous block of a table's rows. Every device needs the distinct rows of
its own examples, `rows` below, in ascending order, so those of one owner stand together. Both
directions send ids and rows, never the table:

    fetch   ids -> owners, rows -> back
    push    ids and gradients -> owners, who add up what several devices send for one row

All tables travel together: a message between two devices has room for some rows of each, its
capacity, a little more than an even share; the rooms of tables of one width lie side by side. So
there is one exchange of ids, and one of rows for every width, however many tables there are.

Rows need not be spread evenly; then it takes several rounds. Every round exchanges one of as many
equal parts of every owner's rows, so that all gradients of a row meet in one round. The number of
rounds is the smallest power of two with which every part fits, found anew for every batch; all
devices agree on it. A part with no more rows than the capacity always fits, so there is always such
a number, and the result is exact.

All functions run inside `jax.shard_map` over every axis of the mesh.
"""

# pyright: reportUnknownMemberType=false

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from kunlun_jax.shapes import Array, Int
from kunlun_jax.tables.adagrad import Arrays, States
from kunlun_jax.tables.batch_ids import distinct_rows

# Room of a message, relative to an even share of the rows over the owners.
_SLACK = 1.25
_SMALLEST_MESSAGE = 8


class Routes(NamedTuple):
    """How the rows of one device are spread over owners and rounds.

    Attributes:
        rows: By table, [U] distinct rows in ascending order, filled up past the table's end.
        blocks: By table, the rows that each device owns.
        capacities: By table, its rows of a message.
        rounds: Rounds of the exchange, an int32 scalar.
        axes: All axes of the mesh, in the order in which they split the tables.
    """

    rows: Arrays
    blocks: dict[str, int]
    capacities: dict[str, int]
    rounds: Array
    axes: tuple[str, ...]

    def messages(self, index: Array) -> tuple[Arrays, Arrays]:
        """Return what goes to each owner in a round.

        Returns:
            By table, [devices, capacity] slots in its rows, and [devices, capacity] what those
            rows are called in their owner's block. For what is filled up, one past the end of
            either.
        """
        owner = jnp.arange(jax.lax.axis_size(self.axes), dtype=jnp.int32)[:, None]
        slots: Arrays = {}
        named: Arrays = {}
        for name, rows in self.rows.items():
            block = self.blocks[name]
            step = (block + self.rounds - 1) // self.rounds
            begin = jnp.minimum(index * step, block)
            end = jnp.minimum(begin + step, block)
            start = jnp.searchsorted(rows, owner * block + begin)
            stop = jnp.searchsorted(rows, owner * block + end)
            slot = start + jnp.arange(self.capacities[name], dtype=jnp.int32)
            own = jnp.take(rows, slot, mode="clip") - owner * block
            named[name] = jnp.where(slot < stop, own, block)
            slots[name] = jnp.where(slot < stop, slot, rows.size)
        return slots, named

    def swap(self, messages: Arrays) -> Arrays:
        """Send message i of every table to device i; return what every device sent here.

        Args:
            messages: By table, [devices, capacity] or [devices, capacity, W]. What agrees in W and
                type goes together.
        """
        groups: dict[tuple[tuple[int, ...], Any], list[str]] = {}
        for name, array in messages.items():
            groups.setdefault((array.shape[2:], array.dtype), []).append(name)
        found: Arrays = {}
        for names in groups.values():
            sent = jnp.concatenate([messages[name] for name in names], axis=1)
            got = jax.lax.all_to_all(sent, self.axes, split_axis=0, concat_axis=0, tiled=True)
            start = 0
            for name in names:
                size = messages[name].shape[1]
                found[name] = got[:, start : start + size]
                start += size
        return found


def make_routes(
    rows: Mapping[str, Array], blocks: Mapping[str, int], axes: tuple[str, ...]
) -> Routes:
    """Spread the rows of some tables over owners and rounds.

    Args:
        rows: By table, distinct rows in ascending order, filled up with indices past its end.
        blocks: By table, the rows that each device owns.
        axes: All axes of the mesh.
    """
    devices = jax.lax.axis_size(axes)
    capacities: dict[str, int] = {}
    most = 1
    for name, block in blocks.items():
        room = max(_SMALLEST_MESSAGE, round(_SLACK * rows[name].size / devices))
        capacities[name] = min(room, rows[name].size, block)
        most = max(most, -(-block // capacities[name]))
    options = [1 << power for power in range((most - 1).bit_length() + 1)]
    crowded = [
        jnp.any(jnp.stack([_is_crowded(rows[n], blocks[n], capacities[n], s) for n in blocks]))
        for s in options
    ]
    crowded = jax.lax.pmax(jnp.stack(crowded).astype(jnp.int32), axes)
    rounds = jnp.asarray(options, jnp.int32)[jnp.argmin(crowded)]
    return Routes(dict(rows), dict(blocks), capacities, rounds, axes)


def _is_crowded(rows: Int[Array, "U"], block: int, capacity: int, rounds: int) -> Array:
    """Return whether some part, of so many of every owner's rows, does not fit into a message."""
    part = rows // block * rounds + rows % block // -(-block // rounds)
    # Rows are in ascending order, so a part overflows when row i and row i + capacity both belong
    # to it.
    # Padding repeats one index, so equal neighbours are ignored.
    real = rows[1:] != rows[:-1]
    last = part.size - capacity
    return jnp.any((part[capacity:] == part[:last]) & real[capacity - 1 :])


def fetch(tables: Mapping[str, Array], rows: Mapping[str, Array], axes: tuple[str, ...]) -> Arrays:
    """Return the rows named, each from its owner; what is filled up gives 0.

    Args:
        tables: By table, [block, D], the rows that this device owns.
        rows: By table, [U] distinct rows in ascending order, filled up past the table's end.
        axes: All axes of the mesh.

    Returns:
        By table, [M, D].
    """
    if not tables:
        return {}
    routes = make_routes(rows, {name: table.shape[0] for name, table in tables.items()}, axes)

    def one_round(index: Array, found: Arrays) -> Arrays:
        slots, named = routes.messages(index)
        asked = routes.swap(named)
        answers = routes.swap({n: tables[n].at[asked[n]].get(mode="clip") for n in asked})
        return {n: found[n].at[slots[n]].set(answers[n], mode="drop") for n in found}

    start = {n: jnp.zeros((rows[n].size, t.shape[1]), t.dtype) for n, t in tables.items()}
    return cast("Arrays", jax.lax.fori_loop(0, routes.rounds, one_round, start))


def push(
    states: Mapping[str, tuple[Array, Array]],
    rows: Mapping[str, Array],
    gradients: Mapping[str, Array],
    axes: tuple[str, ...],
    *,
    update: Callable[[str, tuple[Array, Array], Array, Array], tuple[Array, Array]],
) -> dict[str, tuple[Array, Array]]:
    """Bring gradients to the rows' owners, who update table and accumulator.

    Args:
        states: By table, the owned block of it, [block, D], and of its accumulator, [block].
        rows: By table, [U] distinct rows in ascending order, filled up past the table's end.
        gradients: Of those rows, [M, D]; those of devices that share examples must come from one
            of them only, the others fill up all their rows.
        axes: All axes of the mesh.
        update: (table's name, state, indices of rows, gradients) -> state, with rows past the end
            dropped.
    """
    if not states:
        return {}
    blocks = {name: state[0].shape[0] for name, state in states.items()}
    routes = make_routes(rows, blocks, axes)

    def one_round(index: Array, states: States) -> States:
        slots, named = routes.messages(index)
        named = routes.swap(named)
        sent = routes.swap(
            {n: jnp.take(gradients[n], slots[n], axis=0, mode="clip") for n in named}
        )
        updated: States = {}
        for name, state in states.items():
            gradient = sent[name].reshape(-1, sent[name].shape[2])
            distinct, inverse = distinct_rows(named[name].ravel(), fill=blocks[name])
            summed = jnp.zeros_like(gradient).at[inverse].add(gradient, mode="promise_in_bounds")
            updated[name] = update(name, state, distinct, summed)
        return updated

    return cast("States", jax.lax.fori_loop(0, routes.rounds, one_round, dict(states)))
