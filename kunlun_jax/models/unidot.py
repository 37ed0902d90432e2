"""UniDot (arXiv:2608.16797): what candidate and history have in common stays an explicit product.

    H_s     = windowed attention of events behind gates that the context opens     once a stream
    layer:    X' = Wukong([X || pooled_1 || ... || pooled_m])                      sigmoid pooling
              A_s = MHA(Z, H_s, H_s)                                               Z: the item side
              Z' = Z + MLP([LayerNorm(Z) || M [A_1 || ... || A_m]])
              phi = [<z_i, a_j> for all i, j || <x_u, z_i> for all i and user tokens u] / sqrt(D)
              X, Z = Fusion([X' || Z'])
    out     = [readout || its Gram matrix || LayerNorm(phi_1) || ... || LayerNorm(phi_L)]

Decisions, where the summaries of the paper leave a choice: docs/peers.md.
"""

# pyright: reportUnknownMemberType=false

import dataclasses
import math

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from kunlun_jax.config import ModelConfig
from kunlun_jax.data.batch import Batch
from kunlun_jax.layers.linear import MLP
from kunlun_jax.layers.normalization import layer_norm
from kunlun_jax.layers.unidot import (
    CrossAttention,
    Fusion,
    GatedEvents,
    Highway,
    Readout,
    SigmoidPooling,
    Summary,
    TokenMix,
)
from kunlun_jax.layers.window_attention import WindowAttention
from kunlun_jax.layers.wukong import WukongExperts, single_expert
from kunlun_jax.models.recommender import Recommender
from kunlun_jax.shapes import Array, Bool, Float


class UniDotLayer(nn.Module):
    """One layer: interaction, cross attention, the dots of both, and their fusion.

    Attributes:
        model: The model.
        user: Indices of the context tokens that do not describe the candidate.
    """

    model: ModelConfig
    user: tuple[int, ...]

    @nn.compact
    def __call__(
        self,
        tokens: Float[Array, "B F D"],
        items: Float[Array, "B Q D"],
        events: dict[str, Float[Array, "B T D"]],
        real: dict[str, Bool[Array, "B T"]],
    ) -> tuple[Array, Array, Array]:
        """Return X and Z of the next layer, and this one's phi, [B, dots].

        Args:
            tokens: X.
            items: Z, tokens of the candidate.
            events: H_s by stream.
            real: By stream, whether an event is one, and no padding.
        """
        config, num_items = self.model.unidot, items.shape[1]
        names = [stream.name for stream in self.model.streams]
        summary = Summary(name="summary")(tokens)
        pooled, found = list[Array](), list[Array]()
        for name in names:
            pool = SigmoidPooling(config.num_pooled, config.gate_dim, name=f"{name}_pooling")
            pooled.append(pool(events[name], summary, real[name]))
            attend = CrossAttention(config.num_heads, name=f"{name}_attention")
            found.append(attend(items, events[name], real[name]))
        users = tokens[:, np.array(self.user, int)]
        history, dots = Highway(name="highway")(items, jnp.concatenate(found, axis=1), users)

        interact = WukongExperts(single_expert(self.model), tokens.shape[1], name="interaction")
        tokens = interact(jnp.concatenate([tokens, *pooled], axis=1))
        update = MLP((config.ffn_dim, self.model.dim), dtype=items.dtype, name="ffn")
        items = items + update(layer_norm(items), history)
        both = Fusion(config.ffn_dim, name="fusion")(jnp.concatenate([tokens, items], axis=1))
        return both[:, :-num_items], both[:, -num_items:], dots


class UniDot(Recommender):
    """Layers over streams that are encoded once; the head reads the dots of every layer."""

    def trunk(
        self, tokens: Float[Array, "B F D"], events: dict[str, Array], batch: Batch
    ) -> Float[Array, "B tokens D"]:
        """Return the readout and, in rows of D numbers, all dots."""
        model, config = self.model, self.model.unidot
        item, user = self._sides(tokens.shape[1])
        items = TokenMix(config.num_items, copies=True, name="items")(tokens[:, np.array(item)])
        rote = dataclasses.replace(model.rote, gaps="positions_only")
        summary = Summary(name="summary")(tokens)
        encoded, real = dict[str, Array](), dict[str, Array]()
        for stream in model.streams:
            name, history = stream.name, batch.streams[stream.name]
            x = GatedEvents(config.ffn_dim, name=f"{name}_gate")(events[name], summary)
            attend = WindowAttention(
                config.num_heads, config.window, rote, model.implementation, name=f"{name}_window"
            )
            encoded[name] = attend(x, history.ages, history.lengths)
            real[name] = jnp.arange(x.shape[1]) < history.lengths[:, None]
            self.probe(name, 1, encoded[name], history.lengths, batch)

        highway: list[Array] = []
        for index in range(model.num_layers):
            layer = UniDotLayer(model, user, name=f"layer_{index}")
            tokens, items, dots = layer(tokens, items, encoded, real)
            highway.append(layer_norm(dots))
        read = Readout(model.n_sum, name="readout")
        readout, gram = read(jnp.concatenate([tokens, items], axis=1))
        return jnp.concatenate([readout, _in_rows([gram, *highway], model.dim)], axis=1)

    def _sides(self, num_tokens: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the indices of the tokens that describe the candidate, and of all others."""
        features, candidate = self.schema.sparse, self.schema.candidate
        numbered = enumerate(features, num_tokens - len(features))  # they are the last tokens
        item = {0, *(i for i, feature in numbered if feature.name in candidate)}
        return tuple(sorted(item)), tuple(i for i in range(num_tokens) if i not in item)


def _in_rows(numbers: list[Array], dim: int) -> Float[Array, "B rows D"]:
    """Return numbers as rows of width D, which the head flattens again.

    The end of the last row repeats the first numbers: zeros would leave weights that nothing
    trains.
    """
    flat = jnp.concatenate(numbers, axis=1)
    count = flat.shape[1]
    rows = math.ceil(count / dim)
    return flat[:, np.arange(rows * dim) % count].reshape(-1, rows, dim)
