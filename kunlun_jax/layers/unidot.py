"""The parts of UniDot (arXiv:2608.16797): dot products of candidate and history stay explicit.

    H_s      = WindowAttention(S + W_d (W_v LayerNorm(S) * SiLU(W_g LayerNorm(S) + W_c z)))
    pooled_c = LayerNorm(l2norm(sum_t sigmoid(MLP[h_t, z])_c h_t))
    A_s      = MHA(LayerNorm(Z), LayerNorm(H_s), LayerNorm(H_s))
    X, Z    += W_o SwiGLU(M LayerNorm([X || Z]))

X is the context, Z are tokens of the candidate, and z sums X up: it opens the gates, while what
passes them is history alone. Gates are sigmoids of their own and no softmax, so that a sum grows
with the events that match.
"""

# pyright: reportUnknownMemberType=false

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.nn.initializers import lecun_normal, zeros

from kunlun_jax.layers.initializers import copy_slots
from kunlun_jax.layers.linear import MLP, DenseToParts, dense
from kunlun_jax.layers.normalization import EPSILON, layer_norm
from kunlun_jax.layers.parameters import parameter
from kunlun_jax.shapes import Array, Bool, Float

_SLOT_NOISE = 0.1


class TokenMix(nn.Module):
    """A learned linear map of the token axis.

    Attributes:
        num_tokens: Tokens that come out.
        copies: Whether token i starts as input i mod the inputs.
    """

    num_tokens: int
    copies: bool = False

    @nn.compact
    def __call__(self, tokens: Float[Array, "B tokens D"]) -> Float[Array, "B Q D"]:
        """Return the mixed tokens."""
        start = copy_slots(_SLOT_NOISE) if self.copies else lecun_normal(in_axis=-1, out_axis=-2)
        shape = (self.num_tokens, tokens.shape[1])
        weights = parameter(self, "weights", start, (None, None), shape)
        return jnp.einsum("oi,bid->bod", weights.astype(tokens.dtype), tokens)


class Highway(nn.Module):
    """What the candidate's tokens meet: as so many tokens, and as explicit dot products."""

    @nn.compact
    def __call__(
        self,
        items: Float[Array, "B Q D"],
        found: Float[Array, "B found D"],
        users: Float[Array, "B users D"],
    ) -> tuple[Float[Array, "B Q D"], Float[Array, "B dots"]]:
        """Return M A, and phi = [<z_i, a_j> || <x_u, z_i>] / sqrt(D) for all pairs.

        Args:
            items: Z.
            found: A, what Z found in all streams.
            users: Tokens of X that do not describe the candidate.
        """
        mixed = TokenMix(items.shape[1], name="mix")(found)
        return mixed, jnp.concatenate([_dots(items, found), _dots(users, items)], axis=1)


class Readout(nn.Module):
    """A few mixtures of all tokens, and the dot products among them.

    Attributes:
        num_tokens: Mixtures.
    """

    num_tokens: int

    @nn.compact
    def __call__(
        self, tokens: Float[Array, "B tokens D"]
    ) -> tuple[Float[Array, "B G D"], Float[Array, "B dots"]]:
        """Return the mixtures, and the upper triangle of their Gram matrix over sqrt(D)."""
        mixed = TokenMix(self.num_tokens, name="mix")(tokens)
        gram = _dots(mixed, mixed).reshape(-1, self.num_tokens, self.num_tokens)
        return mixed, gram[:, *np.triu_indices(self.num_tokens)]


class Summary(nn.Module):
    """The context as one vector: z = sum_i a_i x_i, with learned weights a."""

    @nn.compact
    def __call__(self, tokens: Float[Array, "B F D"]) -> Float[Array, "B D"]:
        """Return z."""
        shape = (tokens.shape[1], 1)
        weights = parameter(self, "weights", lecun_normal(), (None, None), shape)
        return jnp.einsum("bfd,fo->bd", tokens, weights.astype(tokens.dtype))


class GatedEvents(nn.Module):
    """S + W_d (W_v n * SiLU(W_g n + W_c z)), n = LayerNorm(S): the gate alone sees the context.

    Attributes:
        hidden: Width between W_v and W_d.
    """

    hidden: int

    @nn.compact
    def __call__(
        self, events: Float[Array, "B T D"], summary: Float[Array, "B D"]
    ) -> Float[Array, "B T D"]:
        """Return the events as the context reads them.

        Args:
            events: S, the event tokens of a stream.
            summary: z.
        """
        x, hidden, dtype = layer_norm(events), self.hidden, events.dtype
        value, gate = DenseToParts(2, hidden, ("embed", "mlp"), dtype, name="up")(x)
        context = dense(hidden, ("embed", "mlp"), name="context", use_bias=True, dtype=dtype)
        gated = value * jax.nn.silu(gate + context(summary)[:, None])
        return events + dense(events.shape[-1], ("mlp", "embed"), name="down", dtype=dtype)(gated)


