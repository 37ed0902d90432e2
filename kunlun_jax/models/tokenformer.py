"""TokenFormer (arXiv:2604.13737): static fields, behaviours and target as one stream of tokens.

    I  = X + sigmoid(X W_g) * Attention(X)      non-linear interaction representation
    X' = I + SwiGLU(I)                          RMSNorm before each

Bottom-full-top-sliding: the lower layers are fully causal; the upper ones see a window of
behaviours and no static field. No static field looks at a behaviour, so above the last full layer
the static tokens rest, and the head reads them as they are.
"""

# pyright: reportUnknownMemberType=false

import flax.linen as nn
import jax
import jax.numpy as jnp

from kunlun_jax.config import TokenFormerConfig
from kunlun_jax.data.batch import Batch
from kunlun_jax.layers.causal_attention import causal_attention
from kunlun_jax.layers.linear import DenseToParts, dense
from kunlun_jax.layers.merged_events import MergedEvents, between_context_and_candidate, rows_at
from kunlun_jax.layers.normalization import rms_norm
from kunlun_jax.layers.rote import frequencies
from kunlun_jax.models.recommender import Recommender
from kunlun_jax.shapes import Array, Float


class TokenFormerBlock(nn.Module):
    """Gated causal attention, then SwiGLU.

    Attributes:
        config: Heads and width of SwiGLU.
        window: Tokens before it that a token sees; None: all.
    """

    config: TokenFormerConfig
    window: int | None = None

    @nn.compact
    def __call__(
        self, tokens: Float[Array, "B T D"], angles: Float[Array, "T H2"]
    ) -> Float[Array, "B T D"]:
        """Return X'. Padding stands at the end, where no real token looks.

        Args:
            tokens: X.
            angles: RoPE's rotation of every token, in radian.
        """
        dim, heads, dtype = tokens.shape[-1], self.config.num_heads, tokens.dtype

        def linear(width: int, axes: tuple[str | None, str | None], name: str) -> nn.Dense:
            return dense(width, axes, name=name, dtype=dtype)

        x = rms_norm(tokens)
        project = DenseToParts(3, dim, ("embed", "heads"), dtype, name="qkv")
        query, key, value = (y.reshape(*y.shape[:2], heads, dim // heads) for y in project(x))
        attended = causal_attention(query, key, value, angles=angles, window=self.window)
        attended = linear(dim, ("heads", "embed"), "out")(attended.reshape(tokens.shape))
        tokens = tokens + jax.nn.sigmoid(linear(dim, ("embed", None), "gate")(x)) * attended
        widen = DenseToParts(2, self.config.ffn_dim, ("embed", "mlp"), dtype, name="up")
        up, gated = widen(rms_norm(tokens))
        return tokens + linear(dim, ("mlp", "embed"), "down")(up * jax.nn.silu(gated))


class TokenFormer(Recommender):
    """[static || behaviours, oldest first || target] through full, then sliding layers."""

    def trunk(
        self, tokens: Float[Array, "B F D"], events: dict[str, Array], batch: Batch
    ) -> Float[Array, "B tokens D"]:
        """Return the static tokens and the target's after the last layer."""
        model, config, num_static = self.model, self.model.tokenformer, tokens.shape[1] - 1
        merge = MergedEvents(tuple(s.name for s in model.streams), name="merged")
        history = merge(events, batch)
        sequence = between_context_and_candidate(tokens, history)
        token_index = jnp.arange(sequence.shape[1], dtype=jnp.float32)
        positions = jnp.maximum(token_index - num_static + 1, 0)  # 0 for static fields
        angles = positions[:, None] * frequencies(model.dim // config.num_heads, model.rote.base)
        for index in range(config.num_full_layers):
            sequence = TokenFormerBlock(config, name=f"block_{index}")(sequence, angles)
            self.probe("merged", index + 1, sequence[:, num_static:-1], history.lengths, batch)
        static, sequence = sequence[:, :num_static], sequence[:, num_static:]
        for index, window in enumerate(config.windows, start=config.num_full_layers):
            block = TokenFormerBlock(config, window, name=f"block_{index}")
            sequence = block(sequence, angles[num_static:])
            self.probe("merged", index + 1, sequence[:, :-1], history.lengths, batch)
        return jnp.concatenate([static, rows_at(sequence, history.lengths[:, None])], axis=1)
