"""What all models share: embed -> trunk -> head. A model is its trunk."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from kunlun_jax.config import ModelConfig
from kunlun_jax.data.batch import Batch
from kunlun_jax.data.schema import Schema
from kunlun_jax.layers.context import ContextTokens
from kunlun_jax.layers.embedding import EmbeddingTables
from kunlun_jax.layers.event_encoder import EventEncoder
from kunlun_jax.layers.features import features_in_use, numbers_in_use
from kunlun_jax.layers.head import Head
from kunlun_jax.layers.probe import record_second_moment
from kunlun_jax.shapes import Array, Float, Int


class Recommender(nn.Module):
    """A model: context features and event histories in, one logit per task out.

    A pure function of parameters, tables and batch: no dropout, no state, no random numbers.

    Attributes:
        model: The model's configuration.
        schema: The data set's schema.
        table_init_std: Standard deviation of the embedding tables' initial rows.
    """

    model: ModelConfig
    schema: Schema
    table_init_std: float = 0.1

    @nn.compact
    def __call__(self, batch: Batch) -> Float[Array, "B L"]:
        """Return the logits, float32.

        Args:
            batch: Examples; what stands behind the true lengths is never read.
        """
        model, dtype = self.model, jnp.dtype(self.model.dtype)
        schema = features_in_use(self.schema, model)
        dense = numbers_in_use(batch.dense, self.schema, schema)
        batch = dataclasses.replace(batch, dense=dense)
        tables = EmbeddingTables(
            schema, model.dim, self.table_init_std, model.table_dims, name="embedding"
        )
        embeddings = tables()
        tokens = ContextTokens(schema, model.dim, dtype, name="context")(embeddings, batch)
        events: dict[str, Array] = {}
        for stream in model.encoded_streams:
            described, history = schema.stream_by_name[stream.name], batch.streams[stream.name]
            matched = schema.shared_ids[stream.name] if model.match_attributes else ()
            encode = EventEncoder(described, matched, stream, model, name=f"{stream.name}_encoder")
            events[stream.name] = encode(embeddings, history)
            self.probe(stream.name, 0, events[stream.name], history.lengths, batch)
        head = Head(model.head_dims, len(schema.labels), dtype, name="head")
        return head(self.trunk(tokens, events, batch), tokens if model.head_context else None)

    def trunk(
        self, tokens: Float[Array, "B F D"], events: dict[str, Array], batch: Batch
    ) -> Float[Array, "B tokens D"]:
        """Return the tokens that the head reads beside the context; every model has its own trunk.

        Args:
            tokens: X^(0), the context tokens; the first is the candidate's, if the data have one.
            events: S_e^(0), the event tokens by stream.
            batch: Ages and lengths of the events.
        """
        raise NotImplementedError

    def probe(
        self,
        sequence: str,
        layer: int,
        tokens: Float[Array, "B T D"],
        lengths: Int[Array, "B"],
        batch: Batch,
    ) -> None:
        """Record what a sequence looks like before layer 0 or, counted from 1, after a layer."""
        record_second_moment(
            self, f"{sequence}/layer_{layer}", tokens, lengths=lengths, weights=batch.weights
        )
