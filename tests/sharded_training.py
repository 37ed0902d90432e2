"""Train on meshes of eight CPU devices and on one device; prints the meshes that agreed.

    python -m tests.sharded_training xla "2 2 2 1" "1 1 1 8"

Run by `test_sharding.py`, because a process has as many CPU devices as it asks for at its start. By
the flags of train.py, two processes with four devices each do it together.
"""

import argparse
import dataclasses
import functools
from collections.abc import Callable

import chex
import flax.linen as nn
import jax
import numpy as np

from kunlun_jax.config import ExperimentConfig, MeshConfig, ModelConfig
from kunlun_jax.data.batch import Batch
from kunlun_jax.hosts.processes import Options, connected, is_first
from kunlun_jax.models.kunlun import Kunlun
from kunlun_jax.sharding import BatchShare, batch_sharding, make_mesh, replicated
from kunlun_jax.training.step import (
    TrainState,
    create_train_state,
    make_train_step,
    state_shapes,
)
from tests import factories
from tests.models.variants import VARIANTS

NUM_STEPS = 10
# All three operations in one layer, two heads, learned frequencies, a table with more rows than a
# batch has ids; eight experts on 21 tokens, and 24 that come out.
BASE = VARIANTS["uneven_widths"]
MODEL = dataclasses.replace(
    BASE,
    # Two widths. (With others, ten steps of one device multiply its own rounding by a thousand.)
    table_dims=(("tag", 4),),
    gdpa=dataclasses.replace(BASE.gdpa, activation=("gelu",)),
    n_sum=8,
    streams=tuple(dataclasses.replace(s, n_tokens=16, n_seeds=16) for s in BASE.streams),
    wukong=dataclasses.replace(BASE.wukong, num_experts=8, fm_fraction=0.5),
)


# Three of the tables have rows that eight devices can share, and that are fetched and pushed.
SCHEMA = dataclasses.replace(
    factories.SCHEMA,
    vocabularies=tuple(
        dataclasses.replace(v, num_ids=-(-v.num_rows // 8) * 8 - 1)
        for v in factories.SCHEMA.vocabularies
    ),
)


def train(model: ModelConfig, mesh: jax.sharding.Mesh) -> tuple:
    """Return parameters, tables, accumulators and the last gradient norm after ten steps."""
    config = ExperimentConfig(model=model)
    kunlun = Kunlun(model, SCHEMA)
    batches = [factories.batch(size=8, seed=seed) for seed in range(NUM_STEPS)]
    shapes = state_shapes(kunlun, config, batches[0], mesh, num_steps=NUM_STEPS)
    shardings = jax.tree.map(lambda x: x.sharding, shapes)
    step = make_train_step(kunlun, SCHEMA, config, num_steps=NUM_STEPS)
    state = jax.tree.map(_put, _initialize(kunlun, config)(batches[0]), shardings)
    share = BatchShare(mesh, 8)
    with jax.set_mesh(mesh):
        step = factories.jit(
            step, in_shardings=(shardings, batch_sharding(mesh)), out_shardings=shardings
        )
        for batch in batches:
            if share.indices is not None:
                batch = jax.tree.map(lambda x: np.asarray(x)[share.indices], batch)
            state = step(state, share.put(batch))
        found = (state.params, state.tables, state.accumulators, state.gradient_norm)
        return jax.device_get(jax.jit(lambda x: x, out_shardings=replicated(mesh))(found))


def _put(array: jax.Array, sharding: jax.sharding.Sharding) -> jax.Array:
    """Distribute what every process has whole."""
    whole = np.asarray(array)
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])


@functools.cache
def _initialize(kunlun: nn.Module, config: ExperimentConfig) -> Callable[[Batch], TrainState]:
    return factories.jit(functools.partial(create_train_state, kunlun, config, num_steps=NUM_STEPS))


def main(kernels: str, meshes: list[str]) -> None:
    """Compare every mesh, as in "2 2 2 1", with one device."""
    assert jax.device_count() == 8
    model = dataclasses.replace(MODEL, kernels=kernels)
    found = [train(model, make_mesh(MeshConfig(*map(int, sizes.split())))) for sizes in meshes]
    if not is_first():
        return
    want = train(model, make_mesh(MeshConfig(), jax.local_devices()[:1]))
    for sizes, got in zip(meshes, found, strict=True):
        chex.assert_trees_all_close(got, want, rtol=1e-3, atol=2e-5)
        print(sizes, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("kernels")
    parser.add_argument("meshes", nargs="+")
    for field in dataclasses.fields(Options):
        kind = str if field.name == "coordinator" else int
        parser.add_argument(f"--{field.name}", type=kind, default=field.default)
    arguments = vars(parser.parse_args())
    compared = arguments.pop("kernels"), arguments.pop("meshes")
    with connected(Options(**arguments), expected=()):
        main(*compared)
