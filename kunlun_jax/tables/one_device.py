"""Tables that one device holds whole: cut down to a batch's rows, and updated by it."""

from collections.abc import Mapping

from kunlun_jax.data.batch import Batch
from kunlun_jax.data.schema import Schema
from kunlun_jax.shapes import Array
from kunlun_jax.tables.adagrad import Arrays, States, TableStep, update_rows
from kunlun_jax.tables.batch_ids import count_ids, renumber, with_shard_axis


def gather(
    tables: Mapping[str, Array], batch: Batch, schema: Schema
) -> tuple[Arrays, Arrays, Batch]:
    """Cut the tables that have more rows than the batch has ids.

    Arguments and results are those of `many_devices.gather`, with one shard.
    """
    counts = count_ids(batch, schema)
    cut = {name: t for name, t in tables.items() if t.shape[0] > counts.get(name, 0)}
    rows, local = renumber({name: t.shape[0] for name, t in cut.items()}, batch, schema)
    found = {name: t.at[rows[name]].get(mode="clip") for name, t in cut.items()}
    return with_shard_axis(found), with_shard_axis(rows), local


def update(step: TableStep) -> States:
    """Take one step with the tables that `gather` cut; return the new tables and sums."""
    return {
        name: update_rows(
            *step.states[name],
            step.gradients[name][0],
            indices[0],
            step.learning_rate,
            take=step.take,
            key=step.keys.get(name),
        )
        for name, indices in step.rows.items()
    }
