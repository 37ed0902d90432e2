"""Hierarchical seed pooling (docs/model.md#seed-pooling): any stream becomes Q tokens.

    H_seed = MHA(LayerNorm(E_seed), LayerNorm(S), LayerNorm(S))       P seeds, P > Q
    H      = SumKron(H_seed),  SumKron(X) = sum_r Z_r^T X W_r

Seeds are shared by all examples; what differs between examples is what the events say.
"""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax.nn.initializers import normal

from kunlun_jax.config import PoolingConfig
from kunlun_jax.layers.linear import DenseToParts, dense
from kunlun_jax.layers.model_products import model_products
from kunlun_jax.layers.normalization import layer_norm
from kunlun_jax.layers.parameters import parameter
from kunlun_jax.shapes import Array, Float, Int
from kunlun_jax.sharding import EXAMPLES, ROWS, SEEDS, on_each_shard
from pallas_kernels.implementation import MAX_HEAD_DIM
from pallas_kernels.seed_attention import seed_attention


def sum_kron(
    x: Float[Array, "B P De"], token_maps: Float[Array, "R P Q"], width_maps: Float[Array, "R De D"]
) -> Float[Array, "B Q D"]:
    """Return sum_r Z_r^T X W_r, contracting the axis first that leaves less to do.

    Args:
        x: Seed outputs.
        token_maps: Z, from seeds to tokens.
        width_maps: W, from the stream's width to the global one.
    """
    num_seeds, width = x.shape[1:]
    num_tokens, dim = token_maps.shape[2], width_maps.shape[2]
    tokens_first = num_seeds * width * num_tokens + num_tokens * width * dim
    width_first = num_seeds * width * dim + num_seeds * dim * num_tokens
    if tokens_first <= width_first:
        mixed = jnp.einsum("bpe,rpq->bqre", x, token_maps)
        return jnp.einsum("bqre,red->bqd", mixed, width_maps)
    mixed = jnp.einsum("bpe,red->brpd", x, width_maps)
    return jnp.einsum("brpd,rpq->bqd", mixed, token_maps)