class SigmoidPooling(nn.Module):
    """Pool a stream into tokens, each a sum of events behind gates of its own.

    Attributes:
        num_tokens: Pooled tokens Q.
        hidden: Hidden width of the MLP that opens the gates.
    """

    num_tokens: int
    hidden: int

    @nn.compact
    def __call__(
        self,
        events: Float[Array, "B T D"],
        summary: Float[Array, "B D"],
        real: Bool[Array, "B T"],
    ) -> Float[Array, "B Q D"]:
        """Return the pooled tokens; a stream without events gives zeros.

        Args:
            events: H_s.
            summary: z.
            real: Whether an event is one, and no padding.
        """
        dtype = events.dtype
        weigh = MLP((self.hidden, self.num_tokens), out_axis=None, dtype=dtype, name="gates")
        gates = jax.nn.sigmoid(weigh(events, summary[:, None]))
        gates = jnp.where(real[..., None], gates, 0)
        events = jnp.where(real[..., None], events, 0)
        total = jnp.einsum("btc,btd->bcd", gates, events, preferred_element_type=jnp.float32)
        square = jnp.sum(jnp.square(total), axis=-1, keepdims=True)
        return layer_norm(total * jax.lax.rsqrt(square + EPSILON)).astype(dtype)


class CrossAttention(nn.Module):
    """Softmax attention of a few query tokens over the events of a stream.

    Attributes:
        num_heads: Heads N.
    """

    num_heads: int

    @nn.compact
    def __call__(
        self,
        queries: Float[Array, "B M D"],
        events: Float[Array, "B T D"],
        real: Bool[Array, "B T"],
    ) -> Float[Array, "B M D"]:
        """Return what the queries find; zeros in a stream without events.

        Args:
            queries: Q.
            events: H_s.
            real: Whether an event is one, and no padding.
        """
        (dim, dtype), heads = (events.shape[-1], events.dtype), self.num_heads

        def split(x: Array) -> Array:
            return x.reshape(*x.shape[:2], heads, dim // heads)

        query = split(
            dense(dim, ("embed", "heads"), name="query", dtype=dtype)(layer_norm(queries))
        )
        project = DenseToParts(2, dim, ("embed", "heads"), dtype, name="key_value")
        key, value = map(split, project(layer_norm(events)))
        scores = jnp.einsum("bmnh,btnh->bnmt", query, key, preferred_element_type=jnp.float32)
        seen = real[:, None, None]
        # An example without events attends to padding, evenly, and what it finds is dropped.
        weights = jax.nn.softmax(jnp.where(seen, scores / (dim // heads) ** 0.5, -1e30), axis=-1)
        weights = jnp.where(seen, weights, 0).astype(dtype)
        value = jnp.where(real[..., None, None], value, 0)
        found = jnp.einsum("bnmt,btnh->bmnh", weights, value).reshape(queries.shape)
        return dense(dim, ("heads", "embed"), name="out", dtype=dtype)(found)


class Fusion(nn.Module):
    """Tokens + W_o SwiGLU(M LayerNorm(tokens)): M mixes tokens, SwiGLU channels, W_o starts at 0.

    Attributes:
        hidden: Width of SwiGLU.
    """

    hidden: int

    @nn.compact
    def __call__(self, tokens: Float[Array, "B tokens D"]) -> Float[Array, "B tokens D"]:
        """Return the fused tokens."""
        count, dim = tokens.shape[1:]
        dtype = tokens.dtype
        mix = parameter(self, "mix", lecun_normal(), (None, None), (count, count)).astype(dtype)
        mixed = jnp.einsum("bid,io->bod", layer_norm(tokens), mix)
        up = DenseToParts(2, self.hidden, ("embed", "mlp"), dtype, name="up")
        value, gate = up(mixed)
        down = dense(dim, ("mlp", "embed"), name="down", kernel_init=zeros, dtype=dtype)
        return tokens + down(value * jax.nn.silu(gate))


def _dots(x: Float[Array, "B rows D"], y: Float[Array, "B columns D"]) -> Float[Array, "B dots"]:
    """Return <x_i, y_j> / sqrt(D) for all i and j."""
    products = jnp.einsum("bid,bjd->bij", x, y) / math.sqrt(x.shape[-1])
    return products.reshape(products.shape[0], -1)
