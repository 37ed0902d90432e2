"""Wukong (arXiv:2403.02545): a stack of factorisation machines.

Decision: Wukong knows no histories; each enters as one token, the mean of its events, so that the
model sees the inputs that all see.
"""

import jax.numpy as jnp

from kunlun_jax.data.batch import Batch
from kunlun_jax.layers.embedding import combine
from kunlun_jax.layers.wukong import WukongExperts, single_expert
from kunlun_jax.models.recommender import Recommender
from kunlun_jax.shapes import Array, Float


class Wukong(Recommender):
    """Layer i holds interactions of up to 2^i tokens."""

    def trunk(
        self, tokens: Float[Array, "B F D"], events: dict[str, Array], batch: Batch
    ) -> Float[Array, "B tokens D"]:
        """Return the tokens of the last layer."""
        means = [
            combine(events[stream.name], batch.streams[stream.name].lengths, "mean")
            for stream in self.model.streams
        ]
        tokens = jnp.concatenate([tokens, jnp.stack(means, axis=1)], axis=1)
        model = single_expert(self.model)
        for index in range(model.num_layers):
            interact = WukongExperts(model, model.wukong.num_tokens, name=f"interaction_{index}")
            tokens = interact(tokens)
        return tokens
