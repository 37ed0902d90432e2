"""What a data set contains: features, event streams, labels, and the vocabularies they share.

Ids: row 0 of every vocabulary is the out-of-vocabulary (OOV) row; known ids are
1 .. num_ids. An embedding table therefore has `num_rows = num_ids + 1` rows.
"""

import dataclasses
import functools
import json
from collections.abc import Iterable
from typing import Any

from kunlun_jax.config.parsing import ConfigError, parse
from kunlun_jax.data.cross import (
    Cross,
    CrossColumn,
    Popularity,
    columns_of,
    declaration_fault,
)
from kunlun_jax.data.limits import DEFAULT_LIMITS, Limits
from kunlun_jax.data.names import name_fault, stream_fault, task_fault

OOV_ID = 0
COMBINERS = ("mean", "sum")
# Ids are int32, and a batch holds `max_values` of them for every example.
MAX_IDS = 2**31 - 2
MAX_VALUES = 2**16


class SchemaError(ValueError):
    """A schema that contradicts itself, or data that contradict the schema."""


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """A set of ids that share one embedding table.

    Attributes:
        name: Name of the table.
        num_ids: Known ids; valid ids are 1 .. num_ids, and 0 is the OOV row.
        hashes: How many hashes of a value give it its ids: 0, ids are numbered instead; 1; or 2,
            double hashing: a value has two ids, whose embeddings are summed (`hashing.py`).
    """

    name: str
    num_ids: int
    hashes: int = 0

    @property
    def num_rows(self) -> int:
        """Rows of the embedding table: the known ids and the OOV row."""
        return self.num_ids + 1


@dataclasses.dataclass(frozen=True)
class DenseFeature:
    """A number, standardised as (x - mean) / std after an optional log1p.

    Attributes:
        name: Name of the column.
        log1p: Whether sign(x) * log1p(|x|) comes before standardisation (counts, prices).
        mean: Mean of the transformed value over the training split; filled in by the build.
        std: Standard deviation likewise.
    """

    name: str
    log1p: bool = False
    mean: float = 0.0
    std: float = 1.0


@dataclasses.dataclass(frozen=True)
class SparseFeature:
    """A categorical feature of the context, single- or multi-valued.

    Attributes:
        name: Name of the column.
        vocabulary: Name of the vocabulary its ids come from.
        max_values: Most values per example; more are cut.
        combiner: How the embeddings of several values become one: "mean" or "sum".
    """

    name: str
    vocabulary: str
    max_values: int = 1
    combiner: str = "mean"


@dataclasses.dataclass(frozen=True)
class EventId:
    """A categorical attribute of an event: one id per event.

    Attributes:
        name: Name of the column. Where a context feature of the same name is listed in
            `Schema.candidate`, both use the same vocabulary.
        vocabulary: Name of the vocabulary its ids come from.
    """

    name: str
    vocabulary: str


@dataclasses.dataclass(frozen=True)
class EventStream:
    """One kind of event in a user's history.

    Attributes:
        name: Name of the stream.
        ids: Categorical attributes of an event.
        dense: Numerical attributes of an event.
        max_len: Most events that the data set offers to an example; a model may take fewer.
    """

    name: str
    ids: tuple[EventId, ...]
    dense: tuple[DenseFeature, ...] = ()
    max_len: int = 256


