"""Fetch and push rows of tables split over eight CPU devices; prints what held.

Run by `test_sharding.py`, because a process has as many CPU devices as it asks for at its start.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.collectives import collectives
from kunlun_jax.config import ExperimentConfig, MeshConfig
from kunlun_jax.data.batch import batch_shapes
from kunlun_jax.layers.table_exchange import distinct_rows, fetch, make_plan
from kunlun_jax.models.kunlun import Kunlun
from kunlun_jax.sharding import (
    AXES,
    EXAMPLES,
    TABLE,
    batch_sharding,
    make_mesh,
    on_every_device,
)
from kunlun_jax.training.optimizer import update_split_table, update_table
from kunlun_jax.training.step import make_train_step, state_shapes
from tests import factories

ROWS, DIM, IDS = 512, 4, 96
RNG = np.random.default_rng(0)
# Ids of each of four shards of the batch: spread evenly, all of one owner, mostly of one part of
# it, a single one.
CASES = {
    "even": RNG.integers(0, ROWS, (4, IDS)),
    "one owner": RNG.integers(64, 128, (4, IDS)),
    "skewed": np.where(
        RNG.random((4, IDS)) < 0.9, RNG.integers(64, 80, (4, IDS)), RNG.integers(0, ROWS, (4, IDS))
    ),
    "single": np.full((4, IDS), 511),
}
# Whether they take several rounds (even ones may, where chance is uneven).
ROUNDS = {"one owner": True, "skewed": True, "single": False}


def check_rows(mesh: jax.sharding.Mesh) -> None:
    """Compare fetched rows and pushed gradients with a table in one piece."""
    table = jnp.asarray(RNG.standard_normal((ROWS, DIM)), jnp.float32)
    accumulator = jnp.asarray(RNG.random(ROWS), jnp.float32)
    gradients = jnp.asarray(RNG.standard_normal((4, IDS, DIM)), jnp.float32)

    def fetch_rows(block, rows):
        plan = make_plan(rows[0], block.shape[0], AXES)
        return fetch(block, rows[0], AXES)[None], plan.rounds[None]

    for name, ids in CASES.items():
        rows = jnp.stack([distinct_rows(jnp.asarray(x, jnp.int32), fill=ROWS)[0] for x in ids])
        with jax.set_mesh(mesh):
            run = on_every_device(fetch_rows, (TABLE[:1], EXAMPLES), (EXAMPLES, EXAMPLES))
            found, rounds = jax.jit(run)(table, rows)
        real = rows < ROWS
        want = jnp.where(real[..., None], table.at[rows].get(mode="clip"), 0.0)
        np.testing.assert_array_equal(found, want)
        assert (rounds == rounds[0]).all()
        if name in ROUNDS:
            assert (rounds[0] > 1) == ROUNDS[name], (name, rounds)

        for take in (True, False):
            arguments = (table, accumulator, gradients, rows, jnp.float32(0.1))
            with jax.set_mesh(mesh):
                got = jax.jit(update_split_table)(*arguments, take=jnp.asarray(take))
            flat, inverse = distinct_rows(rows.ravel(), fill=ROWS)
            summed = jnp.zeros((4 * IDS, DIM)).at[inverse].add(gradients.reshape(-1, DIM))
            want = update_table(table, accumulator, summed, flat, jnp.float32(0.1), take=take)
            for left, right in zip(got, want, strict=True):
                np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-7)
        print(name, flush=True)


def largest_collective(num_rows: int, mesh: jax.sharding.Mesh) -> int:
    """Return the bytes of all collectives of a training step on tables of so many rows."""
    schema = dataclasses.replace(
        factories.SCHEMA,
        vocabularies=tuple(
            dataclasses.replace(v, num_ids=num_rows - 1) for v in factories.SCHEMA.vocabularies
        ),
    )
    model = factories.config()
    config = ExperimentConfig(model=model)
    kunlun = Kunlun(model, schema)
    batch = batch_shapes(schema, {s.name: s.max_len for s in model.streams}, 16)
    state = state_shapes(kunlun, config, batch, mesh, num_steps=10)
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=batch_sharding(mesh)), batch
    )
    step = make_train_step(kunlun, schema, config, num_steps=10)
    with jax.set_mesh(mesh):
        hlo = factories.jit(step, donate_argnums=0).lower(state, batch).compile().as_text()
    found = collectives(hlo)
    assert "all-to-all" in found, found
    return sum(entry["bytes"] for entry in found.values())


def main() -> None:
    """Check both."""
    assert jax.device_count() == 8
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    check_rows(mesh)
    small, large = (largest_collective(rows, mesh) for rows in (10**5, 10**7))
    # The plan of an exchange has log2(rows) numbers; nothing else depends on the rows.
    assert large <= small + 1024, (small, large)
    print("bytes do not grow")


if __name__ == "__main__":
    main()
