"""One request, explained: its score, what each part adds to it, and what the attention looks at."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

from kunlun_jax.data import Batch, BatchSource, Dataset, DenseFeature, Events, Request
from kunlun_jax.data.reading.request_values import RequestError
from kunlun_jax.data.reading.requests import batch_requests
from kunlun_jax.data.schema import OOV_ID
from kunlun_jax.models.registry import create_model
from kunlun_jax.serving.keys import Keys
from kunlun_jax.serving.predictor import BatchPredictor
from kunlun_jax.serving.trained import Trained
from kunlun_jax.why.maps import AttentionMap, attention_maps
from kunlun_jax.why.occlusion import Occlusion, effects, occlusions

_UNITS = ((86_400, "days"), (3_600, "hours"), (60, "minutes"), (1, "seconds"))


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Why a request has its score.

    Attributes:
        title: Which request.
        run: Family of the model, data set, working directory and step, in words.
        tasks: Names of the tasks.
        logits: float64 [L], log-odds.
        parts: What was left out.
        effects: float64 [parts, L]: log-odds with a part less those without it.
        context: Name and value of every feature of the context.
        events: By stream, what happened, oldest first, in words.
        maps: Of the attention.
    """

    title: str
    run: str
    tasks: tuple[str, ...]
    logits: np.ndarray
    parts: list[Occlusion]
    effects: np.ndarray
    context: list[tuple[str, str]]
    events: dict[str, list[str]]
    maps: list[AttentionMap]


def explain(trained: Trained, batch: Batch, title: str, workdir: pathlib.Path) -> Explanation:
    """Explain the score of a request.

    Args:
        trained: The model.
        batch: The request, a batch of one.
        title: Which request it is.
        workdir: The run's working directory.
    """
    schema, model = trained.schema, trained.config.model
    parts = occlusions(batch, schema, model)
    logits, added = effects(BatchPredictor(trained), batch, parts)
    context = [(f.name, _number(float(batch.dense[0, i]), f)) for i, f in enumerate(schema.dense)]
    for feature in schema.sparse:
        found = batch.sparse[feature.name]
        ids = np.asarray(found.ids)[0, : int(np.asarray(found.lengths)[0])]
        names = [_name(trained, feature.vocabulary, one) for one in ids]
        context.append((feature.name, ", ".join(names) or "no value"))
    return Explanation(
        title=title,
        run=f"{model.name} on {schema.name}, working directory {workdir}, step {trained.step:,}",
        tasks=schema.labels,
        logits=logits,
        parts=parts,
        effects=added,
        context=context,
        events={name: _events(trained, batch, name) for name in trained.max_lens},
        maps=attention_maps(
            create_model(trained.config, schema), trained.params, trained.tables, batch
        ),
    )


def example_of(trained: Trained, dataset: Dataset, split: str, row: int) -> Batch:
    """Return an example of a split as a batch of one.

    Args:
        trained: The model.
        dataset: The data set of its run.
        split: Which split.
        row: Its number in the split, from 0.

    Raises:
        DatasetError: If the data are damaged.
        RequestError: If there is no such example.
    """
    source = BatchSource(
        dataset, split=split, batch_size=1, max_lens=trained.max_lens, shuffle=False
    )
    if not 0 <= row < source.num_examples:
        raise RequestError(
            f"--example: expected a row of the {split} split, 0 .. {source.num_examples - 1}, got "
            f"{row}"
        )
    found = source[row]
    source.confirm()
    return dataclasses.replace(found, weights=np.ones(1, np.float32))


def request_in(path: pathlib.Path, trained: Trained) -> Batch:
    """Return a request in a JSON file, as an exported reader takes it, as a batch of one.

    Args:
        path: The file: time, dense, sparse, and events with times, ids and dense.
        trained: The model.

    Raises:
        OSError: If it cannot be read.
        RequestError: If it is no request of the run's schema.
    """
    try:
        value: Any = json.loads(path.read_text())
        events = {name: Events(**columns) for name, columns in value.pop("events", {}).items()}
        request = Request(**value, events=events)
    except (ValueError, TypeError, AttributeError) as error:
        raise RequestError(f"{path}: expected a request as JSON: {error}") from error
    if trained.has_keys:
        request = Keys(trained.schema, trained.vocabularies).numbered(request, str(path))
    return batch_requests([request], trained.schema, max_lens=trained.max_lens)


def _events(trained: Trained, batch: Batch, name: str) -> list[str]:
    events, stream = batch.streams[name], trained.schema.stream_by_name[name]
    found = []
    for i in range(int(np.asarray(events.lengths)[0])):
        words = [f"{_age(int(events.ages[0, i]))} before"]
        words += [
            f"{f.name} {_name(trained, f.vocabulary, np.asarray(events.ids[f.name])[0, i])}"
            for f in stream.ids
        ]
        words += [
            f"{f.name} {_number(float(events.dense[0, i, column]), f)}"
            for column, f in enumerate(stream.dense)
        ]
        found.append(", ".join(words))
    return found


def _age(seconds: int) -> str:
    size, unit = next((x for x in _UNITS if seconds >= x[0]), _UNITS[-1])
    return f"{seconds / size:.3g} {unit}"


def _number(standardised: float, feature: DenseFeature) -> str:
    value = standardised * feature.std + feature.mean
    if feature.log1p:
        value = float(np.sign(value) * np.expm1(abs(value)))
    return f"{value:.4g}"


def _name(trained: Trained, vocabulary: str, number: Any) -> str:
    """Return the value that an id stands for, where the run keeps the vocabulary."""
    numbers = np.atleast_1d(number).tolist()
    if not any(numbers):
        return "out of vocabulary"
    values = trained.vocabularies.get(vocabulary)
    if values is not None and len(numbers) == 1 and numbers[0] > OOV_ID:
        return values[numbers[0] - 1]
    return "#" + "/".join(map(str, numbers))
