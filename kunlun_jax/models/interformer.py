"""InterFormer (arXiv:2411.09852): context and sequence learn from each other in every layer.

    X_sum = Gate(LCE(X)),    S_sum = Gate([S_CLS || S_PMA || S_recent])
    X'    = Interaction([X || S_sum])
    S'    = MHA(PFFN(X_sum, S))                      S^(1) = [X_sum^(1) || S]: the CLS tokens

Decisions: streams are merged in time order. The interaction is a Wukong layer, whose MLP is that of
the paper's MLP(Interaction(.)). PFFN and MHA stand in the norms and residuals that Kunlun's have,
so that InterFormer's PFFN and Kunlun's ablation "linear" are the same module.
"""

# pyright: reportUnknownMemberType=false

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from kunlun_jax.config import ModelConfig, StreamConfig
from kunlun_jax.data.batch import Batch
from kunlun_jax.layers.gating import gate
from kunlun_jax.layers.merged_events import MergedEvents, rows_at
from kunlun_jax.layers.weight_generation import WeightGeneration
from kunlun_jax.layers.wukong import WukongExperts, single_expert
from kunlun_jax.models.recommender import Recommender
from kunlun_jax.models.stream_layers import pffn, seed_pooling, window_attention
from kunlun_jax.shapes import Array, Float, Int


def merged_stream(model: ModelConfig) -> tuple[StreamConfig, ModelConfig]:
    """Return the one sequence as a stream, and the model with InterFormer's kinds of modules.

    Args:
        model: The model.
    """
    max_len = model.n_sum + sum(stream.max_len for stream in model.streams)
    stream = StreamConfig(
        name="merged",
        model_dim=model.dim,
        num_heads=model.interformer.num_heads,
        n_tokens=model.interformer.num_pma,
        window=max_len,
        max_len=max_len,
    )
    kinds = dataclasses.replace(
        model,
        gdpa=dataclasses.replace(model.gdpa, pffn="linear"),
        rote=dataclasses.replace(model.rote, gaps="positions_only"),
        pooling=dataclasses.replace(model.pooling, pooling="pma"),
    )
    return stream, kinds


class SequenceSummary(nn.Module):
    """S_sum: the CLS tokens, pooled tokens, and the most recent events.

    Attributes:
        model: The model.
    """

    model: ModelConfig

    @nn.compact
    def __call__(
        self, sequence: Float[Array, "B T D"], lengths: Int[Array, "B"]
    ) -> Float[Array, "B summaries D"]:
        """Return S_sum; in place of events that are missing, zeros.

        Args:
            sequence: S, the CLS tokens first.
            lengths: Tokens that are real, the CLS tokens included.
        """
        model, num_cls = self.model, self.model.n_sum
        pool = seed_pooling(*merged_stream(model), name="pma")
        recent_index = lengths[:, None] - 1 - jnp.arange(model.interformer.num_recent)
        recent = rows_at(sequence, jnp.where(recent_index >= num_cls, recent_index, -1))
        summary = [sequence[:, :num_cls], pool(sequence, lengths), recent]
        aligned = model.init == "aligned"
        return gate(jnp.concatenate(summary, axis=1), starts_open=aligned, dtype=sequence.dtype)


class InterFormerLayer(nn.Module):
    """One layer: the interaction arch and the sequence arch, each with the other's summary.

    Attributes:
        model: The model.
        index: Which layer this is, from 0.
    """

    model: ModelConfig
    index: int

    @nn.compact
    def __call__(
        self,
        tokens: Float[Array, "B F D"],
        sequence: Float[Array, "B _ D"],
        ages: Int[Array, "B T"],
        lengths: Int[Array, "B"],
    ) -> tuple[Float[Array, "B F D"], Float[Array, "B T D"]]:
        """Return X' and S'.

        Args:
            tokens: X.
            sequence: S; in layer 0 still without the CLS tokens.
            ages: Seconds from each token of the sequence, CLS included, to the request.
            lengths: Tokens of the sequence, CLS included, that are real.
        """
        model, (stream, kinds) = self.model, merged_stream(self.model)
        context = WeightGeneration(model, use_mlp=False, name="context_summary")(tokens)
        if self.index == 0:
            sequence = jnp.concatenate([context, sequence], axis=1)
        summary = SequenceSummary(model, name="sequence_summary")(sequence, lengths)
        interact = WukongExperts(single_expert(model), tokens.shape[1], name="interaction")
        tokens = interact(jnp.concatenate([tokens, summary], axis=1))
        sequence = pffn(stream, kinds, name="pffn")(sequence, context, lengths)
        attend = window_attention(stream, kinds, name="attention")
        return tokens, attend(sequence, ages, lengths)


class InterFormer(Recommender):
    """Layers of two arches that exchange summaries; the head reads the last summaries."""

    def trunk(
        self, tokens: Float[Array, "B F D"], events: dict[str, Array], batch: Batch
    ) -> Float[Array, "B tokens D"]:
        """Return [X_sum || S_sum] after the last layer."""
        model, num_cls = self.model, self.model.n_sum
        merge = MergedEvents(tuple(s.name for s in model.streams), name="merged")
        sequence, ages, num_events = merge(events, batch)
        ages, lengths = jnp.pad(ages, ((0, 0), (num_cls, 0))), num_events + num_cls
        for index in range(model.num_layers):
            layer = InterFormerLayer(model, index, name=f"layer_{index}")
            tokens, sequence = layer(tokens, sequence, ages, lengths)
            self.probe("merged", index + 1, sequence[:, num_cls:], num_events, batch)
        context = WeightGeneration(model, use_mlp=False, name="context_summary")(tokens)
        summary = SequenceSummary(model, name="sequence_summary")(sequence, lengths)
        return jnp.concatenate([context, summary], axis=1)
