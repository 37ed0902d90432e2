"""Fetch and push rows of tables split over eight CPU devices; prints what held.

Run by `test_sharding.py`, because a process has as many CPU devices as it asks for at its start.
"""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np

from kunlun_jax.config import ExperimentConfig, MeshConfig
from kunlun_jax.data.batch import batch_shapes
from kunlun_jax.models.kunlun import Kunlun
from kunlun_jax.plan.collectives import collectives
from kunlun_jax.sharding import (
    AXES,
    EXAMPLES,
    TABLE,
    batch_sharding,
    make_mesh,
    on_every_device,
)
from kunlun_jax.tables import many_devices
from kunlun_jax.tables.adagrad import TableStep, update_rows
from kunlun_jax.tables.batch_ids import distinct_rows
from kunlun_jax.tables.exchange import fetch, make_routes
from kunlun_jax.tables.layout import row_of
from kunlun_jax.tables.rounding import rounding_key
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
    """Compare fetched rows and pushed gradients with tables in one piece.

    Two tables travel together, of different widths and sizes; the second is asked for evenly.
    """
    tables = {
        "asked": jnp.asarray(RNG.standard_normal((ROWS, DIM)), jnp.float32),
        "other": jnp.asarray(RNG.standard_normal((8, 2 * DIM)), jnp.float32),
    }
    states = {n: (t, jnp.asarray(RNG.random(len(t)), jnp.float32)) for n, t in tables.items()}
    gradients = {
        "asked": jnp.asarray(RNG.standard_normal((4, IDS, DIM)), jnp.float32),
        "other": jnp.asarray(RNG.standard_normal((4, 5, 2 * DIM)), jnp.float32),
    }
    other = jnp.asarray([[0, 1, 2, 3, 4], [1, 3, 5, 7, 8], [0, 8, 8, 8, 8], [7, 8, 8, 8, 8]])

    def fetch_rows(blocks, rows):
        rows = {name: r[0] for name, r in rows.items()}
        routes = make_routes(rows, {n: len(block) for n, block in blocks.items()}, AXES)
        found = fetch(blocks, rows, AXES)
        return {name: x[None] for name, x in found.items()}, routes.rounds[None]

    for case, ids in CASES.items():
        asked = [distinct_rows(jnp.asarray(x, jnp.int32), fill=ROWS)[0] for x in ids]
        rows = {"asked": jnp.stack(asked), "other": other}
        with jax.set_mesh(mesh):
            run = on_every_device(fetch_rows, (TABLE[:1], EXAMPLES), (EXAMPLES, EXAMPLES))
            found, rounds = jax.jit(run)(tables, rows)
        for name, table in tables.items():
            real = rows[name] < len(table)
            want = jnp.where(real[..., None], table.at[rows[name]].get(mode="clip"), 0.0)
            np.testing.assert_array_equal(found[name], want)
        assert (rounds == rounds[0]).all()
        if case in ROUNDS:
            assert (rounds[0] > 1) == ROUNDS[case], (case, rounds)

        for take in (True, False):
            step = TableStep(states, gradients, rows, jnp.float32(0.1), jnp.asarray(take), {})
            with jax.set_mesh(mesh):
                got = jax.jit(many_devices.update)(step)
            for name, state in states.items():
                summed, flat = in_one_piece(gradients[name], rows[name], fill=len(state[0]))
                want = update_rows(*state, summed, flat, jnp.float32(0.1), take=take)
                for left, right in zip(got[name], want, strict=True):
                    np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-7)
        print(case, flush=True)


def in_one_piece(gradients: jax.Array, rows: jax.Array, *, fill: int) -> tuple:
    """Return the gradients of all shards, those of one row added up, and their rows."""
    flat, inverse = distinct_rows(rows.ravel().astype(jnp.int32), fill=fill)
    flattened = gradients.reshape(-1, gradients.shape[-1])
    return jnp.zeros_like(flattened).at[inverse].add(flattened), flat


def check_rounding(mesh: jax.sharding.Mesh) -> None:
    """Compare bfloat16 tables on the mesh with one device, bit by bit.

    The gradients are small integers, whose sums are exact in any order.
    """
    table = jnp.asarray(RNG.standard_normal((ROWS, DIM)), jnp.bfloat16)
    state = (table, jnp.ones(ROWS))
    ids = RNG.integers(0, ROWS, (4, IDS))
    rows = jnp.stack([distinct_rows(jnp.asarray(x, jnp.int32), fill=ROWS)[0] for x in ids])
    gradients = jnp.asarray(RNG.integers(-3, 4, (4, IDS, DIM)), jnp.float32)
    key = rounding_key(0, jnp.asarray(7), "item")
    arrays = [{"item": x} for x in (state, gradients, rows)]
    step = TableStep(*arrays, jnp.float32(1e-3), jnp.asarray(True), {"item": key})
    with jax.set_mesh(mesh):
        got = jax.jit(many_devices.update)(step)["item"]
    summed, flat = in_one_piece(gradients, rows, fill=ROWS)
    want = jax.jit(update_rows)(*state, summed, flat, jnp.float32(1e-3), key=key)
    assert got[0].dtype == jnp.bfloat16
    for left, right in zip(got, want, strict=True):
        np.testing.assert_array_equal(left, right)
    print("rounding", flush=True)


def rounds_of(ids: np.ndarray, num_rows: int, mesh: jax.sharding.Mesh) -> int:
    """Return the rounds of the exchange of a batch's stored rows."""
    rows = jnp.stack([distinct_rows(jnp.asarray(x, jnp.int32), fill=num_rows)[0] for x in ids])

    def rounds(rows: jax.Array) -> tuple[jax.Array]:
        return (make_routes({"item": rows[0]}, {"item": num_rows // 8}, AXES).rounds[None],)

    with jax.set_mesh(mesh):
        (found,) = jax.jit(on_every_device(rounds, (EXAMPLES,), (EXAMPLES,)))(rows)
    return int(found[0])


def check_spread(mesh: jax.sharding.Mesh) -> None:
    """Exchange ids of a Zipf law, the most popular first, as ids stand and as rows are stored."""
    num_rows = 2**17
    ids = np.minimum(np.random.default_rng(1).zipf(1.1, (4, 8192)), num_rows - 1)
    in_order = rounds_of(ids, num_rows, mesh)
    spread = rounds_of(np.asarray(row_of(jnp.asarray(ids), num_rows)), num_rows, mesh)
    assert in_order > 1 == spread, (in_order, spread)
    print("spread", flush=True)


def exchanged(num_rows: int, mesh: jax.sharding.Mesh) -> tuple[int, int]:
    """Compile a training step on three tables of so many rows.

    Returns:
        Bytes of all collectives; and how many of those are the tables' own all-to-all, which the
        partitioner uses elsewhere, too.
    """
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
    own = [line for line in hlo.splitlines() if re.search(r"all-to-all\(.*/all_to_all\"", line)]
    return sum(kind["bytes"] for kind in collectives(hlo).values()), len(own)


def main() -> None:
    """Check everything."""
    assert jax.device_count() == 8
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    check_rows(mesh)
    check_rounding(mesh)
    check_spread(mesh)
    # Neither divides by the devices.
    (small, few), (large, many) = (exchanged(rows, mesh) for rows in (100_001, 10_000_001))
    # Ids and rows to fetch, ids and gradients to push: not one of each for every table.
    assert (few, many) == (4, 4)
    # The routes of an exchange have log2(rows) numbers; nothing else depends on the rows.
    assert large <= small + 1024, (small, large)
    print("bytes do not grow")


if __name__ == "__main__":
    main()
