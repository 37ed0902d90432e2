"""What the columns of your own tables mean.

A schema file defines SCHEMA:

    from kunlun_jax.data.own_data import Events, TableSchema

    SCHEMA = TableSchema(
        name="shop",
        sparse=("item", "category", "device"),
        candidate=("item", "category"),
        dense=("price",),
        streams=(Events("view", ids=("item", "category")),),
    )

The columns `user`, `time` and `label` go by these names unless the schema says otherwise, and what
it says of `user` and `time` holds for the tables of events too, unless they say otherwise. A
feature is named after its column, and columns of one name share a vocabulary. All that a schema
file needs comes from `kunlun_jax.data.own_data`.
"""

import dataclasses
import json
import pathlib
import runpy
from typing import Any

from kunlun_jax.data.cross import Cross, Popularity
from kunlun_jax.data.limits import DEFAULT_LIMITS, Limits
from kunlun_jax.data.own_data.split_rules import DEFAULT_SPLIT, ByDate, ByTime, ByUser, check_split
from kunlun_jax.data.schema import (
    DenseFeature,
    EventId,
    EventStream,
    Schema,
    SchemaError,
    SparseFeature,
    Vocabulary,
    derived_features,
)

IMPRESSIONS = "impressions"
WINDOWS = (7, 28)  # days


@dataclasses.dataclass(frozen=True)
class Built:
    """A vocabulary of the values that training has seen.

    Attributes:
        min_count: Times that training has to see a value; rarer ones are out of vocabulary.
    """

    min_count: int = 1


@dataclasses.dataclass(frozen=True)
class Hashed:
    """A vocabulary of a fixed size; values share an id where their hashes meet (`hashing.py`).

    Attributes:
        num_ids: Ids.
        num_hashes: 1; or 2, double hashing: a value has two ids, and looks like the sum of both.
    """

    num_ids: int
    num_hashes: int = 1

    def vocabulary(self, name: str) -> Vocabulary:
        """Return it as the schema of the data set describes it."""
        return Vocabulary(name, self.num_ids, self.num_hashes)


@dataclasses.dataclass(frozen=True)
class Events:
    """A table of events that becomes a stream.

    Attributes:
        name: Name of the stream.
        ids: Columns of ids; an `EventId` where the vocabulary has another name.
        dense: Columns of numbers; a `DenseFeature` to say more.
        max_len: Most recent events that the data set offers to an example.
        user: Column of the user; empty: the one of the impressions' table.
        time: Column of the time; empty: the one of the impressions' table.
        where: SQL condition on the columns, to take only some rows: "kind = 'view'".
    """

    name: str
    ids: tuple[str | EventId, ...]
    dense: tuple[str | DenseFeature, ...] = ()
    max_len: int = 256
    user: str = ""
    time: str = ""
    where: str = ""

    @property
    def stream(self) -> EventStream:
        """The stream, every feature spelt out."""
        ids = tuple(EventId(f, f) if isinstance(f, str) else f for f in self.ids)
        return EventStream(self.name, ids, _dense(self.dense), self.max_len)

    @property
    def column_names(self) -> list[str]:
        """The columns that the table has to have."""
        return [self.user, self.time, *(f.name for f in (*self.stream.ids, *self.stream.dense))]


