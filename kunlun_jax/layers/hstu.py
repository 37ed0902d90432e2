"""One block of HSTU (arXiv:2402.17152, equations 1 to 3).

    U, V, Q, K = split(SiLU(f1(LayerNorm(X))))
    A = SiLU(alpha Q K^T + rab) / max_len,    s <= t;   alpha = 1 / sqrt(H)
    Y = f2(LayerNorm(A V) * U) + X

f1 and f2 are linear. rab is the sum of a learned number for the distance t - s and one for the
bucket of the time between the two, shared by the heads.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.nn.initializers import normal

from kunlun_jax.config import HSTUConfig
from kunlun_jax.layers.causal_blocks import CausalBlock, causal_blocks
from kunlun_jax.layers.linear import DenseToParts, dense
from kunlun_jax.layers.model_products import causal_pairs, model_products
from kunlun_jax.layers.normalization import layer_norm
from kunlun_jax.layers.parameters import parameter
from kunlun_jax.shapes import Array, Float, Int

_BIAS_STD = 0.02
_OCTAVES = 32  # of seconds that an int32 age can span


class RelativeBias(nn.Module):
    """Learned bias of a pair by its distance in tokens and in time.

    Attributes:
        num_positions: Distances with a number of their own; greater ones share the last.
        num_buckets: Time buckets; bucket k begins at 2^(32 k / num_buckets) - 1 seconds.
    """

    num_positions: int
    num_buckets: int

    @nn.compact
    def __call__(self, ages: Int[Array, "B T"], block: CausalBlock) -> Float[Array, "B M S"]:
        """Return the bias of a block's queries and keys, float32; of later keys it has no meaning.

        Args:
            ages: Seconds from each token to the request; a token's time from a later one counts
                as 0.
            block: Which queries and keys.
        """
        start = normal(_BIAS_STD)
        by_distance = parameter(self, "position", start, (None,), (self.num_positions,))
        by_time = parameter(self, "time", start, (None,), (self.num_buckets,))
        distance = np.clip(block.distance, 0, self.num_positions - 1)
        gaps = jnp.maximum(ages[:, None, block.keys] - ages[:, block.queries, None], 0)
        # Compared as integers: a logarithm in float32 would miss the bounds by rounding.
        begins = (
            math.ceil(2 ** (_OCTAVES * k / self.num_buckets)) - 1
            for k in range(1, self.num_buckets)
        )
        reached = [gaps >= begin for begin in begins if begin <= jnp.iinfo(ages.dtype).max]
        bucket = sum(reached, start=jnp.zeros_like(gaps))
        return by_distance[distance] + by_time.at[bucket].get(mode="promise_in_bounds")


class HSTUBlock(nn.Module):
    """Pointwise aggregated attention and gating over a causal sequence.

    Scores and their activation are float32.

    Attributes:
        config: Heads and time buckets.
        max_len: Longest sequence there is; divides the weights.
        dtype: Compute type.
    """

    config: HSTUConfig
    max_len: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, tokens: Float[Array, "B T D"], ages: Int[Array, "B T"]
    ) -> Float[Array, "B T D"]:
        """Return Y. Padding stands at the end, where no real token looks.

        Args:
            tokens: X, oldest first.
            ages: Seconds from each token to the request.
        """
        dim, heads = tokens.shape[-1], self.config.num_heads
        project = DenseToParts(4, dim, ("embed", "heads"), self.dtype, name="uvqk")
        u, v, q, k = map(jax.nn.silu, project(layer_norm(tokens)))
        v, q, k = (x.reshape(*x.shape[:2], heads, dim // heads) for x in (v, q, k))
        relative_bias = RelativeBias(self.max_len, self.config.num_time_buckets, name="bias")
        rows = []
        with model_products(4 * dim * causal_pairs(tokens.shape[1])):
            for block in causal_blocks(tokens.shape[1]):
                scores = (dim // heads) ** -0.5 * jnp.einsum(
                    "btnh,bsnh->bnts",
                    q[:, block.queries],
                    k[:, block.keys],
                    preferred_element_type=jnp.float32,
                )
                weights = jax.nn.silu(scores + relative_bias(ages, block)[:, None]) / self.max_len
                weights = jnp.where(block.seen, weights, 0).astype(v.dtype)
                rows.append(jnp.einsum("bnts,bsnh->btnh", weights, v[:, block.keys]))
        attended = jnp.concatenate(rows, axis=1).reshape(tokens.shape)
        out = dense(dim, ("heads", "embed"), name="out", dtype=self.dtype)
        return tokens + out(layer_norm(attended) * u)
