"""Compare the model on a mesh of eight CPU devices with one device; prints what agreed.

Run by `test_sharding.py`; a process has as many CPU devices as it asks for before its first array.
"""

import dataclasses

import jax
import numpy as np

from kunlun_jax.config import MeshConfig
from kunlun_jax.sharding import batch_sharding, make_mesh
from tests import factories
from tests.models.variants import VARIANTS

# A layer with all three operations, two heads, learned frequencies; one activation for all heads.
MODEL = dataclasses.replace(
    VARIANTS["interaction_of_all_context"],
    gdpa=dataclasses.replace(VARIANTS["interaction_of_all_context"].gdpa, activation="gelu"),
)
BATCH = factories.batch(lengths={"buy": [10, 4, 0, 1] * 2, "view": [7, 1, 2, 0] * 2}, size=8)


def main() -> None:
    """Compare logits and gradients for each implementation."""
    assert jax.device_count() == 8
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    variables = factories.drawn_variables(factories.kunlun(MODEL), BATCH)
    for implementation in ("triton_interpret", "xla"):
        kunlun = factories.kunlun(dataclasses.replace(MODEL, kernels=implementation))
        gradient = factories.loss_gradient(kunlun)
        want = factories.apply(kunlun, variables, BATCH), gradient(variables, BATCH)
        jax.clear_caches()
        with jax.set_mesh(mesh):
            batch = jax.device_put(BATCH, batch_sharding(mesh))
            text = jax.jit(kunlun.apply).lower(variables, batch).as_text()
            assert text.count("manual_axes") >= 3, "expected a shard_map for each operation"
            got = factories.apply(kunlun, variables, batch), gradient(variables, batch)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), got, want
        )
        print(implementation)


if __name__ == "__main__":
    main()
