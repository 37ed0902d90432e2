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
from kunlun_jax.layers.merged_events import EventSequence, MergedEvents, rows_at
from kunlun_jax.layers.weight_generation import WeightGeneration
from kunlun_jax.layers.wukong import WukongExperts, single_expert
from kunlun_jax.models.recommender import Recommender
from kunlun_jax.models.stream_layers import StreamLayers
from kunlun_jax.shapes import Array, Float


def merged_stream(model: ModelConfig) -> StreamLayers:
    """Return the layers of the one sequence, of InterFormer's kinds.

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
    return StreamLayers(stream, kinds)


class SequenceSummary(nn.Module):
    """S_sum: the CLS tokens, pooled tokens, and the most recent events.

    Attributes:
        model: The model.
    """

    model: ModelConfig

    @nn.compact
    def __call__(self, sequence: EventSequence) -> Float[Array, "B summaries D"]:
        """Return S_sum; in place of events that are missing, zeros.

        Args:
            sequence: S, the CLS tokens first.
        """
        model, num_cls, (tokens, _, lengths) = self.model, self.model.n_sum, sequence
        pool = merged_stream(model).pooling("pma")
        recent_index = lengths[:, None] - 1 - jnp.arange(model.interformer.num_recent)
        recent = rows_at(tokens, jnp.where(recent_index >= num_cls, recent_index, -1))
        summary = [tokens[:, :num_cls], pool(tokens, lengths), recent]
        aligned = model.init == "aligned"
        return gate(jnp.concatenate(summary, axis=1), starts_open=aligned, dtype=tokens.dtype)


class InterFormerLayer(nn.Module):
    """One layer: the interaction arch and the sequence arch, each with the other's summary.

    Attributes:
        model: The model.
        is_first: Whether S is still without the CLS tokens.
    """

    model: ModelConfig
    is_first: bool

    @nn.compact
    def __call__(
        self, tokens: Float[Array, "B F D"], sequence: EventSequence
    ) -> tuple[Float[Array, "B F D"], EventSequence]:
        """Return X' and S'.

        Args:
            tokens: X.
            sequence: S, the CLS tokens first, as old as the request.
        """
        model, layers = self.model, merged_stream(self.model)
        context = WeightGeneration(model, use_mlp=False, name="context_summary")(tokens)
        if self.is_first:
            sequence = _behind_cls(context, sequence)
        summary = SequenceSummary(model, name="sequence_summary")(sequence)
        interact = WukongExperts(single_expert(model), tokens.shape[1], name="interaction")
        tokens = interact(jnp.concatenate([tokens, summary], axis=1))
        events, ages, lengths = sequence
        events = layers.pffn("pffn")(events, context, lengths)
        events = layers.attention("attention")(events, ages, lengths)
        return tokens, sequence._replace(tokens=events)


def _behind_cls(cls: Float[Array, "B G D"], sequence: EventSequence) -> EventSequence:
    """Return [CLS || S]."""
    tokens, ages, lengths = sequence
    return EventSequence(
        jnp.concatenate([cls, tokens], axis=1),
        jnp.pad(ages, ((0, 0), (cls.shape[1], 0))),
        lengths + cls.shape[1],
    )


class InterFormer(Recommender):
    """Layers of two arches that exchange summaries; the head reads the last summaries."""

    def trunk(
        self, tokens: Float[Array, "B F D"], events: dict[str, Array], batch: Batch
    ) -> Float[Array, "B tokens D"]:
        """Return [X_sum || S_sum] after the last layer."""
        model, num_cls = self.model, self.model.n_sum
        merge = MergedEvents(tuple(s.name for s in model.streams), name="merged")
        sequence = merge(events, batch)
        num_events = sequence.lengths
        for index in range(model.num_layers):
            layer = InterFormerLayer(model, is_first=index == 0, name=f"layer_{index}")
            tokens, sequence = layer(tokens, sequence)
            self.probe("merged", index + 1, sequence.tokens[:, num_cls:], num_events, batch)
        context = WeightGeneration(model, use_mlp=False, name="context_summary")(tokens)
        summary = SequenceSummary(model, name="sequence_summary")(sequence)
        return jnp.concatenate([context, summary], axis=1)
