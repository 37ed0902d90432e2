"""HSTU (arXiv:2402.17152), for ranking: the candidate is the last token of one causal sequence.

Decisions: streams are merged in time order; context features enter as leading tokens, as old as
the request; the head reads the leading tokens beside the candidate's.
"""

# pyright: reportUnknownMemberType=false

import jax.numpy as jnp

from kunlun_jax.data.batch import Batch
from kunlun_jax.layers.hstu import HSTUBlock
from kunlun_jax.layers.merged_events import MergedEvents, between_context_and_candidate, rows_at
from kunlun_jax.models.recommender import Recommender
from kunlun_jax.shapes import Array, Float


class HSTU(Recommender):
    """[context || events, oldest first || candidate] through blocks of pointwise attention."""

    def trunk(
        self, tokens: Float[Array, "B F D"], events: dict[str, Array], batch: Batch
    ) -> Float[Array, "B tokens D"]:
        """Return the leading tokens and the candidate's after the last block."""
        model, num_context = self.model, tokens.shape[1] - 1
        merge = MergedEvents(tuple(s.name for s in model.streams), name="merged")
        history = merge(events, batch)
        sequence = between_context_and_candidate(tokens, history)
        ages = jnp.pad(history.ages, ((0, 0), (num_context, 1)))  # the request's own age is 0
        max_len = tokens.shape[1] + sum(stream.max_len for stream in model.streams)
        for index in range(model.num_layers):
            block = HSTUBlock(model.hstu, max_len, tokens.dtype, name=f"block_{index}")
            sequence = block(sequence, ages)
            self.probe("merged", index + 1, sequence[:, num_context:-1], history.lengths, batch)
        candidate = rows_at(sequence, num_context + history.lengths[:, None])
        return jnp.concatenate([sequence[:, :num_context], candidate], axis=1)
