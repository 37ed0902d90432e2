"""Window attention with rotary time (docs/model.md#sliding-window-attention)."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from kunlun_jax.config import ROTEConfig
from kunlun_jax.layers.linear import DenseToParts, dense
from kunlun_jax.layers.model_products import model_products
from kunlun_jax.layers.normalization import layer_norm
from kunlun_jax.layers.rote import TimeFrequencies, frequencies, log_gaps
from kunlun_jax.shapes import Array, Float, Int
from kunlun_jax.sharding import EXAMPLES, NUMBERS, REPLICATED, ROWS, on_each_shard
from pallas_kernels.costs import attended_pairs
from pallas_kernels.window_attention import window_attention


class WindowAttention(nn.Module):
    """Self-attention of a stream over the `window` events to each side: S + MHA(LayerNorm(S)).

    Attributes:
        num_heads: Heads N; they divide the width of the events.
        window: Events w that an event sees to each side.
        rote: The rotation by position and time.
        implementation: Of `window_attention`; None picks the best that applies.

    Examples:
        Two examples, of three events and of one, which happened an hour ago or more.

        >>> import jax
        >>> layer = WindowAttention(num_heads=2, window=1)
        >>> ages = jnp.asarray([[10_800, 7_200, 3_600], [3_600, 0, 0]])
        >>> inputs = jnp.ones((2, 3, 8)), ages, jnp.asarray([3, 1])
        >>> out, variables = layer.init_with_output(jax.random.key(0), *inputs)
        >>> out.shape, sorted(variables["params"])
        ((2, 3, 8), ['out', 'qkv'])
    """

    num_heads: int
    window: int
    rote: ROTEConfig = ROTEConfig()
    implementation: str | None = None

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
        rote, dtype, (_, num_events, width) = self.rote, events.dtype, events.shape
        head_dim = width // self.num_heads
        project = DenseToParts(3, width, ("stream", "heads"), dtype, name="qkv")
        query, key, value = (
            x.reshape(*x.shape[:2], self.num_heads, head_dim) for x in project(layer_norm(events))
        )
        positions = jnp.broadcast_to(jnp.arange(num_events, dtype=jnp.float32), ages.shape)
        with model_products(4 * width * attended_pairs(num_events, self.window)):
            attended = on_each_shard(
                partial(
                    window_attention,
                    window_size=self.window,
                    implementation=self.implementation,
                ),
                {
                    "query": (query, ROWS),
                    "key": (key, ROWS),
                    "value": (value, ROWS),
                    "lengths": (lengths, EXAMPLES),
                    "positions": (positions, NUMBERS),
                    "times": (log_gaps(ages, rote), NUMBERS),
                    "position_frequencies": (frequencies(head_dim, rote.base), REPLICATED),
                    "time_frequencies": (
                        TimeFrequencies(head_dim, rote, name="rote")(),
                        REPLICATED,
                    ),
                },
                ROWS,
            )
        out = dense(width, ("heads", "stream"), name="out", dtype=dtype)
        return events + out(attended.reshape(events.shape))