class SeedPooling(nn.Module):
    """Pool one stream into Q tokens of the global width.

    Attributes:
        dim: Width D of what comes out.
        num_heads: Heads N; they divide the width of the events.
        num_seeds: Seeds P, at least Q; PMA has as many as tokens.
        num_tokens: Pooled tokens Q.
        config: HSP or PMA (`pooling`), and HSP's compression (`use_sum_kron`, `rank`).
        implementation: Of `seed_attention`; None picks the best that applies.

    Examples:
        A history of three events and an empty one become two tokens each.

        >>> import jax
        >>> layer = SeedPooling(dim=6, num_heads=2, num_seeds=4, num_tokens=2)
        >>> events = jax.random.normal(jax.random.key(1), (2, 3, 8))
        >>> inputs = events, jnp.asarray([3, 0])
        >>> out, variables = layer.init_with_output(jax.random.key(0), *inputs)
        >>> out.shape, bool(jnp.any(out[0])), bool(jnp.any(out[1]))
        ((2, 2, 6), True, False)
        >>> sorted(variables["params"])
        ['key_value', 'out', 'query', 'seeds', 'token_maps', 'width_maps']
    """

    dim: int
    num_heads: int
    num_seeds: int
    num_tokens: int
    config: PoolingConfig = PoolingConfig()
    implementation: str | None = None

    @nn.compact
    def __call__(
        self, events: Float[Array, "B T De"], lengths: Int[Array, "B"]
    ) -> Float[Array, "B Q D"]:
        """Return the pooled tokens; a stream without events gives zeros.

        Args:
            events: S, the event tokens.
            lengths: Events that are real.
        """
        config, dim, num_tokens = self.config, self.dim, self.num_tokens
        width, dtype = events.shape[-1], events.dtype
        hierarchical = config.pooling == "hsp"
        kronecker = hierarchical and config.use_sum_kron
        num_seeds = self.num_seeds if hierarchical else num_tokens
        seeds = parameter(self, "seeds", normal(1.0), (None, "stream"), (num_seeds, width))
        heads = (self.num_heads, width // self.num_heads)
        query = dense(width, ("stream", "heads"), name="query", dtype=dtype)(
            layer_norm(seeds).astype(dtype)
        )
        project = DenseToParts(2, width, ("stream", "heads"), dtype, name="key_value")
        query, events = query.reshape(num_seeds, *heads), layer_norm(events)
        if 2 * num_seeds * self.num_heads <= width <= MAX_HEAD_DIM:
            pooled = self._pool_events(query, events, lengths, *project.kernels(width))
        else:
            key, value = (x.reshape(*x.shape[:2], *heads) for x in project(events))
            pooled = self._attend(query, key, value, lengths)
        pooled = pooled.reshape(-1, num_seeds, width)
        out_width, out_axis = (width, "stream") if kronecker else (dim, "embed")
        pooled = dense(out_width, ("heads", out_axis), name="out", dtype=dtype)(pooled)
        if not hierarchical:
            return pooled
        if not kronecker:
            shape = (num_seeds, num_tokens)
            mix = parameter(self, "mix", normal(num_seeds**-0.5), (None, None), shape)
            return jnp.einsum("bpd,pq->bqd", pooled, mix.astype(dtype))
        # Each of the R terms has variance P * D_e / (P * D_e); their sum is brought back to 1.
        token_maps = parameter(
            self,
            "token_maps",
            normal(num_seeds**-0.5),
            (None, None, None),
            (config.rank, num_seeds, num_tokens),
        )
        width_maps = parameter(
            self,
            "width_maps",
            normal((config.rank * width) ** -0.5),
            (None, "stream", "embed"),
            (config.rank, width, dim),
        )
        return sum_kron(pooled, token_maps.astype(dtype), width_maps.astype(dtype))

    def _attend(
        self,
        query: Float[Array, "P N H"],
        key: Float[Array, "B T N H"],
        value: Float[Array, "B T N H"],
        lengths: Int[Array, "B"],
    ) -> Float[Array, "B P N H"]:
        return on_each_shard(
            partial(seed_attention, implementation=self.implementation),
            {
                "seeds": (query, SEEDS),
                "key": (key, ROWS),
                "value": (value, ROWS),
                "lengths": (lengths, EXAMPLES),
            },
            ROWS,
        )

    def _pool_events(
        self,
        query: Float[Array, "P N H"],
        events: Float[Array, "B T De"],
        lengths: Int[Array, "B"],
        key_kernel: Float[Array, "De De"],
        value_kernel: Float[Array, "De De"],
    ) -> Float[Array, "B P N H"]:
        """Return `_attend(query, events W_k, events W_v, lengths)` with neither product made.

            q . (W_k^T s) = (W_k q) . s,    sum_s w_s (W_v^T s) = W_v^T sum_s w_s s

        Each seed reads the events themselves, through a query for every head, and its result alone
        is multiplied with W_v. Where seeds are few, these are fewer operations: 4 T P N D_e in
        place of 4 T D_e (D_e + P).
        """
        (num_seeds, num_heads, head_dim), (_, num_events, width) = query.shape, events.shape
        key_kernel, value_kernel = (
            kernel.reshape(width, num_heads, head_dim) for kernel in (key_kernel, value_kernel)
        )
        with model_products(4 * num_events * width * (width + num_seeds)):
            # Seed attention divides scores by the root of the width that it sees.
            seeds = jnp.einsum("pnh,dnh->pnd", query, key_kernel) * num_heads**0.5
            rows = events[:, :, None]
            found = self._attend(seeds.reshape(-1, 1, width), rows, rows, lengths)
            pooled = jnp.einsum("rnd,dnh->rnh", found.reshape(-1, num_heads, width), value_kernel)
            return pooled.reshape(-1, *query.shape)