@dataclasses.dataclass(frozen=True)
class Schema:
    """Everything a model needs to know about a data set before it sees an example.

    Attributes:
        name: Name of the data set.
        vocabularies: All vocabularies, each named once.
        dense: Numerical context features.
        sparse: Categorical context features.
        candidate: Names of the sparse features that describe the candidate item. They
            share vocabularies with event ids, so that a candidate token and an event token
            can be the same sum of the same embeddings.
        streams: Event streams.
        labels: Names of the tasks, one binary label each.
        limits: What validation accepts.
        cross: Count features that are computed (`cross.py`); `dense` ends with the columns that
            they stand for, and then those of `popularity`.
        popularity: Likewise, of the events of all users.

    Raises:
        SchemaError: On a name that cannot be one (`names.py`) or is used twice, a reference to a
            name that is not there, or a number out of range.
    """

    name: str
    vocabularies: tuple[Vocabulary, ...]
    dense: tuple[DenseFeature, ...]
    sparse: tuple[SparseFeature, ...]
    candidate: tuple[str, ...]
    streams: tuple[EventStream, ...]
    labels: tuple[str, ...] = ("click",)
    limits: Limits = DEFAULT_LIMITS
    cross: tuple[Cross, ...] = ()
    popularity: tuple[Popularity, ...] = ()

    def __post_init__(self) -> None:
        _check_names(self)
        _require_unique("vocabulary", [v.name for v in self.vocabularies])
        _require_unique("context feature", [f.name for f in (*self.dense, *self.sparse)])
        _require_unique("stream", [s.name for s in self.streams])
        _require_unique("label", list(self.labels))
        tables = {v.name for v in self.vocabularies}
        for vocabulary in self.vocabularies:
            if vocabulary.hashes not in (0, 1, 2):
                raise SchemaError(
                    f"vocabulary {vocabulary.name!r}: expected 0, 1 or 2 hashes, "
                    f"got {vocabulary.hashes}"
                )
        for owner, feature in self._id_features():
            if feature.vocabulary not in tables:
                raise SchemaError(
                    f"{owner} {feature.name!r}: expected a vocabulary of {sorted(tables)}, "
                    f"got {feature.vocabulary!r}"
                )
        for feature in self.sparse:
            if feature.combiner not in COMBINERS:
                raise SchemaError(
                    f"sparse feature {feature.name!r}: expected a combiner of {COMBINERS}, "
                    f"got {feature.combiner!r}"
                )
            _require_within(f"sparse feature {feature.name!r}: max_values", feature.max_values, 1,
                            MAX_VALUES)  # fmt: skip
        for vocabulary in self.vocabularies:
            _require_within(f"vocabulary {vocabulary.name!r}: ids", vocabulary.num_ids, 0, MAX_IDS)
        if len(self.limits.label_rate) != 2:
            raise SchemaError(f"limits: expected two label rates, got {self.limits.label_rate}")
        missing = set(self.candidate) - {f.name for f in self.sparse}
        if missing:
            raise SchemaError(f"candidate: no sparse feature named {sorted(missing)}")
        for stream in self.streams:
            _require_unique(
                f"column of stream {stream.name!r}", [f.name for f in (*stream.ids, *stream.dense)]
            )
            _require_within(f"stream {stream.name!r}: max_len", stream.max_len, 1, MAX_IDS)
        _check_cross(self)

    def _id_features(self) -> list[tuple[str, SparseFeature | EventId]]:
        context = [("sparse feature", f) for f in self.sparse]
        events = [(f"stream {s.name!r}, event id", f) for s in self.streams for f in s.ids]
        return [*context, *events]

    @functools.cached_property
    def vocabulary_by_name(self) -> dict[str, Vocabulary]:
        """The vocabularies by their names."""
        return {v.name: v for v in self.vocabularies}

    @functools.cached_property
    def stream_by_name(self) -> dict[str, EventStream]:
        """The event streams by their names."""
        return {s.name: s for s in self.streams}

    @functools.cached_property
    def derived(self) -> tuple[CrossColumn, ...]:
        """The dense features that are computed, the last ones: of `cross`, then of `popularity`."""
        return columns_of((*self.cross, *self.popularity))

    @functools.cached_property
    def shared_ids(self) -> dict[str, tuple[str, ...]]:
        """By stream, its ids that the context of a request has too: of equal name and vocabulary.

        Of these it can be said whether an event's equals the candidate's.
        """
        context = {f.name: f.vocabulary for f in self.sparse}
        return {
            s.name: tuple(f.name for f in s.ids if context.get(f.name) == f.vocabulary)
            for s in self.streams
        }

    def to_json(self) -> dict[str, Any]:
        """Return the schema as JSON-serialisable dictionaries and lists."""
        value = json.loads(json.dumps(dataclasses.asdict(self)))
        # Not in data sets and checkpoints of before there were limits, cross features and hashes.
        if self.limits == DEFAULT_LIMITS:
            del value["limits"]
        for key in ("cross", "popularity"):
            if not value[key]:
                del value[key]
        for vocabulary in value["vocabularies"]:
            if not vocabulary["hashes"]:
                del vocabulary["hashes"]
        return value

    @classmethod
    def from_json(cls, value: Any) -> "Schema":
        """Rebuild a schema from what `to_json` returned.

        Raises:
            SchemaError: If a field is missing, unknown or of another type.
        """
        try:
            if isinstance(value, dict):
                value = {"cross": [], "popularity": [], **value}
                value["limits"] = _completed(value.get("limits", {}), Limits)
                for key, kind in _LISTED.items():
                    if isinstance(value.get(key), list):
                        value[key] = [_completed(element, kind) for element in value[key]]
            return parse(cls, value, "schema")
        except ConfigError as error:
            raise SchemaError(f"not a schema: {error}") from error


def _check_cross(schema: Schema) -> None:
    single = {f.name for f in schema.sparse if f.max_values == 1}
    shared = {s: [x for x in ids if x in single] for s, ids in schema.shared_ids.items()}
    for place, declared in (("cross", schema.cross), ("popularity", schema.popularity)):
        for one in declared:
            fault = declaration_fault(one, shared)
            if fault:
                raise SchemaError(f"{place}: {fault}")
    names = tuple(column.name for column in schema.derived)
    ends = tuple(f.name for f in schema.dense[len(schema.dense) - len(names) :])
    if ends != names:
        raise SchemaError(f"dense: expected to end with {names}, as cross says, got {ends}")


def _check_names(schema: Schema) -> None:
    named = [("vocabulary", v.name, name_fault) for v in schema.vocabularies]
    derived = {column.name for column in schema.derived}  # of names that are checked themselves
    context = [f.name for f in (*schema.dense, *schema.sparse) if f.name not in derived]
    named += [("context feature", name, name_fault) for name in context]
    named += [("stream", s.name, stream_fault) for s in schema.streams]
    named += [("label", task, task_fault) for task in schema.labels]
    for stream in schema.streams:
        columns = (*stream.ids, *stream.dense)
        named += [(f"column of stream {stream.name!r}", f.name, name_fault) for f in columns]
    for kind, name, fault in [("data set", schema.name, name_fault), *named]:
        found = fault(name)
        if found is not None:
            raise SchemaError(f"{kind}: expected {found[0]}, got {found[1]}")


def derived_features(declared: Iterable[Cross | Popularity]) -> tuple[DenseFeature, ...]:
    """Return the columns that declarations stand for as dense features of a schema.

    Args:
        declared: The declarations, those of popularity last.
    """
    return tuple(DenseFeature(column.name, log1p=True) for column in columns_of(declared))


_LISTED = {"vocabularies": Vocabulary, "dense": DenseFeature, "sparse": SparseFeature}


def _completed(value: Any, kind: type) -> Any:
    """Add the fields that a schema of before there were any lacks, as they are by default."""
    fields = dataclasses.fields(kind)
    defaults = {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}
    return {**defaults, **value} if isinstance(value, dict) else value


def _require_within(place: str, number: int, low: int, high: int) -> None:
    if not low <= number <= high:
        raise SchemaError(f"{place}: expected {low} .. {high}, got {number}")


def _require_unique(kind: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SchemaError(f"{kind} named more than once: {twice}")
