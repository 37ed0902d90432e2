"""All streams as one sequence in time order, for the models that know one sequence only."""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax.nn.initializers import normal

from kunlun_jax.data.batch import Batch
from kunlun_jax.layers.parameters import parameter
from kunlun_jax.shapes import Array, Float, Int

_KIND_STD = 0.1


class EventSequence(NamedTuple):
    """Events of all streams, oldest first; behind the true lengths stand zeros.

    Attributes:
        tokens: [B, T, D], the event tokens.
        ages: [B, T], seconds from each event to the request.
        lengths: [B], events that are real.
    """

    tokens: Array
    ages: Array
    lengths: Array


class MergedEvents(nn.Module):
    """Merge the streams by time and mark every event with its stream's embedding.

    Events of one second keep the order of the streams.

    Attributes:
        streams: Names of the streams.
    """

    streams: tuple[str, ...]

    @nn.compact
    def __call__(self, events: dict[str, Float[Array, "B _ D"]], batch: Batch) -> EventSequence:
        """Return one sequence, as long as all streams together.

        Args:
            events: Event tokens by stream.
            batch: Ages and lengths of the events.
        """
        histories = [batch.streams[name] for name in self.streams]
        dim, dtype = events[self.streams[0]].shape[-1], events[self.streams[0]].dtype
        kinds = parameter(
            self, "kinds", normal(_KIND_STD), (None, "embed"), (len(self.streams), dim)
        ).astype(dtype)
        tokens = [events[name] + kind for name, kind in zip(self.streams, kinds, strict=True)]
        real = jnp.concatenate(
            [jnp.arange(h.ages.shape[1]) < h.lengths[:, None] for h in histories], axis=1
        )
        ages = jnp.where(real, jnp.concatenate([h.ages for h in histories], axis=1), 0)
        last = jnp.iinfo(ages.dtype).max
        order = jnp.argsort(jnp.where(real, -ages, last), axis=1, stable=True)
        masked = jnp.where(real[..., None], jnp.concatenate(tokens, axis=1), 0)
        return EventSequence(
            jnp.take_along_axis(masked, order[..., None], axis=1, mode="promise_in_bounds"),
            jnp.take_along_axis(ages, order, axis=1, mode="promise_in_bounds"),
            jnp.sum(jnp.stack([h.lengths for h in histories]), axis=0),
        )


def between_context_and_candidate(
    tokens: Float[Array, "B F D"], events: EventSequence
) -> Float[Array, "B joined D"]:
    """Return [context || events || candidate], F + T rows: the candidate ends the real events.

    Args:
        tokens: X, the candidate's token first.
        events: The events.
    """
    longer = jnp.pad(events.tokens, ((0, 0), (0, 1), (0, 0)))
    is_end = jnp.arange(longer.shape[1]) == events.lengths[:, None]
    behaviours = jnp.where(is_end[..., None], tokens[:, :1], longer)
    return jnp.concatenate([tokens[:, 1:], behaviours], axis=1)


def rows_at(
    tokens: Float[Array, "B T D"], indices: Int[Array, "B picks"]
) -> Float[Array, "B picks D"]:
    """Return the rows at these indices of every example; zeros where an index is negative."""
    rows = jnp.take_along_axis(
        tokens, jnp.maximum(indices, 0)[..., None], axis=1, mode="promise_in_bounds"
    )
    return jnp.where(indices[..., None] >= 0, rows, 0)
