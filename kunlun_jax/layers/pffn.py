"""The personalised feed-forward block around GDPA (docs/model.md#gdpa).

    q  = LayerNorm(S)
    y  = RMSNorm(GDPA(q, K, V) + q)
    S' = y + S
    K  = RMSNorm_head((A_K X_sum) W_K),   V = (A_V X_sum) W_V

GDPA with one head, K = W1^T and V = W2 is the feed-forward layer act(S W1) W2, so K and V are its
weights, made for every example anew, and their length K is its hidden width.

Deviation (aligned start): V has a learned constant M beside what the summary gives,
V = M + (A_V X_sum) W_V. An event that matches key slot k then receives the marker M_k, the same
direction in every example, and pooling, whose seeds are shared by all examples, can learn to look
for it. Without M the direction of a match differs from example to example, and the model first has
to discover a constant one: on Complete Journey it had not after 300,000 examples.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import constant, lecun_normal, normal

from kunlun_jax.config import ModelConfig, StreamConfig
from kunlun_jax.layers.initializers import copy_slots, shared_projection
from kunlun_jax.layers.linear import dense
from kunlun_jax.layers.normalization import layer_norm, rms_norm
from kunlun_jax.layers.parameters import parameter
from kunlun_jax.shapes import Array, Float, Int
from kunlun_jax.sharding import EXAMPLES, HEADS, REPLICATED, ROWS, WHOLE_ROWS, on_each_shard
from pallas_kernels.gdpa import gdpa

_SLOT_NOISE = 0.1
_PROJECTION_NOISE = 0.1


class PersonalisedWeights(nn.Module):
    """Make the keys or the values of one stream from the summary: (A X_sum) W.

    Attributes:
        stream: The stream's share of the model.
        model: The model.
        repeat_summary: Whether A starts as a repetition of the summary tokens and W as the
            projection that the event encoder starts with.
        markers: Whether every row has a learned constant added.
    """

    stream: StreamConfig
    model: ModelConfig
    repeat_summary: bool = False
    markers: bool = False

    @nn.compact
    def __call__(self, summary: Float[Array, "B G D"]) -> Float[Array, "B K De"]:
        """Return K rows of the stream's width."""
        dtype = jnp.dtype(self.model.dtype)
        start = lecun_normal(in_axis=-1, out_axis=-2)
        slots = parameter(
            self,
            "slots",
            copy_slots(_SLOT_NOISE) if self.repeat_summary else start,
            ("kv", None),
            (self.stream.n_kv, self.model.n_sum),
        )
        spread = jnp.einsum("kg,bgd->bkd", slots.astype(dtype), summary)
        project = dense(
            self.stream.model_dim,
            ("embed", "heads"),
            name="projection",
            kernel_init=shared_projection(_PROJECTION_NOISE) if self.repeat_summary else None,
            dtype=dtype,
        )
        rows = project(spread)
        if self.markers:
            shape = (self.stream.n_kv, self.stream.model_dim)
            rows += parameter(self, "markers", normal(1.0), ("kv", "heads"), shape).astype(dtype)
        return rows


class PFFN(nn.Module):
    """Personalised feed-forward block of one stream.

    Attributes:
        stream: The stream's share of the model.
        model: The model; `model.gdpa.pffn` selects GDPA or one of its ablations.
    """

    stream: StreamConfig
    model: ModelConfig

    @nn.compact
    def __call__(
        self,
        events: Float[Array, "B T De"],
        summary: Float[Array, "B G D"],
        lengths: Int[Array, "B"],
    ) -> Float[Array, "B T De"]:
        """Return S'.

        Args:
            events: S, the event tokens.
            summary: X_sum.
            lengths: Events that are real.
        """
        query = layer_norm(events)
        transform = {"gdpa": self._gdpa, "mlp": self._mlp, "linear": self._linear}
        return rms_norm(transform[self.model.gdpa.pffn](query, summary, lengths) + query) + events

    def _gdpa(self, query: Array, summary: Array, lengths: Array) -> Array:
        stream, config = self.stream, self.model.gdpa
        keys, values = self._keys_and_values(summary)
        keys = rms_norm(_split_heads(keys, stream.num_heads))
        scale_in = jnp.ones(stream.num_heads)
        if config.temperature == "inside":
            gain_init = config.gain_init or stream.max_len / stream.head_dim**0.5
            gain = parameter(self, "gain", constant(gain_init), ("heads",), (stream.num_heads,))
            scale_in = gain / stream.max_len
        names = config.activation
        # Heads with activations of their own stay together: a shard would not know which are its.
        rows, heads = (ROWS, HEADS) if len(names) == 1 else (WHOLE_ROWS, REPLICATED)
        out = on_each_shard(
            partial(
                gdpa,
                activation=names[0] if len(names) == 1 else names,
                scale_out=1.0 / stream.max_len if config.temperature == "outside" else 1.0,
                implementation=self.model.implementation,
            ),
            {
                "query": (_split_heads(query, stream.num_heads), rows),
                "key": (keys, rows),
                "value": (_split_heads(values, stream.num_heads), rows),
                "query_lengths": (lengths, EXAMPLES),
                "scale_in": (scale_in, heads),
            },
            rows,
        )
        return out.reshape(query.shape)

    def _mlp(self, query: Array, summary: Array, lengths: Array) -> Array:
        """Apply a per-example two-layer map over the full width, normalised in the middle."""
        keys, values = self._keys_and_values(summary)
        scores = jnp.einsum("btd,bkd->btk", query, rms_norm(keys)) / self.stream.model_dim**0.5
        hidden = rms_norm(jax.nn.gelu(scores, approximate=True))
        return jnp.einsum("btk,bkd->btd", hidden, values)

    def _linear(self, query: Array, summary: Array, lengths: Array) -> Array:
        """Apply InterFormer's per-example matrix, P^T X_sum^T W with P the map D -> D_e."""
        width, dtype = self.stream.model_dim, query.dtype
        projected = dense(width, ("embed", "heads"), name="projection", dtype=dtype)(summary)
        mix = parameter(self, "mix", lecun_normal(), (None, "heads"), (self.model.n_sum, width))
        weight = jnp.einsum("bgd,ge->bde", projected, mix.astype(dtype)) / width**0.5
        return query @ weight

    def _keys_and_values(self, summary: Array) -> tuple[Array, Array]:
        aligned = self.model.init == "aligned"
        make_keys = PersonalisedWeights(
            self.stream, self.model, repeat_summary=aligned, name="keys"
        )
        make_values = PersonalisedWeights(self.stream, self.model, markers=aligned, name="values")
        return make_keys(summary), make_values(summary)


def _split_heads(x: Float[Array, "B rows De"], num_heads: int) -> Float[Array, "B rows N H"]:
    return x.reshape(*x.shape[:-1], num_heads, -1)
