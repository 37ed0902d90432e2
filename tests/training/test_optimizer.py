import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.config import OptimizerConfig
from kunlun_jax.training.optimizer import dense_optimizer, schedule
from tests import factories


class TestSchedule:
    CONFIG = OptimizerConfig(warmup_steps=10, final_fraction=0.1)

    def test_equals_the_formula(self):
        factor = schedule(self.CONFIG, 50)
        for step in (0, 1, 5, 9, 10, 11, 30, 49, 50, 60):
            if step < 10:
                expected = step / 10
            else:
                progress = min((step - 10) / 40, 1.0)
                expected = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress))
            assert float(factor(step)) == pytest.approx(expected, rel=1e-5), step

    def test_without_warmup_it_starts_at_the_peak(self):
        factor = schedule(OptimizerConfig(warmup_steps=0), 50)
        assert float(factor(0)) == 1.0

    @pytest.mark.parametrize("num_steps", [1, 7, 5000])
    def test_a_constant_one_does_not_know_the_end(self, num_steps):
        factor = schedule(OptimizerConfig(warmup_steps=10, schedule="constant"), num_steps)
        for step in (0, 1, 5, 9, 10, 11, 30, 6000):
            assert float(factor(step)) == pytest.approx(min(step / 10, 1.0), rel=1e-6), step
        at_once = schedule(OptimizerConfig(warmup_steps=0, schedule="constant"), num_steps)
        assert [float(at_once(step)) for step in (0, 1, 100)] == [1.0, 1.0, 1.0]

    @pytest.mark.parametrize("num_steps", [1, 2, 7])
    def test_a_run_shorter_than_the_warmup_still_learns(self, num_steps):
        factor = schedule(self.CONFIG, num_steps)
        values = [float(factor(step)) for step in range(num_steps)]
        assert max(values) == 1.0
        assert np.all(np.isfinite(values))


PARAMS = {
    "dense": {"kernel": factories.array(3, 2), "bias": factories.array(2)},
    "experts": {"fm_out": factories.array(2, 3, 2), "fm_out_bias": factories.array(2, 3)},
    "gain": factories.array(2),
}
DECAYED = {
    "dense": {"kernel": True, "bias": False},
    "experts": {"fm_out": True, "fm_out_bias": False},
    "gain": False,
}


def adamw(params, gradients, config, num_steps):
    """AdamW with clipping by the global norm, in NumPy; one leaf after the other."""
    decayed, factor = jax.tree.leaves(DECAYED), schedule(config, num_steps)
    leaves = [np.asarray(p, np.float64) for p in jax.tree.leaves(params)]
    first, second = ([np.zeros_like(p) for p in leaves] for _ in range(2))
    for step, gradient in enumerate(gradients):
        grads = [np.asarray(g, np.float64) for g in jax.tree.leaves(gradient)]
        norm = math.sqrt(sum((g**2).sum() for g in grads))
        clip = min(1.0, config.clip_norm / norm) if config.clip_norm else 1.0
        rate = config.learning_rate * float(factor(step))
        for i, g in enumerate(grads):
            first[i] = config.b1 * first[i] + (1 - config.b1) * clip * g
            second[i] = config.b2 * second[i] + (1 - config.b2) * (clip * g) ** 2
            m = first[i] / (1 - config.b1 ** (step + 1))
            v = second[i] / (1 - config.b2 ** (step + 1))
            update = m / (np.sqrt(v) + config.eps)
            leaves[i] = leaves[i] - rate * (update + config.weight_decay * leaves[i] * decayed[i])
    return leaves


@pytest.mark.parametrize("clip_norm", [0.0, 0.5])
def test_dense_optimizer_equals_adamw_where_only_kernels_decay(clip_norm):
    config = OptimizerConfig(
        learning_rate=0.1, warmup_steps=2, weight_decay=0.3, clip_norm=clip_norm
    )
    optimizer = dense_optimizer(config, 10)
    gradients = [jax.tree.map(lambda p, k=k: jnp.sin(p + k), PARAMS) for k in range(4)]

    @factories.jit
    def step(params, state, gradient):
        updates, state = optimizer.update(gradient, state, params)
        return jax.tree.map(jnp.add, params, updates), state

    params, state = PARAMS, optimizer.init(PARAMS)
    for gradient in gradients:
        params, state = step(params, state, gradient)
    expected = adamw(PARAMS, gradients, config, 10)
    chex.assert_trees_all_close(jax.tree.leaves(params), expected, rtol=1e-5, atol=1e-6)
