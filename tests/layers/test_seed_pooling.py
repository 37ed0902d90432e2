import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax import flops
from kunlun_jax.config import PoolingConfig
from kunlun_jax.layers.seed_pooling import sum_kron
from kunlun_jax.models.stream_layers import StreamLayers
from tests import factories, oracles

STREAM = dataclasses.replace(factories.BUY, model_dim=12, num_heads=3, n_tokens=2, n_seeds=5)
LENGTHS = factories.ints(6, 2, 0)
EVENTS = factories.array(3, 6, 12)


# So few seeds for the width that they read the events themselves, without a product for each event.
FEW = dataclasses.replace(STREAM, num_heads=2, n_seeds=3)
KINDS = {
    "hsp": (STREAM, {"pooling": "hsp"}),
    "hsp_of_few_seeds": (FEW, {"pooling": "hsp"}),
    "hsp_without_sum_kron": (STREAM, {"pooling": "hsp", "use_sum_kron": False}),
    "pma": (STREAM, {"pooling": "pma"}),
}


def config(kind):
    stream, changes = KINDS[kind]
    return factories.config(streams=(stream,), pooling=changes)


def pooling(kind):
    return StreamLayers(KINDS[kind][0], config(kind)).pooling()


class TestSumKron:
    # Wide in seeds, then wide in features: the two orders of contraction.
    SHAPES = ((6, 2, 3, 5), (3, 2, 7, 4), (2, 5, 6, 3))

    @pytest.mark.parametrize(("seeds", "tokens", "width", "dim"), SHAPES)
    def test_equals_the_dense_sum_of_kronecker_products(self, seeds, tokens, width, dim):
        x, z, w = (
            factories.array(*shape, seed=i)
            for i, shape in enumerate([(4, seeds, width), (3, seeds, tokens), (3, width, dim)])
        )
        zs, ws, xs = factories.float64((z, w, x))
        # vec(Z^T X W) = (Z^T kron W^T) vec(X), rows first.
        dense = sum(np.kron(zs[r].T, ws[r].T) for r in range(3))
        expected = (xs.reshape(4, -1) @ dense.T).reshape(4, tokens, dim)
        actual = factories.jit(sum_kron)(x, z, w)
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)

    def test_parameter_count_of_the_published_size(self):
        """R (P Q + D_e D): P 256, Q 32, D_e = D = 384, R 8 gives 1,245,184."""
        stream = dataclasses.replace(
            STREAM, model_dim=384, num_heads=6, n_tokens=32, n_seeds=256, max_len=1000
        )
        model = factories.config(streams=(stream,), dim=384, pooling={"rank": 8})
        events = jax.ShapeDtypeStruct((1, 3, 384), jnp.float32)
        lengths = jax.ShapeDtypeStruct((1,), jnp.int32)
        module = StreamLayers(stream, model).pooling()
        p = jax.eval_shape(module.init, jax.random.key(0), events, lengths)["params"]
        assert p["token_maps"].value.size + p["width_maps"].value.size == 1_245_184
        assert PoolingConfig().rank == 8

    def test_start_preserves_variance(self):
        module = StreamLayers(
            dataclasses.replace(STREAM, model_dim=32, n_seeds=16, n_tokens=8, num_heads=1),
            factories.config(dim=16, pooling={"rank": 8}),
        ).pooling()
        events, lengths = factories.array(1, 4, 32), factories.ints(4)
        p = factories.initialized(module, events, lengths)["params"]
        x = factories.array(64, 16, 32)
        out = factories.jit(sum_kron)(x, p["token_maps"], p["width_maps"])
        assert np.std(out) == pytest.approx(1.0, rel=0.15)


@pytest.mark.parametrize("kind", KINDS)
class TestSeedPooling:
    def test_equals_the_formula(self, kind):
        module = pooling(kind)
        variables = factories.drawn_variables(module, EVENTS, LENGTHS)
        out = factories.apply(module, variables, EVENTS, LENGTHS)
        p = factories.float64(variables["params"])
        for b, length in enumerate(LENGTHS):
            events = np.asarray(EVENTS[b, :length], np.float64)
            expected = oracles.seed_pooling(p, events, KINDS[kind][0], config(kind))
            np.testing.assert_allclose(out[b], expected, rtol=1e-5, atol=2e-5)

    def test_an_empty_stream_gives_zeros(self, kind):
        module = pooling(kind)
        variables = factories.drawn_variables(module, EVENTS, LENGTHS)
        out = factories.apply(module, variables, EVENTS, factories.ints(0, 0, 0))
        np.testing.assert_array_equal(out, np.zeros((3, 2, 8)))

    def test_padding_and_empty_streams_reach_no_gradient(self, kind):
        module = pooling(kind)
        variables = factories.drawn_variables(module, EVENTS, LENGTHS)
        real = (jnp.arange(6) < LENGTHS[:, None])[..., None]

        def loss(variables, events):
            return jnp.sum(module.apply(variables, events, LENGTHS) ** 2)

        gradient = factories.jit(jax.grad(loss, argnums=(0, 1)))
        clean, to_events = gradient(variables, EVENTS)
        other, _ = gradient(variables, jnp.where(real, EVENTS, -9.0))
        chex.assert_trees_all_equal(clean, other)
        assert np.all(np.isfinite(to_events))
        np.testing.assert_array_equal(np.where(real, 0.0, to_events), 0.0)

    def test_order_of_the_events_does_not_matter(self, kind):
        module, lengths = pooling(kind), factories.ints(6, 6, 6)
        variables = factories.drawn_variables(module, EVENTS, LENGTHS)
        np.testing.assert_allclose(
            factories.apply(module, variables, EVENTS[:, ::-1], lengths),
            factories.apply(module, variables, EVENTS, lengths),
            rtol=1e-5,
            atol=1e-5,
        )


def test_few_seeds_multiply_no_event_with_a_kernel():
    def products(kind):
        variables = factories.drawn_variables(pooling(kind), EVENTS, LENGTHS)
        jaxpr = jax.make_jaxpr(pooling(kind).apply)(variables, EVENTS, LENGTHS)
        return [operations for _, operations in flops.operations_by_scope(jaxpr) if operations]

    projection = 2 * EVENTS.size * 12
    assert products("hsp").count(projection) == 2
    assert max(products("hsp_of_few_seeds")) < projection


def test_without_sum_kron_seeds_are_compressed_by_one_map_of_either_axis():
    module = pooling("hsp_without_sum_kron")
    shapes = jax.eval_shape(module.init, jax.random.key(0), EVENTS, LENGTHS)["params"]
    assert set(shapes) == {"seeds", "query", "key_value", "out", "mix"}
    assert shapes["out"]["kernel"].value.shape == (12, 8)
    assert shapes["mix"].value.shape == (5, 2)


def test_pma_has_a_query_a_token_and_no_sum_kron():
    shapes = jax.eval_shape(pooling("pma").init, jax.random.key(0), EVENTS, LENGTHS)["params"]
    assert set(shapes) == {"seeds", "query", "key_value", "out"}
    assert shapes["seeds"].value.shape == (2, 12)
    assert shapes["out"]["kernel"].names == ("heads", "embed")
