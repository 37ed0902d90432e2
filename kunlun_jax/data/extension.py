"""Data sets that extend another: the same features, and known values under their known ids."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import pyarrow.parquet as pq

from kunlun_jax.data.format import DatasetError
from kunlun_jax.data.manifest import (
    MANIFEST,
    check_file,
    identity_of,
    manifest_checksum,
    read_manifest,
    schema_of,
)
from kunlun_jax.data.schema import DenseFeature, Schema, SchemaError, Vocabulary
from kunlun_jax.files import first_difference

_UNORDERED = ("vocabulary", "stream")


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What a data set says of itself: dataset.json, and vocabularies beside it.

    Attributes:
        directory: Of the data set, or what a run keeps of it.
        manifest: The content of dataset.json.
        schema: Its schema.
    """

    directory: pathlib.Path
    manifest: dict[str, Any]
    schema: Schema

    @classmethod
    def open(cls, directory: pathlib.Path) -> "Metadata":
        """Read dataset.json.

        Args:
            directory: Of a data set, or the folder `dataset` of a run.

        Raises:
            DatasetError: As `read_manifest`.
        """
        manifest = read_manifest(directory)
        return cls(directory, manifest, schema_of(manifest, directory / MANIFEST))

    def vocabulary_file(self, name: str) -> dict[str, Any] | None:
        """Return what the manifest says of a vocabulary's file; None where it has none."""
        return self.manifest.get("vocabularies", {}).get(name)


class OtherSchemaError(SchemaError):
    """A schema that does not fit the data set that it should extend, a line for a difference."""


@dataclasses.dataclass(frozen=True)
class Parent:
    """The data set that a build extends, and what it keeps of it.

    Attributes:
        metadata: Of the data set.
        statistics: "keep" its means and deviations, or "refresh" them by the new training split.
    """

    metadata: Metadata
    statistics: str

    @classmethod
    def open(cls, directory: pathlib.Path, statistics: str, schema: Schema) -> "Parent":
        """Open a data set to extend it.

        Args:
            directory: Of the data set, or the folder `dataset` of a run.
            statistics: As of the attribute.
            schema: That of the new data set, its sizes and statistics left open.

        Raises:
            DatasetError: If there is no data set, or its vocabularies are missing or damaged.
            OtherSchemaError: If its features are others.
        """
        metadata = Metadata.open(directory)
        lines = schema_differences(metadata.schema, schema)
        if lines:
            raise OtherSchemaError("\n".join(f"{directory}: {line}" for line in lines))
        for vocabulary in metadata.schema.vocabularies:
            if vocabulary.hashes:
                continue
            entry = metadata.vocabulary_file(vocabulary.name)
            if entry is None:
                raise DatasetError(
                    f"{directory}: expected vocabularies that were built from tables, got none of "
                    f"{vocabulary.name!r}"
                )
            check_file(directory, entry)
        return cls(metadata, statistics)

    @property
    def identity(self) -> dict[str, str]:
        """Which data set it is, and what is kept of it: what the content of a build depends on."""
        return {
            "manifest_sha256": manifest_checksum(self.metadata.manifest),
            "statistics": self.statistics,
        }

    def values(self, vocabulary: str) -> pathlib.Path:
        """Return the file of a vocabulary's values, in the order of their ids."""
        entry = self.metadata.vocabulary_file(vocabulary)
        assert entry is not None, "it was there when the data set was opened"
        return self.metadata.directory / entry["name"]

    def standardized(self, fitted: Schema) -> Schema:
        """Return a schema with the means and deviations that are kept.

        Args:
            fitted: The schema, with those of the new training split.
        """
        if self.statistics == "refresh":
            return fitted
        known = self.metadata.schema
        streams = tuple(
            dataclasses.replace(s, dense=known.stream_by_name[s.name].dense) for s in fitted.streams
        )
        return dataclasses.replace(fitted, dense=known.dense, streams=streams)

    def describe(self, schema: Schema) -> dict[str, Any]:
        """Return what the manifest says of the parent: which, and how many ids were appended.

        Args:
            schema: Of the new data set.
        """
        known = self.metadata.schema.vocabulary_by_name
        appended = {v.name: v.num_ids - known[v.name].num_ids for v in schema.vocabularies}
        return {**self.identity, "appended": appended}


