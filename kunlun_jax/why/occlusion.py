"""What one request's score owes to its streams, events and fields: the score without each.

    stream         its history is empty
    event          it is taken out of the history; count features stay as they are
    field          of the context: the mean, or no value; of all events of a stream: the mean, or
                   out of vocabulary

An effect is the log-odds with it less those without it. Effects do not add up to the score: what
two events tell both, is lost only without both.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from kunlun_jax.audit.perturbations import matched_anew, without_streams
from kunlun_jax.config import ModelConfig
from kunlun_jax.data.batch import Batch, EventBatch
from kunlun_jax.data.schema import Schema
from kunlun_jax.layers.features import features_in_use
from kunlun_jax.serving.predictor import BatchPredictor

EVENT, FIELD, STREAM = "event", "field", "stream"


class Occlusion(NamedTuple):
    """A request with something left out.

    Attributes:
        kind: `STREAM`, `EVENT` or `FIELD`.
        stream: Name of the stream; "" of the context.
        name: Of the field; "" otherwise.
        position: Of the event, from 0, the oldest; -1 otherwise.
        batch: The request without it, a batch of one.
    """

    kind: str
    stream: str
    name: str
    position: int
    batch: Batch


def occlusions(batch: Batch, schema: Schema, model: ModelConfig) -> list[Occlusion]:
    """Return a request without each of its parts.

    Args:
        batch: A batch of one.
        schema: The data set's schema.
        model: The model.
    """
    used, columns = features_in_use(schema, model), [f.name for f in schema.dense]
    found = []
    for feature in used.dense:
        dense = np.array(batch.dense)
        dense[:, columns.index(feature.name)] = 0  # standardised: the mean
        changed = dataclasses.replace(batch, dense=dense)
        found.append(Occlusion(FIELD, "", feature.name, -1, changed))
    for feature in used.sparse:
        nothing = jax.tree.map(np.zeros_like, batch.sparse[feature.name])
        changed = dataclasses.replace(batch, sparse={**batch.sparse, feature.name: nothing})
        found.append(Occlusion(FIELD, "", feature.name, -1, matched_anew(changed)))
    for stream in model.streams:
        name, events = stream.name, batch.streams[stream.name]
        of = used.stream_by_name[name]
        found.append(Occlusion(STREAM, name, "", -1, without_streams(batch, [name])))
        for position in range(int(np.asarray(events.lengths)[0])):
            changed = _with(batch, name, _without_event(events, position))
            found.append(Occlusion(EVENT, name, "", position, changed))
        for id_feature in of.ids:
            ids = {**events.ids, id_feature.name: np.zeros_like(events.ids[id_feature.name])}
            changed = _with(batch, name, dataclasses.replace(events, ids=ids))
            found.append(Occlusion(FIELD, name, id_feature.name, -1, matched_anew(changed)))
        for column, attribute in enumerate(of.dense):
            dense = np.array(events.dense)
            dense[..., column] = 0
            changed = _with(batch, name, dataclasses.replace(events, dense=dense))
            found.append(Occlusion(FIELD, name, attribute.name, -1, changed))
    return found


def effects(
    predictor: BatchPredictor, batch: Batch, found: list[Occlusion]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the log-odds of a request, and what each part adds to them.

    Args:
        predictor: Predicts.
        batch: The request, a batch of one.
        found: What `occlusions` has made of it.

    Returns:
        float64 [L], and [occlusions, L].
    """
    parts = [batch, *(one.batch for one in found)]
    size, logits = predictor.batch_size, []
    for first in range(0, len(parts), size):
        some = parts[first : first + size]
        padding = [some[-1]] * (size - len(some))

        def joined(*leaves: Any) -> np.ndarray:
            return np.concatenate([np.asarray(leaf) for leaf in leaves])

        together = jax.tree.map(joined, *some, *padding)
        weights = (np.arange(size) < len(some)).astype(np.float32)
        probability = predictor.predict(dataclasses.replace(together, weights=weights))
        logits.append(np.log(probability) - np.log1p(-probability))
    every = np.concatenate(logits)
    return every[0], every[0] - every[1:]


def _with(batch: Batch, name: str, events: EventBatch) -> Batch:
    return dataclasses.replace(batch, streams={**batch.streams, name: events})


def _without_event(events: EventBatch, position: int) -> EventBatch:
    def cut(values: Any) -> np.ndarray:
        values = np.asarray(values)
        nothing = np.zeros_like(values[:, :1])
        return np.concatenate([values[:, :position], values[:, position + 1 :], nothing], axis=1)

    kept = jax.tree.map(cut, dataclasses.replace(events, lengths=None))
    return dataclasses.replace(kept, lengths=np.asarray(events.lengths) - 1)
