"""Context tokens: candidate, dense features, and sparse features (docs/model.md#inputs)."""

import itertools
from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp

from kunlun_jax.data.batch import Batch
from kunlun_jax.data.schema import Schema
from kunlun_jax.layers.embedding import Embedding, combine
from kunlun_jax.layers.linear import dense
from kunlun_jax.shapes import Array, Float


def num_context_tokens(schema: Schema) -> int:
    """Return the number of tokens that `ContextTokens` makes."""
    return bool(schema.candidate) + bool(schema.dense) + len(schema.sparse)


class ContextTokens(nn.Module):
    """Turn the context of a request into tokens X^(0).

    Token 0 is the candidate item: the sum of the embeddings of its features, from the tables that
    its events in the histories use, so that equal items look equal on both sides. Then follow a
    linear map of all dense features, and every sparse feature by itself.

    Attributes:
        schema: The data set's schema.
        dim: Width D.
        dtype: Compute type.
    """

    schema: Schema
    dim: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, embeddings: Mapping[str, Embedding], batch: Batch) -> Float[Array, "B F D"]:
        """Return the context tokens.

        Args:
            embeddings: By vocabulary.
            batch: The batch.
        """
        rows = self._rows(embeddings, batch)
        fields = {
            feature.name: combine(
                rows[feature.name], batch.sparse[feature.name].lengths, feature.combiner
            )
            for feature in self.schema.sparse
        }
        tokens = []
        if self.schema.candidate:
            tokens.append(sum(fields[name] for name in self.schema.candidate))
        if self.schema.dense:
            project = dense(
                self.dim, (None, "embed"), name="dense", use_bias=True, dtype=self.dtype
            )
            tokens.append(project(batch.dense))
        return jnp.stack([*tokens, *fields.values()], axis=1)

    def _rows(
        self, embeddings: Mapping[str, Embedding], batch: Batch
    ) -> dict[str, Float[Array, "B _ D"]]:
        """Look up all features of a vocabulary at once.

        Their gradient is then one scatter; a look-up each would make as many tables and add them.
        """
        sharing: dict[str, list[str]] = {}
        for feature in self.schema.sparse:
            sharing.setdefault(feature.vocabulary, []).append(feature.name)
        found = {}
        for vocabulary, names in sharing.items():
            ids = [batch.sparse[name].ids for name in names]
            rows = embeddings[vocabulary](jnp.concatenate(ids, axis=1), self.dtype)
            ends = itertools.accumulate(each.shape[1] for each in ids[:-1])
            found |= zip(names, jnp.split(rows, list(ends), axis=1), strict=True)
        return found
