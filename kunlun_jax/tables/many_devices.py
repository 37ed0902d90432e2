"""Tables whose rows are split over a mesh: each shard of a batch gets and updates its own rows.

The rows travel between their owners and the devices whose examples need them (`exchange.py`).
"""

# pyright: reportUnknownMemberType=false

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from kunlun_jax.data.batch import Batch
from kunlun_jax.data.schema import Schema
from kunlun_jax.shapes import Array
from kunlun_jax.sharding import (
    AXES,
    EXAMPLES,
    TABLE,
    active_mesh,
    is_split,
    on_every_device,
    speaks_for_its_examples,
)
from kunlun_jax.tables.adagrad import Arrays, States, TableStep, update_rows
from kunlun_jax.tables.batch_ids import renumber, with_shard_axis
from kunlun_jax.tables.exchange import fetch, push


def gather(
    tables: Mapping[str, Array], batch: Batch, schema: Schema
) -> tuple[Arrays, Arrays, Batch]:
    """Cut the tables that are split over the active mesh.

    Args:
        tables: By vocabulary, [rows, W].
        batch: The batch.
        schema: Its schema.

    Returns:
        By vocabulary of the tables that were cut, the rows that each shard of the batch uses,
        [shards, M, W], and their indices, [shards, M]; and the batch with ids that count in them.
    """
    mesh = active_mesh()
    cut = {name: t for name, t in tables.items() if is_split(t.shape, TABLE, mesh)}

    def fetch_own(blocks: Arrays, batch: Batch) -> tuple[Arrays, Arrays, Batch]:
        sizes = {name: block.shape[0] * mesh.size for name, block in blocks.items()}
        rows, local = renumber(sizes, batch, schema)
        found = fetch(blocks, rows, AXES)
        return with_shard_axis(found), with_shard_axis(rows), local

    run = on_every_device(fetch_own, (TABLE[:1], EXAMPLES), (EXAMPLES, EXAMPLES, EXAMPLES))
    return run(cut, batch)


def update(step: TableStep) -> States:
    """Take one step with the tables that `gather` cut; return the new tables and sums."""

    def update_own(
        states: States, gradients: Arrays, rows: Arrays, rate: Array, take: Array, keys: Arrays
    ) -> tuple[States]:
        device, devices = jax.lax.axis_index(AXES), jax.lax.axis_size(AXES)

        def update_table(
            name: str, state: tuple[Array, Array], rows: Array, gradient: Array
        ) -> tuple[Array, Array]:
            first, key = device * state[0].shape[0], keys.get(name)
            return update_rows(*state, gradient, rows, rate, take=take, key=key, first_row=first)

        ends = {name: devices * table.shape[0] for name, (table, _) in states.items()}
        speaks = speaks_for_its_examples()
        named = {name: jnp.where(speaks, r[0], ends[name]) for name, r in rows.items()}
        mine = {name: gradient[0] for name, gradient in gradients.items()}
        return (push(states, named, mine, AXES, update=update_table),)

    by_row, everywhere = TABLE[:1], ()
    states, gradients, rows, rate, take, keys = step
    run = on_every_device(
        update_own, (by_row, EXAMPLES, EXAMPLES, everywhere, everywhere, everywhere), (by_row,)
    )
    (updated,) = run(
        {name: states[name] for name in rows},
        {name: gradients[name] for name in rows},
        dict(rows),
        rate,
        take,
        {name: keys[name] for name in rows if name in keys},
    )
    return updated
