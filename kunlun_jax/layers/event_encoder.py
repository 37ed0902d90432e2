"""Event tokens S_e^(0): what one event looks like to the model (docs/model.md#inputs)."""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp

from kunlun_jax.config import ModelConfig, StreamConfig
from kunlun_jax.data.batch import EventBatch
from kunlun_jax.data.schema import EventStream
from kunlun_jax.layers.embedding import Embedding
from kunlun_jax.layers.initializers import shared_projection
from kunlun_jax.layers.linear import MLP, dense
from kunlun_jax.layers.rote import log_time
from kunlun_jax.shapes import Array, Float

# The MLP starts as a small correction: the sum of embeddings leads (docs/model.md#aligned-start).
_ALIGNED_MLP_SCALE = 0.3


class EventEncoder(nn.Module):
    """Embed the events of one stream.

    With `init = "aligned"`, an event's token is the sum of its embeddings, brought to the stream's
    width, plus a small MLP of all its attributes; with "random", it is the MLP alone.

    Deviation: the logarithm of the event's age at the request is one more attribute; GDPA and seed
    pooling have no other notion of how long ago an event happened. So is, for each id that the
    context has too, whether the event's is the candidate's (docs/model.md#cross-features).

    Attributes:
        events: The stream as the schema describes it.
        matched: Ids of which the attributes say whether they are the candidate's.
        stream: The stream's share of the model.
        model: The model.
    """

    events: EventStream
    matched: tuple[str, ...]
    stream: StreamConfig
    model: ModelConfig

    @nn.compact
    def __call__(
        self, embeddings: Mapping[str, Embedding], batch: EventBatch
    ) -> Float[Array, "B T De"]:
        """Return the event tokens; what stands at padding is finite and meaningless.

        Args:
            embeddings: By vocabulary.
            batch: Events of the stream.
        """
        dtype = jnp.dtype(self.model.dtype)
        rows = [embeddings[f.vocabulary](batch.ids[f.name], dtype) for f in self.events.ids]
        real = jnp.arange(batch.ages.shape[1]) < batch.lengths[:, None]
        age = log_time(batch.ages, self.model.rote)
        attributes = [batch.dense] if self.events.dense else []
        attributes += [age[..., None]]
        attributes += [batch.matches[name][..., None].astype(age.dtype) for name in self.matched]
        numbers = jnp.concatenate(attributes, axis=-1)
        numbers = jnp.where(real[..., None], numbers, 0).astype(dtype)
        aligned = self.model.init == "aligned" and rows
        encode = MLP(
            (self.stream.mlp_dim, self.stream.model_dim),
            out_scale=_ALIGNED_MLP_SCALE if aligned else 1.0,
            dtype=dtype,
            name="mlp",
        )
        # Ids are a part of their own: they do not depend on the candidate, so that all candidates
        # of a user share their product.
        tokens = encode(*([jnp.concatenate(rows, axis=-1)] if rows else []), numbers)
        if not aligned:
            return tokens
        total = sum(rows)
        if self.model.dim != self.stream.model_dim:
            total = dense(
                self.stream.model_dim,
                ("embed", "stream"),
                name="projection",
                kernel_init=shared_projection(),
                dtype=dtype,
            )(total)
        return total + tokens
