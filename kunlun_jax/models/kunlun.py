"""Kunlun (docs/model.md#layer; arXiv:2602.10016, Figure 1)."""

import flax.linen as nn
import jax.numpy as jnp

from kunlun_jax.config import ModelConfig
from kunlun_jax.data.batch import Batch
from kunlun_jax.layers.comp_skip import stream_schedule
from kunlun_jax.layers.weight_generation import WeightGeneration
from kunlun_jax.layers.wukong import WukongExperts
from kunlun_jax.models.recommender import Recommender
from kunlun_jax.models.stream_layers import StreamLayers
from kunlun_jax.shapes import Array, Float


class KunlunLayer(nn.Module):
    """One layer: the interaction block and, beside it, a transformer block for every stream.

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
        events: dict[str, Float[Array, "B T De"]],
        pooled: dict[str, Float[Array, "B Q D"]],
        batch: Batch,
    ) -> tuple[Array, dict[str, Array], dict[str, Array]]:
        """Return X^(l+1), S_e^(l+1) and the pooled tokens H_e of this layer.

        By default, as in Figure 1 (a module that the schedule skips hands its input on):

            X_sum     = WeightGeneration(X^(l))           read by the PFFNs alone
            P_e       = PFFN_e(S_e^(l), X_sum)
            H_e       = SeedPooling_e(P_e)                pools events that know the candidate
            S_e^(l+1) = WindowAttention_e(P_e)
            X^(l+1)   = WukongExperts([X^(l) || H_1 || ... || H_m])

        Args:
            tokens: X^(l).
            events: S_e^(l) by stream.
            pooled: H_e of the layer before (empty before layer 0).
            batch: Ages and lengths of the events.
        """
        model = self.model
        schedule = {s.name: stream_schedule(s, model)[self.index] for s in model.streams}
        interacts_summary = model.interaction_input == "summary"
        summary = None
        if interacts_summary or any(step.pffn for step in schedule.values()):
            summary = WeightGeneration(model, name="weight_generation")(tokens)

        pooled, updated = dict(pooled), dict(events)
        for stream in model.streams:
            step, history = schedule[stream.name], batch.streams[stream.name]
            name, sequence = stream.name, events[stream.name]
            layers = StreamLayers(stream, model)
            if step.pffn:
                assert summary is not None  # made above, wherever a stream has a PFFN
                pffn = layers.pffn(f"{name}_pffn")
                sequence = pffn(sequence, summary, history.lengths)
            if step.pooling:
                source = sequence if model.pooling.pool_from == "pffn" else events[name]
                pooled[name] = layers.pooling(f"{name}_pooling")(source, history.lengths)
            if step.attention:
                attention = layers.attention(f"{name}_attention")
                sequence = attention(sequence, history.ages, history.lengths)
            updated[name] = sequence

        context = summary if interacts_summary else tokens
        assert context is not None  # the summary is made above, where it interacts
        interaction_input = jnp.concatenate([context, *_in_order(pooled, model)], axis=1)
        num_outputs = model.n_sum + model.num_pooled_tokens
        interact = WukongExperts(model, num_outputs, name="interaction")
        return interact(interaction_input), updated, pooled


class Kunlun(Recommender):
    """Layers of interaction and, beside it, transformer blocks; then one more pooling."""

    def trunk(
        self, tokens: Float[Array, "B F D"], events: dict[str, Array], batch: Batch
    ) -> Float[Array, "B tokens D"]:
        """Return the tokens X^(L) and the final pooled tokens of every stream."""
        model = self.model
        pooled: dict[str, Array] = {}
        for index in range(model.num_layers):
            layer = KunlunLayer(model, index, name=f"layer_{index}")
            tokens, events, pooled = layer(tokens, events, pooled, batch)
            for name in events:
                self.probe(name, index + 1, events[name], batch.streams[name].lengths, batch)

        if model.pooling.final_pooling:
            pooled = {
                stream.name: StreamLayers(stream, model).pooling(f"{stream.name}_final_pooling")(
                    events[stream.name], batch.streams[stream.name].lengths
                )
                for stream in model.streams
            }
        return jnp.concatenate([tokens, *_in_order(pooled, model)], axis=1)


def _in_order(pooled: dict[str, Array], model: ModelConfig) -> list[Array]:
    """List the pooled tokens in the order of the model's streams (JAX sorts dictionaries)."""
    return [pooled[stream.name] for stream in model.streams]
