"""Train on a mesh of eight CPU devices and on one device; prints the meshes that agreed.

Run by `test_sharding.py`, because a process has as many CPU devices as it asks for at its start.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable

import flax.linen as nn
import jax
import numpy as np

from kunlun_jax.config import ExperimentConfig, MeshConfig, ModelConfig
from kunlun_jax.data.batch import Batch
from kunlun_jax.models.kunlun import Kunlun
from kunlun_jax.sharding import batch_sharding, make_mesh
from kunlun_jax.training.step import (
    TrainState,
    create_train_state,
    make_train_step,
    state_shapes,
)
from tests import factories
from tests.models.variants import VARIANTS

NUM_STEPS = 10
MESHES = [(8, 1, 1, 1), (2, 4, 1, 1), (2, 2, 2, 1), (2, 1, 2, 2), (1, 1, 1, 8)]
# All three operations in one layer, two heads, learned frequencies, a table with more rows than a
# batch has ids; eight experts on 24 tokens.
BASE = VARIANTS["interaction_of_all_context"]
MODEL = dataclasses.replace(
    BASE,
    # Two widths. (With others, ten steps of one device multiply its own rounding by a thousand.)
    table_dims=(("tag", 4),),
    gdpa=dataclasses.replace(BASE.gdpa, activation="gelu"),
    interaction_input="summary",
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
    with jax.set_mesh(mesh):
        state = jax.device_put(_initialize(kunlun, config)(batches[0]), shardings)
        step = factories.jit(
            step, in_shardings=(shardings, batch_sharding(mesh)), out_shardings=shardings
        )
        for batch in batches:
            state = step(state, batch)
    return jax.device_get((state.params, state.tables, state.accumulators, state.gradient_norm))


@functools.cache
def _initialize(kunlun: nn.Module, config: ExperimentConfig) -> Callable[[Batch], TrainState]:
    return factories.jit(functools.partial(create_train_state, kunlun, config, num_steps=NUM_STEPS))


def main(kernels: str) -> None:
    """Compare every mesh with one device."""
    assert jax.device_count() == 8
    model = dataclasses.replace(MODEL, kernels=kernels)
    want = train(model, make_mesh(MeshConfig(), jax.devices()[:1]))
    for sizes in MESHES if kernels == "xla" else [(2, 2, 2, 1)]:
        got = train(model, make_mesh(MeshConfig(*sizes)))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5), got, want)
        print(*sizes, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
