"""Inputs of a model, each permuted alone: pure functions (batch, seed) -> batch.

    feature            an example gets its value from an example of another user of the batch
    stream             likewise its whole history
    event attribute    the real events of a stream, of all examples of the batch, change values

What follows from an id, whether an event's is the candidate's, is told anew; a count feature is a
feature of its own, and keeps its value when the id or the events that it counts change. Everything
else stays: an importance is what the model loses although all other inputs still hint at the value.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from kunlun_jax.audit.perturbations import (
    Perturbation,
    Seed,
    histories_swapped,
    matched_anew,
    other_users,
)
from kunlun_jax.config import ModelConfig
from kunlun_jax.data.batch import Batch, EventBatch
from kunlun_jax.data.schema import EventStream, Schema
from kunlun_jax.layers.features import features_in_use

FEATURE, STREAM, ATTRIBUTE = "feature", "stream", "event attribute"
AGE = "time"


class Input(NamedTuple):
    """One input of a model.

    Attributes:
        kind: `FEATURE`, `STREAM` or `ATTRIBUTE`.
        stream: Name of the stream; "" of a feature.
        name: Of the feature or attribute; "" of a stream.
        permute: The batch with this input permuted.
    """

    kind: str
    stream: str
    name: str
    permute: Perturbation

    @property
    def title(self) -> str:
        """What people call it."""
        if self.kind == FEATURE:
            return self.name
        return f"stream {self.stream}{': ' if self.name else ''}{self.name}"


def inputs_of(schema: Schema, model: ModelConfig) -> list[Input]:
    """Return the inputs that a model reads.

    Args:
        schema: The data set's schema.
        model: The model.
    """
    used = features_in_use(schema, model)
    columns = [f.name for f in schema.dense]
    found = [
        Input(FEATURE, "", f.name, functools.partial(_dense, column=columns.index(f.name)))
        for f in used.dense
    ]
    found += [
        Input(FEATURE, "", f.name, functools.partial(_sparse, name=f.name)) for f in used.sparse
    ]
    for stream in model.streams:
        name, of = stream.name, used.stream_by_name[stream.name]
        swap = functools.partial(histories_swapped, names=(name,))
        found.append(Input(STREAM, name, "", swap))
        found += _attributes(of)
        if model.match_attributes:
            found += [
                Input(
                    ATTRIBUTE,
                    name,
                    f"whether {shared} is the candidate's",
                    functools.partial(_events, stream=name, change=_matches(shared)),
                )
                for shared in schema.shared_ids[name]
            ]
    return found


def _attributes(stream: EventStream) -> list[Input]:
    found = [(f.name, _ids(f.name), True) for f in stream.ids]
    found += [(f.name, _numbers(column), False) for column, f in enumerate(stream.dense)]
    found.append((AGE, _ages, False))
    return [
        Input(
            ATTRIBUTE,
            stream.name,
            name,
            functools.partial(_events, stream=stream.name, change=change, anew=anew),
        )
        for name, change, anew in found
    ]


def _dense(batch: Batch, seed: Seed, *, column: int) -> Batch:
    values = np.array(batch.dense)
    values[:, column] = values[other_users(batch, seed), column]
    return dataclasses.replace(batch, dense=values)


def _sparse(batch: Batch, seed: Seed, *, name: str) -> Batch:
    donors = other_users(batch, seed)
    given = jax.tree.map(lambda x: np.asarray(x)[donors], batch.sparse[name])
    return matched_anew(dataclasses.replace(batch, sparse={**batch.sparse, name: given}))


def _events(
    batch: Batch,
    seed: Seed,
    *,
    stream: str,
    change: Callable[[EventBatch, Callable[[Any], np.ndarray]], EventBatch],
    anew: bool = False,
) -> Batch:
    events = batch.streams[stream]
    column = np.arange(np.shape(events.ages)[1])
    real = column < np.asarray(events.lengths)[:, None]
    real &= np.asarray(batch.weights)[:, None] > 0
    order = np.random.default_rng(seed).permutation(int(real.sum()))

    def dealt(values: Any) -> np.ndarray:
        values = np.array(values)
        values[real] = values[real][order]
        return values

    streams = {**batch.streams, stream: change(events, dealt)}
    changed = dataclasses.replace(batch, streams=streams)
    return matched_anew(changed) if anew else changed


def _ids(name: str) -> Callable[..., EventBatch]:
    return lambda events, dealt: dataclasses.replace(
        events, ids={**events.ids, name: dealt(events.ids[name])}
    )


def _numbers(column: int) -> Callable[..., EventBatch]:
    def change(events: EventBatch, dealt: Callable[[Any], np.ndarray]) -> EventBatch:
        values = np.array(events.dense)
        values[..., column] = dealt(values[..., column])
        return dataclasses.replace(events, dense=values)

    return change


def _matches(name: str) -> Callable[..., EventBatch]:
    return lambda events, dealt: dataclasses.replace(
        events, matches={**events.matches, name: dealt(events.matches[name])}
    )


def _ages(events: EventBatch, dealt: Callable[[Any], np.ndarray]) -> EventBatch:
    return dataclasses.replace(events, ages=dealt(events.ages))
