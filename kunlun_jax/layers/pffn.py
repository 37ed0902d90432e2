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

from kunlun_jax.config import GDPAConfig
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
        num_keys: Rows K.
        width: The stream's width D_e.
        repeat_summary: Whether A starts as a repetition of the summary tokens and W as the
            projection that the event encoder starts with.
        markers: Whether every row has a learned constant added.
    """

    num_keys: int
    width: int
    repeat_summary: bool = False
    markers: bool = False

    @nn.compact
    def __call__(self, summary: Float[Array, "B G D"]) -> Float[Array, "B K De"]:
        """Return K rows of the stream's width."""
        dtype = summary.dtype
        start = lecun_normal(in_axis=-1, out_axis=-2)
        slots = parameter(
            self,
            "slots",
            copy_slots(_SLOT_NOISE) if self.repeat_summary else start,
            ("kv", None),
            (self.num_keys, summary.shape[1]),
        )
        spread = jnp.einsum("kg,bgd->bkd", slots.astype(dtype), summary)
        project = dense(
            self.width,
            ("embed", "heads"),
            name="projection",
            kernel_init=shared_projection(_PROJECTION_NOISE) if self.repeat_summary else None,
            dtype=dtype,
        )
        rows = project(spread)
        if self.markers:
            shape = (self.num_keys, self.width)
            rows += parameter(self, "markers", normal(1.0), ("kv", "heads"), shape).astype(dtype)
        return rows


class PFFN(nn.Module):
    """Personalised feed-forward block of one stream.

    Attributes:
        num_heads: Heads N; they divide the width of the events.
        num_keys: Keys K that the summary makes, the hidden width.
        max_len: Events that the stream has at most, by which the scores are divided.
        config: GDPA or one of its ablations (`pffn`), temperature and activation.
        aligned: Whether keys start as the summary tokens, and values carry markers.
        implementation: Of `gdpa`; None picks the best that applies.

    Examples:
        Two examples, of three events and of one; their summaries make five keys and values.

        >>> layer = PFFN(num_heads=2, num_keys=5, max_len=3)
        >>> events, summary = jnp.ones((2, 3, 8)), jnp.ones((2, 4, 6))
        >>> inputs = events, summary, jnp.asarray([3, 1])
        >>> out, variables = layer.init_with_output(jax.random.key(0), *inputs)
        >>> out.shape, sorted(variables["params"])
        ((2, 3, 8), ['gain', 'keys', 'values'])
    """

    num_heads: int
    num_keys: int
    max_len: int
    config: GDPAConfig = GDPAConfig()
    aligned: bool = True
    implementation: str | None = None

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
        return rms_norm(transform[self.config.pffn](query, summary, lengths) + query) + events

    def _gdpa(self, query: Array, summary: Array, lengths: Array) -> Array:
        config, num_heads = self.config, self.num_heads
        keys, values = self._keys_and_values(summary, query.shape[-1])
        keys = rms_norm(_split_heads(keys, num_heads))
        scale_in = jnp.ones(num_heads)
        if config.temperature == "inside":
            gain_init = config.gain_init or self.max_len / keys.shape[-1] ** 0.5
            gain = parameter(self, "gain", constant(gain_init), ("heads",), (num_heads,))
            scale_in = gain / self.max_len
        names = config.activation
        # Heads with different activations are not sharded: a shard would not know which ones it
        # has.
        rows, heads = (ROWS, HEADS) if len(names) == 1 else (WHOLE_ROWS, REPLICATED)
        out = on_each_shard(
            partial(
                gdpa,
                activation=names[0] if len(names) == 1 else names,
                scale_out=1.0 / self.max_len if config.temperature == "outside" else 1.0,
                implementation=self.implementation,
            ),
            {
                "query": (_split_heads(query, num_heads), rows),
                "key": (keys, rows),
                "value": (_split_heads(values, num_heads), rows),
                "query_lengths": (lengths, EXAMPLES),
                "scale_in": (scale_in, heads),
            },
            rows,
        )
        return out.reshape(query.shape)

    def _mlp(self, query: Array, summary: Array, lengths: Array) -> Array:
        """Apply a per-example two-layer map over the full width, normalised in the middle."""
        width = query.shape[-1]
        keys, values = self._keys_and_values(summary, width)
        scores = jnp.einsum("btd,bkd->btk", query, rms_norm(keys)) / width**0.5
        hidden = rms_norm(jax.nn.gelu(scores, approximate=True))
        return jnp.einsum("btk,bkd->btd", hidden, values)

    def _linear(self, query: Array, summary: Array, lengths: Array) -> Array:
        """Apply InterFormer's per-example matrix, P^T X_sum^T W with P the map D -> D_e."""
        width, dtype = query.shape[-1], query.dtype
        projected = dense(width, ("embed", "heads"), name="projection", dtype=dtype)(summary)
        mix = parameter(self, "mix", lecun_normal(), (None, "heads"), (summary.shape[1], width))
        weight = jnp.einsum("bgd,ge->bde", projected, mix.astype(dtype)) / width**0.5
        return query @ weight

    def _keys_and_values(self, summary: Array, width: int) -> tuple[Array, Array]:
        make = partial(PersonalisedWeights, self.num_keys, width)
        make_keys = make(repeat_summary=self.aligned, name="keys")
        make_values = make(markers=self.aligned, name="values")
        return make_keys(summary), make_values(summary)


def _split_heads(x: Float[Array, "B rows De"], num_heads: int) -> Float[Array, "B rows N H"]:
    return x.reshape(*x.shape[:-1], num_heads, -1)