def schema_differences(known: Schema, new: Schema) -> list[str]:
    """Return what of two schemas a model would mistake for each other, a line each.

    Sizes of numbered vocabularies, means and deviations, limits and the most events that are
    offered may differ.

    Args:
        known: The schema of the data set that is extended.
        new: The other one.
    """
    before, after = _sections(known), _sections(new)
    lines: list[str] = []
    for what in dict.fromkeys([*before, *after]):
        old, now = before.get(what, {}), after.get(what, {})
        lines += [f"{what} {name!r}: expected one, got none" for name in old if name not in now]
        lines += [f"{what} {name!r}: expected none, got one" for name in now if name not in old]
        for name in [name for name in old if name in now]:
            found = first_difference(old[name], now[name])
            if found:
                where, expected, got = found
                lines.append(f"{what} {name!r}: {where}: expected {expected!r}, got {got!r}")
        if old.keys() == now.keys() and list(old) != list(now) and what not in _UNORDERED:
            lines.append(f"{what}s: expected the order {list(old)}, got {list(now)}")
    return lines


def require_extension(known: Metadata, new: Metadata) -> None:
    """Refuse a data set in which a feature, or an id, means something else than in another.

    Args:
        known: The data set that should be extended, or be the same.
        new: The other one.

    Raises:
        DatasetError: With the first difference; or if a file is missing or damaged.
    """
    lines = schema_differences(known.schema, new.schema)
    if lines:
        more = f" (and {len(lines) - 1} more)" if lines[1:] else ""
        raise DatasetError(f"{new.directory}: does not extend {known.directory}: {lines[0]}{more}")
    if identity_of(known.manifest) == identity_of(new.manifest):
        return
    for vocabulary in known.schema.vocabularies:
        if not vocabulary.hashes:
            _require_known_ids(known, new, vocabulary)


def _require_known_ids(known: Metadata, new: Metadata, vocabulary: Vocabulary) -> None:
    name = vocabulary.name
    where = f"{new.directory}: vocabulary {name!r}: does not extend that of {known.directory}: "
    before, after = known.vocabulary_file(name), new.vocabulary_file(name)
    if before is None or after is None:
        if before == after and known.manifest["source"] == new.manifest["source"]:
            return
        raise DatasetError(
            f"{where}expected files that say what ids mean, or one source and its options"
        )
    if before["sha256"] == after["sha256"]:
        return
    old, now = _values(known, before), _values(new, after)
    if len(now) < len(old):
        raise DatasetError(f"{where}expected at least {len(old)} ids, got {len(now)}")
    if not old.equals(now.slice(0, len(old))):
        pairs = enumerate(zip(old.to_pylist(), now.to_pylist(), strict=False))
        index, (expected, got) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
        raise DatasetError(f"{where}id {index + 1}: expected {expected!r:.60}, got {got!r:.60}")


def _values(metadata: Metadata, entry: dict[str, Any]) -> Any:
    """Return the values of a vocabulary in the order of their ids."""
    check_file(metadata.directory, entry)
    return pq.ParquetFile(metadata.directory / entry["name"]).read(["value"])["value"]


def _sections(schema: Schema) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Return what has names in a schema, by kind and name: what a model takes it for."""

    def numbers(features: tuple[DenseFeature, ...]) -> dict[str, Mapping[str, Any]]:
        return {f.name: {"log1p": f.log1p} for f in features}

    sections: dict[str, dict[str, Mapping[str, Any]]] = {
        "label": {name: {} for name in schema.labels},
        "vocabulary": {
            v.name: {"hashes": v.hashes, **({"ids": v.num_ids} if v.hashes else {})}
            for v in schema.vocabularies
        },
        "dense feature": numbers(schema.dense),
        "sparse feature": {f.name: dataclasses.asdict(f) for f in schema.sparse},
        "candidate feature": {name: {} for name in schema.candidate},
        "stream": {s.name: {} for s in schema.streams},
    }
    for s in schema.streams:
        sections[f"stream {s.name!r}: id"] = {f.name: dataclasses.asdict(f) for f in s.ids}
        sections[f"stream {s.name!r}: number"] = numbers(s.dense)
    return sections