@dataclasses.dataclass(frozen=True)
class TableSchema:
    """What the columns of a table of impressions and of tables of events mean.

    Attributes:
        name: Name of the data set.
        streams: The tables of events; what they leave open is filled in.
        sparse: Categorical columns of the impressions; a `SparseFeature` where the vocabulary has
            another name or there are several values (a Parquet list, or text with `separator`).
        candidate: Those of the categorical columns that describe the candidate.
        dense: Numerical columns of the impressions; a `DenseFeature` to say more.
        labels: Columns of 0 and 1.
        user: Column of the user, in the impressions.
        time: Column of the request's time: Unix seconds, or a timestamp (UTC unless it says).
        weight: Column of the example's weight; empty: every weight is 1.
        where: SQL condition on the impressions.
        separator: What stands between the values of a text cell with several.
        missing: Texts that stand for nothing, in any case. None: in CSV those that pandas, R,
            MySQL, Hive and Spark write (`texts.MISSING`), such as NULL or NaN; in Parquet, which
            has nulls, none. A blank text always stands for nothing.
        vocabularies: How the ids of a vocabulary are made; by default `Built()`.
        split: `ByTime`, `ByDate` or `ByUser`.
        limits: What validation accepts.
        cross: Count features (`data/cross.py`); None: of every stream and all ids that it shares
            with the candidate, in whole and for WINDOWS; (): none.
        popularity: Likewise, of the events of all users of the impressions.

    Raises:
        SchemaError: If names or numbers contradict each other, or a label is among the features.
    """

    name: str
    streams: tuple[Events, ...]
    sparse: tuple[str | SparseFeature, ...] = ()
    candidate: tuple[str, ...] = ()
    dense: tuple[str | DenseFeature, ...] = ()
    labels: tuple[str, ...] = ("label",)
    user: str = "user"
    time: str = "time"
    weight: str = ""
    where: str = ""
    separator: str = "|"
    missing: tuple[str, ...] | None = None
    vocabularies: dict[str, Built | Hashed] = dataclasses.field(default_factory=dict)
    split: ByTime | ByDate | ByUser = DEFAULT_SPLIT
    limits: Limits = DEFAULT_LIMITS
    cross: tuple[Cross, ...] | None = None
    popularity: tuple[Popularity, ...] | None = None

    def __post_init__(self) -> None:
        _check_fields(self)
        streams = tuple(
            dataclasses.replace(s, user=s.user or self.user, time=s.time or self.time)
            for s in self.streams
        )
        object.__setattr__(self, "streams", streams)  # frozen for everyone else
        names = self.vocabulary_names
        schema = self.schema(dict.fromkeys(names, 1))
        unknown = sorted(set(self.vocabularies) - set(names))
        if unknown:
            raise SchemaError(f"vocabularies: no feature uses {unknown[0]!r}; used are {names}")
        if IMPRESSIONS in schema.stream_by_name:
            raise SchemaError(f"streams: expected another name than {IMPRESSIONS!r}")
        features = {f.name for f in (*schema.dense, *schema.sparse)}
        told = sorted({*self.labels, self.time, self.weight} & features)
        if told:
            raise SchemaError(f"column {told[0]!r}: a label, time or weight cannot be a feature")
        check_split(self.split)

    @property
    def vocabulary_names(self) -> list[str]:
        """The vocabularies in the order in which the features name them."""
        context = [f.vocabulary for f in self.sparse_features]
        events = [f.vocabulary for table in self.streams for f in table.stream.ids]
        return list(dict.fromkeys([*context, *events]))

    @property
    def sparse_features(self) -> tuple[SparseFeature, ...]:
        """The categorical features, spelt out."""
        return tuple(SparseFeature(f, f) if isinstance(f, str) else f for f in self.sparse)

    @property
    def dense_features(self) -> tuple[DenseFeature, ...]:
        """The numerical features, spelt out."""
        return _dense(self.dense)

    @property
    def crosses(self) -> tuple[Cross, ...]:
        """The count features, spelt out."""
        if self.cross is not None:
            return self.cross
        return tuple(Cross(name, ids, WINDOWS) for name, ids in _candidate_ids(self).items())

    @property
    def popularities(self) -> tuple[Popularity, ...]:
        """The popularity features, spelt out."""
        if self.popularity is not None:
            return self.popularity
        shared = _candidate_ids(self)
        return tuple(Popularity(name, ids, WINDOWS) for name, ids in shared.items() if ids)

    @property
    def column_names(self) -> list[str]:
        """The columns that the table of impressions has to have."""
        weight = [self.weight] if self.weight else []
        return [*self.request_columns, *self.labels, *weight]

    @property
    def request_columns(self) -> list[str]:
        """Those of them that are known before anything has become of a request."""
        features = [f.name for f in (*self.sparse_features, *self.dense_features)]
        return [self.user, self.time, *features]

    def vocabulary(self, name: str) -> Built | Hashed:
        """Return how the ids of a vocabulary are made."""
        return self.vocabularies.get(name, Built())

    def schema(self, sizes: dict[str, int]) -> Schema:
        """Return the schema of the data set, given the known ids of every vocabulary."""
        kinds = {name: self.vocabulary(name) for name in sizes}
        hashes = {n: kind.num_hashes for n, kind in kinds.items() if isinstance(kind, Hashed)}
        return Schema(
            name=self.name,
            vocabularies=tuple(Vocabulary(n, size, hashes.get(n, 0)) for n, size in sizes.items()),
            dense=(
                *self.dense_features,
                *derived_features((*self.crosses, *self.popularities)),
            ),
            sparse=self.sparse_features,
            candidate=self.candidate,
            streams=tuple(table.stream for table in self.streams),
            labels=self.labels,
            limits=self.limits,
            cross=self.crosses,
            popularity=self.popularities,
        )

    def declared(self) -> Schema:
        """Return the schema of the data set, without the sizes that only the data tell."""
        kinds = {name: self.vocabulary(name) for name in self.vocabulary_names}
        return self.schema({n: k.num_ids if isinstance(k, Hashed) else 1 for n, k in kinds.items()})

    def to_json(self) -> dict[str, Any]:
        """Return the schema as JSON-serialisable dictionaries and lists."""
        kinds = {name: type(kind).__name__ for name, kind in self.vocabularies.items()}
        value = dataclasses.asdict(self)
        for name, kind in kinds.items():
            value["vocabularies"][name]["kind"] = kind
        value["split"]["kind"] = type(self.split).__name__
        return json.loads(json.dumps(value))


