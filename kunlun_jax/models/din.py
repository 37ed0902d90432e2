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
    ) -> Float[Array, "B tokens D"]:
        """Return one token a stream, behind the context where the head does not read it itself."""
        candidate, interests = tokens[:, 0], list[Array]()
        for stream in self.model.streams:
            attend = TargetAttention(
                self.model.din.attention_dims, tokens.dtype, name=f"{stream.name}_attention"
            )
            lengths = batch.streams[stream.name].lengths
            interests.append(attend(candidate, events[stream.name], lengths))
        stacked = jnp.stack(interests, axis=1)
        if self.model.head_context:
            return stacked
        return jnp.concatenate([tokens, stacked], axis=1)
