"""Chunks of a batch: the same values and gradients as the whole batch at once."""

import chex
import jax
import jax.export
import jax.numpy as jnp
import pytest

from pallas_kernels import chunks
from pallas_kernels.gdpa import gdpa
from pallas_kernels.seed_attention import seed_attention
from pallas_kernels.window_attention import window_attention
from tests.compiling import jit

BATCH, EVENTS, HEADS, WIDTH = 12, 40, 2, 8
LENGTHS = jnp.arange(BATCH) * 4 % (EVENTS + 1)


def _normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


OPERATIONS = {
    "gdpa": lambda q, k, v, seeds: gdpa(
        q, k[:, :9], v[:, :9], query_lengths=LENGTHS, scale_in=seeds[0, :, 0]
    ),
    "gdpa_of_two_activations": lambda q, k, v, seeds: gdpa(
        q, k, v, activation=("silu", "relu"), scale_in=seeds[0, :, 0]
    ),
    "window": lambda q, k, v, seeds: window_attention(
        q, k, v, lengths=LENGTHS, window_size=3, times=jnp.cumsum(jnp.ones((BATCH, EVENTS)), 1),
        time_frequencies=seeds[0, 0, :4],
    ),
    "seeds": lambda q, k, v, seeds: seed_attention(seeds, k, v, lengths=LENGTHS),
    "seeds_of_examples": lambda q, k, v, seeds: seed_attention(q[:, :5], k, v, lengths=LENGTHS),
}  # fmt: skip


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("examples", [1, 5])  # 5 divides nothing: chunks of 4
def test_chunks_change_nothing(operation, examples, monkeypatch):
    arrays = [_normal(i, BATCH, EVENTS, HEADS, WIDTH) for i in range(3)]
    arrays.append(_normal(3, 6, HEADS, WIDTH))

    def value_and_gradients():
        def total(*arrays):
            out = OPERATIONS[operation](*arrays)
            return jnp.vdot(out, _normal(4, *out.shape)), out

        return jit(jax.grad(total, argnums=(0, 1, 2, 3), has_aux=True))(*arrays)

    monkeypatch.setattr(chunks, "examples_in_chunk", lambda batch, _: batch)
    whole = value_and_gradients()
    monkeypatch.undo()
    sizes = []

    def chunk(batch, score_bytes):
        monkeypatch.setattr(chunks, "num_cores", lambda: 1)
        monkeypatch.setattr(chunks, "_BYTES_A_CORE", examples * score_bytes)
        sizes.append(examples_in_chunk(batch, score_bytes))
        return sizes[-1]

    examples_in_chunk = chunks.examples_in_chunk
    monkeypatch.setattr(chunks, "examples_in_chunk", chunk)
    chex.assert_trees_all_close(value_and_gradients(), whole, rtol=1e-4, atol=3e-4)
    assert set(sizes) == {1 if examples == 1 else 4}


@pytest.mark.parametrize(
    ("batch", "score_bytes", "expected"),
    [
        (512, 2**17, 8),
        (512, 2**22, 1),  # the scores of one example are more than a cache holds
        (24, 2**19, 2),
        (8, 2**10, 8),
        (1_000_003, 2**17, 1_000_003),  # a prime: no loop of single examples
        (22, 2**17, 2),
        (*jax.export.symbolic_shape("b"), 2**17, None),  # exported for any batch: no loop
    ],
)
def test_a_chunk_divides_the_batch(batch, score_bytes, expected, monkeypatch):
    monkeypatch.setattr(chunks, "num_cores", lambda: 1)
    assert chunks.examples_in_chunk(batch, score_bytes) == (expected or batch)
