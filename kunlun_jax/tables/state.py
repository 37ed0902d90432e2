"""`TableState`: embedding tables and what their optimizer remembers, as a training step sees them.

    tables = TableState(rows, sums)
    small, local, touched = tables.gather(batch, schema)
    ... gradients of a loss with respect to `small`, on the batch `local` ...
    tables = tables.update(touched, gradients, rate, take=True, seed=0, step=step)

A step touches only the rows of its batch. `gather` makes that possible without the model knowing:
it returns small tables that hold just those rows, and the batch with its ids renumbered. A model
applied to the pair computes what it computes on the originals, and its gradient with respect to the
small tables is the whole gradient. Where the rows lie, on one device or split over many, is known
here and below, and nowhere above.
"""

# pyright: reportUnknownMemberType=false

from collections.abc import Mapping
from typing import no_type_check

import flax.struct
import jax.numpy as jnp

from kunlun_jax.data.batch import Batch
from kunlun_jax.data.schema import Schema
from kunlun_jax.shapes import Array, Bool, Float, Int
from kunlun_jax.sharding import active_mesh
from kunlun_jax.tables import many_devices, one_device
from kunlun_jax.tables.adagrad import TableStep, update_rows
from kunlun_jax.tables.rounding import rounding_key

# By vocabulary, the indices of the rows in a small table; of a table that was not cut, nothing.
TouchedRows = dict[str, Array]


@no_type_check
@flax.struct.dataclass
class TableState:
    """Embedding tables and their optimizer's sums.

    Attributes:
        rows: By vocabulary, [rows, W], float32 or bfloat16, as they are stored (`layout.py`).
        sums: By vocabulary, [rows], float32: row-wise Adagrad's sums. `gather` does not read them.
    """

    rows: dict[str, Array]
    sums: dict[str, Array]

    def gather(self, batch: Batch, schema: Schema) -> tuple[dict[str, Array], Batch, TouchedRows]:
        """Cut the tables down to the rows that a batch uses.

        The cost depends on the batch, not on the vocabularies. On one device a table with no more
        rows than the batch has ids is passed on whole; any other is replaced by the batch's
        distinct rows, padded to a fixed count. On a mesh every shard of the batch gets the rows of
        its own, and only a table that is not split is passed on whole.

        Args:
            batch: The batch.
            schema: Its schema.

        Returns:
            The small tables, float32; one that was cut has a leading axis of the batch's shards (on
            one device, of 1). The batch with its ids renumbered. And by table that was cut the
            indices of its rows in the original, with the same leading axis: in ascending order, the
            OOV row's first, and filled up with one past the last row, so that a scatter drops it.
        """
        placement = one_device if active_mesh() is None else many_devices
        found, touched, local = placement.gather(self.rows, batch, schema)
        whole = {name: table for name, table in self.rows.items() if name not in touched}
        # The gradients of repeated ids add up in the type of the small tables.
        small = {name: t.astype(jnp.float32) for name, t in {**whole, **found}.items()}
        return small, local, touched

    def update(
        self,
        touched: TouchedRows,
        gradients: Mapping[str, Array],
        learning_rate: Float[Array, ""],
        *,
        take: Bool[Array, ""],
        seed: int,
        step: Int[Array, ""],
    ) -> "TableState":
        """Take one step of row-wise Adagrad.

        Args:
            touched: What `gather` returned.
            gradients: Of the loss, with respect to the small tables.
            learning_rate: Rate of this step.
            take: Whether to take it; if not, every bit stays.
            seed: Seed of the run, and
            step: steps taken before: what bfloat16 tables are rounded by (`rounding.py`).
        """
        narrow = [name for name, table in self.rows.items() if table.dtype == jnp.bfloat16]
        keys = {name: rounding_key(seed, step, name) for name in narrow}
        states = {name: (table, self.sums[name]) for name, table in self.rows.items()}
        placement = one_device if active_mesh() is None else many_devices
        updated = placement.update(TableStep(states, gradients, touched, learning_rate, take, keys))
        for name in [name for name in states if name not in touched]:
            updated[name] = update_rows(
                *states[name], gradients[name], None, learning_rate, take=take, key=keys.get(name)
            )
        return TableState(
            {name: table for name, (table, _) in updated.items()},
            {name: sums for name, (_, sums) in updated.items()},
        )
