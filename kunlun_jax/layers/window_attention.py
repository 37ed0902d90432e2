"""Window attention with rotary time (docs/model.md#sliding-window-attention)."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from kunlun_jax.config import ModelConfig, StreamConfig
from kunlun_jax.layers.attended_pairs import attended_pairs, masked_products
from kunlun_jax.layers.linear import dense
from kunlun_jax.layers.normalization import layer_norm
from kunlun_jax.layers.rote import TimeFrequencies, frequencies, log_gaps
from kunlun_jax.shapes import Array, Float, Int
from kunlun_jax.sharding import EXAMPLES, NUMBERS, REPLICATED, ROWS, on_each_shard
from pallas_kernels.window_attention import window_attention


class WindowAttention(nn.Module):
    """Self-attention of a stream over the `window` events to each side: S + MHA(LayerNorm(S)).

    Attributes:
        stream: The stream's share of the model.
        model: The model.
    """

    stream: StreamConfig
    model: ModelConfig

    @nn.compact
    def __call__(
        self,
        events: Float[Array, "B T De"],
        ages: Int[Array, "B T"],
        lengths: Int[Array, "B"],
    ) -> Float[Array, "B T De"]:
        """Return the attended events; an event without a neighbour attends to itself.

        Args:
            events: S, the event tokens.
            ages: Seconds from each event to the request.
            lengths: Events that are real.
        """
        stream, rote = self.stream, self.model.rote
        width, dtype = stream.model_dim, events.dtype
        qkv = dense(3 * width, ("stream", "heads"), name="qkv", dtype=dtype)(layer_norm(events))
        query, key, value = (
            x.reshape(*x.shape[:2], stream.num_heads, stream.head_dim)
            for x in jnp.split(qkv, 3, axis=-1)
        )
        num_events = events.shape[1]
        positions = jnp.broadcast_to(jnp.arange(num_events, dtype=jnp.float32), ages.shape)
        with masked_products(4 * width * attended_pairs(num_events, stream.window)):
            attended = on_each_shard(
                partial(
                    window_attention,
                    window_size=stream.window,
                    implementation=self.model.implementation,
                ),
                {
                    "query": (query, ROWS),
                    "key": (key, ROWS),
                    "value": (value, ROWS),
                    "lengths": (lengths, EXAMPLES),
                    "positions": (positions, NUMBERS),
                    "times": (log_gaps(ages, rote), NUMBERS),
                    "position_frequencies": (frequencies(stream.head_dim, rote.base), REPLICATED),
                    "time_frequencies": (
                        TimeFrequencies(stream.head_dim, rote, name="rote")(),
                        REPLICATED,
                    ),
                },
                ROWS,
            )
        out = dense(width, ("heads", "stream"), name="out", dtype=dtype)
        return events + out(attended.reshape(events.shape))
