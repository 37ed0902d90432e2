"""Tables that one device holds whole: cut down to a batch's rows, and updated by it."""

from collections.abc import Mapping

from kunlun_jax.data.batch import Batch
from kunlun_jax.data.schema import Schema
from kunlun_jax.shapes import Array, Bool, Float, Shaped
from kunlun_jax.tables.adagrad import update_rows
from kunlun_jax.tables.batch_ids import count_ids, renumber, with_shard_axis

Arrays = dict[str, Array]


def gather(
    tables: Mapping[str, Array], batch: Batch, schema: Schema
) -> tuple[Arrays, Arrays, Batch]:
    """Cut the tables that have more rows than the batch has ids.

    Args:
        tables: By vocabulary, [rows, W].
        batch: The batch.
        schema: Its schema.

    Returns:
        By vocabulary of the tables that were cut, the rows that the batch uses, [1, M, W], and
        their indices, [1, M]; and the batch with ids that count in them.
    """
    counts = count_ids(batch, schema)
    cut = {name: t for name, t in tables.items() if t.shape[0] > counts.get(name, 0)}
    rows, local = renumber({name: t.shape[0] for name, t in cut.items()}, batch, schema)
    found = {name: t.at[rows[name]].get(mode="clip") for name, t in cut.items()}
    return with_shard_axis(found), with_shard_axis(rows), local


def update(
    states: Mapping[str, tuple[Array, Array]],
    gradients: Mapping[str, Array],
    rows: Mapping[str, Array],
    learning_rate: Float[Array, ""],
    *,
    take: Bool[Array, ""],
    keys: Mapping[str, Shaped[Array, ""]],
) -> dict[str, tuple[Array, Array]]:
    """Take one step with the tables that `gather` cut.

    Args:
        states: By vocabulary, the table and its sums.
        gradients: Of the rows, [1, M, W].
        rows: What `gather` returned, [1, M].
        learning_rate: Rate of this step.
        take: Whether to take it.
        keys: By bfloat16 table, how it is rounded.

    Returns:
        The new tables and sums.
    """
    return {
        name: update_rows(
            *states[name],
            gradients[name][0],
            indices[0],
            learning_rate,
            take=take,
            key=keys.get(name),
        )
        for name, indices in rows.items()
    }
