"""DIN, the deep interest network (arXiv:1706.06978)."""

import jax.numpy as jnp

from kunlun_jax.data.batch import Batch
from kunlun_jax.layers.target_attention import TargetAttention
from kunlun_jax.models.recommender import Recommender
from kunlun_jax.shapes import Array, Float


class DIN(Recommender):
    """Each stream becomes one token, by how its events relate to the candidate."""

    def trunk(
        self, tokens: Float[Array, "B F D"], events: dict[str, Array], batch: Batch
    ) -> Float[Array, "B n D"]:
        """Return the context tokens and one token a stream."""
        candidate, interests = tokens[:, 0], []
        for stream in self.model.streams:
            attend = TargetAttention(
                self.model.din.attention_dims, tokens.dtype, name=f"{stream.name}_attention"
            )
            lengths = batch.streams[stream.name].lengths
            interests.append(attend(candidate, events[stream.name], lengths))
        return jnp.concatenate([tokens, jnp.stack(interests, axis=1)], axis=1)
