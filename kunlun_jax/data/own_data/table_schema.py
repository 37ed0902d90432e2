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
import datetime
import json
import pathlib
import runpy
from typing import Any

from kunlun_jax.data.schema import (
    DenseFeature,
    EventId,
    EventStream,
    Limits,
    Schema,
    SchemaError,
    SparseFeature,
    Vocabulary,
)

IMPRESSIONS = "impressions"
DEFAULT_LIMITS = Limits()


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
class ByTime:
    """The last requests are for the test, those before them for validation.

    Requests of one second stay together.

    Attributes:
        validation: Share of the requests.
        test: Share of the requests.
    """

    validation: float = 0.1
    test: float = 0.1


@dataclasses.dataclass(frozen=True)
class ByDate:
    """Validation and test begin on given days.

    Attributes:
        validation: First day (UTC) of validation, as "2024-03-01".
        test: First day of the test.
    """

    validation: str
    test: str

    def seconds(self) -> tuple[int, int]:
        """Return both starts as Unix seconds.

        Raises:
            SchemaError: If one is not a date.
        """
        try:
            days = [datetime.date.fromisoformat(day) for day in (self.validation, self.test)]
        except (TypeError, ValueError) as error:
            raise SchemaError(f"split: expected dates as '2024-03-01': {error}") from error
        moments = [datetime.datetime.combine(d, datetime.time(), datetime.UTC) for d in days]
        return int(moments[0].timestamp()), int(moments[1].timestamp())


@dataclasses.dataclass(frozen=True)
class ByUser:
    """Every user belongs to one split, by a hash.

    Attributes:
        validation: Share of the users.
        test: Share of the users.
        seed: Seed of the hash.
    """

    validation: float = 0.1
    test: float = 0.1
    seed: int = 0


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
    split: ByTime | ByDate | ByUser = ByTime()
    limits: Limits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        for field in ("streams", "sparse", "candidate", "dense", "labels"):
            if not isinstance(getattr(self, field), tuple):
                raise SchemaError(
                    f"{field}: expected a tuple such as ('a',), got {getattr(self, field)!r}"
                )
        if not _are_texts(self.missing):
            raise SchemaError(
                f"missing: expected None or a tuple of texts such as ('-',), got {self.missing!r}"
            )
        for field in ("streams", "labels"):
            if not getattr(self, field):
                raise SchemaError(f"{field}: expected at least one, got none")
        for table in self.streams:
            if not isinstance(table, Events):
                raise SchemaError(f"streams: expected Events(...), got {table!r:.60}")
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
        for name, kind in self.vocabularies.items():
            number = kind.num_ids if isinstance(kind, Hashed) else kind.min_count
            if number < 1:
                raise SchemaError(f"vocabulary {name!r}: expected at least 1, got {number}")
            if isinstance(kind, Hashed) and kind.num_hashes not in (1, 2):
                raise SchemaError(
                    f"vocabulary {name!r}: expected 1 or 2 hashes, got {kind.num_hashes}"
                )
        self._check_split()

    def _check_split(self) -> None:
        split = self.split
        if isinstance(split, ByDate):
            validation, test = split.seconds()
            if validation >= test:
                raise SchemaError(
                    f"split: expected validation before test, got {split.validation}, {split.test}"
                )
        elif min(split.validation, split.test) <= 0 or split.validation + split.test >= 1:
            raise SchemaError(
                "split: expected positive shares whose sum is below 1, got "
                f"{split.validation} and {split.test}"
            )

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
            dense=self.dense_features,
            sparse=self.sparse_features,
            candidate=self.candidate,
            streams=tuple(table.stream for table in self.streams),
            labels=self.labels,
            limits=self.limits,
        )

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


def _are_texts(value: object) -> bool:
    return value is None or (isinstance(value, tuple) and all(isinstance(t, str) for t in value))


def _dense(features: tuple[str | DenseFeature, ...]) -> tuple[DenseFeature, ...]:
    return tuple(DenseFeature(f) if isinstance(f, str) else f for f in features)