def load_schema(path: str | pathlib.Path) -> TableSchema:
    """Run a Python file and return its SCHEMA.

    Raises:
        SchemaError: If the file is missing, fails or has no TableSchema of that name.
    """
    try:
        found = runpy.run_path(str(path)).get("SCHEMA")
    except SchemaError as error:
        raise SchemaError(f"{path}: {error}") from error
    except Exception as error:
        raise SchemaError(f"{path}: {type(error).__name__}: {error}") from error
    if not isinstance(found, TableSchema):
        raise SchemaError(
            f"{path}: expected SCHEMA to be a TableSchema, got {type(found).__qualname__}"
        )
    return found


def _check_fields(schema: TableSchema) -> None:
    """Refuse fields of another type or out of range, and none where there has to be one."""
    for field in ("streams", "sparse", "candidate", "dense", "labels"):
        if not isinstance(getattr(schema, field), tuple):
            raise SchemaError(
                f"{field}: expected a tuple such as ('a',), got {getattr(schema, field)!r}"
            )
    for field, kind, example in (
        ("missing", str, "texts such as ('-',)"),
        ("cross", Cross, "Cross(...)"),
        ("popularity", Popularity, "Popularity(...)"),
    ):
        value = getattr(schema, field)
        tuple_of = isinstance(value, tuple) and all(isinstance(x, kind) for x in value)
        if not (value is None or tuple_of):
            raise SchemaError(f"{field}: expected None or a tuple of {example}, got {value!r:.60}")
    for field in ("streams", "labels"):
        if not getattr(schema, field):
            raise SchemaError(f"{field}: expected at least one, got none")
    for table in schema.streams:
        if not isinstance(table, Events):
            raise SchemaError(f"streams: expected Events(...), got {table!r:.60}")
    for name, kind in schema.vocabularies.items():
        number = kind.num_ids if isinstance(kind, Hashed) else kind.min_count
        if number < 1:
            raise SchemaError(f"vocabulary {name!r}: expected at least 1, got {number}")
        if isinstance(kind, Hashed) and kind.num_hashes not in (1, 2):
            raise SchemaError(f"vocabulary {name!r}: expected 1 or 2 hashes, got {kind.num_hashes}")


def _candidate_ids(schema: TableSchema) -> dict[str, tuple[str, ...]]:
    """Return by stream the ids that an event can share with the candidate, a single value."""
    single = {
        f.name: f.vocabulary
        for f in schema.sparse_features
        if f.name in schema.candidate and f.max_values == 1
    }
    return {
        table.name: tuple(f.name for f in table.stream.ids if single.get(f.name) == f.vocabulary)
        for table in schema.streams
    }


def _dense(features: tuple[str | DenseFeature, ...]) -> tuple[DenseFeature, ...]:
    return tuple(DenseFeature(f) if isinstance(f, str) else f for f in features)
