"""A built data set: dataset.json beside ArrayRecord shards, opened as columns that are mapped."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from kunlun_jax.data.columns.mapped import MappedColumns
from kunlun_jax.data.columns.opening import open_columns
from kunlun_jax.data.format import DatasetError
from kunlun_jax.data.label_rates import label_rates
from kunlun_jax.data.manifest import (
    MANIFEST,
    check_file,
    check_size,
    files_of,
    identity_of,
    manifest_of_part,
    read_manifest,
    read_schema,
    schema_of,
)
from kunlun_jax.data.parts import Facts, facts_of, require_counts, require_shards, statistics_of
from kunlun_jax.data.reading.shard_reader import join_shards, read_shard
from kunlun_jax.data.schema import Schema
from kunlun_jax.data.tables import EventLog, Examples, SourceTables
from kunlun_jax.files import first_difference

__all__ = ["Dataset", "read_schema"]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set whose columns are mapped: what is not looked at takes no memory.

    Attributes:
        directory: Where it lies.
        manifest: The content of dataset.json.
        schema: The schema, with the mean and std of every dense feature.
        num_users: Number of users.
        num_parts: Parts that its shards are dealt to (`parts.py`).
        parts: Logs and examples of the parts that are open, in the order in which they are stored.
        elsewhere: Facts of the parts that other processes have open.
    """

    directory: pathlib.Path
    manifest: dict[str, Any]
    schema: Schema
    num_users: int
    num_parts: int
    parts: dict[int, MappedColumns]
    elsewhere: dict[int, Facts] = dataclasses.field(default_factory=dict)

    @classmethod
    def open(
        cls,
        directory: str | pathlib.Path,
        *,
        schema: Schema | None = None,
        columns_directory: str | pathlib.Path = "",
        verify: bool = True,
        num_parts: int = 1,
        held: Sequence[int] | None = None,
    ) -> "Dataset":
        """Open a data set; make its columns first where there are none (`columns/`).

        Of the other files, presence and size are compared: they are not read. Nor is there any look
        at shards of parts that are not opened.

        Args:
            directory: What `build_dataset` wrote.
            schema: If given, the schema that the data set has to have.
            columns_directory: Where the columns lie; "": in the data set's directory.
            verify: Whether a thread compares the columns with their checksums.
            num_parts: Parts that the shards are dealt to.
            held: The parts to open; None: all.

        Raises:
            DatasetError: If something is missing, damaged or of another schema; names the file. Or
                if there are fewer shards than parts.
        """
        directory = pathlib.Path(directory)
        manifest = read_manifest(directory)
        path = directory / MANIFEST
        found = schema_of(manifest, path)
        if schema is not None and schema != found:
            difference = first_difference(schema.to_json(), found.to_json(), "schema")
            assert difference, "two schemas differ just where their JSON does"
            where, expected, got = difference
            raise DatasetError(f"{path}: {where}: expected {expected}, got {got}")
        require_shards(manifest, num_parts, directory)
        folder = pathlib.Path(columns_directory or directory)
        parts = {}
        for number in range(num_parts) if held is None else held:
            part = manifest_of_part(manifest, number, num_parts)
            for entry in files_of(part):
                check_size(directory, entry)
            parts[number] = open_columns(directory, part, found, folder=folder, verify=verify)
        users = manifest["counts"]["users"]
        return cls(directory, manifest, found, users, num_parts, parts).completed({})

    def completed(self, elsewhere: Mapping[int, Facts]) -> "Dataset":
        """Return the data set with what other processes know of the parts that they have open.

        Args:
            elsewhere: Facts by part.

        Raises:
            DatasetError: If all parts are known, and do not have the counts of dataset.json.
        """
        whole = dataclasses.replace(self, elsewhere={**self.elsewhere, **elsewhere})
        if len(whole.facts) == self.num_parts > 1:
            require_counts([*whole.facts.values()], self.manifest["counts"],
                           self.directory / MANIFEST)  # fmt: skip
        return whole

    @property
    def columns(self) -> MappedColumns:
        """Logs and examples of a data set in one part."""
        assert self.num_parts == 1, "each part has its columns"
        return self.parts[0]

    @cached_property
    def facts(self) -> dict[int, Facts]:
        """What is known of parts, in their order."""
        own = {number: facts_of(columns) for number, columns in self.parts.items()}
        return dict(sorted({**self.elsewhere, **own}.items()))

    @cached_property
    def statistics(self) -> dict[str, Any]:
        """What is known of the whole (`MappedColumns.statistics`)."""
        assert len(self.facts) == self.num_parts, "parts are not known"
        return statistics_of([*self.facts.values()])

    def examples_by_part(self, split: str) -> list[int]:
        """Return how many examples of a split each of all parts has."""
        assert len(self.facts) == self.num_parts, "parts are not known"
        return [part["counts"]["rows"][split] for part in self.facts.values()]

    @cached_property
    def identity(self) -> str:
        """SHA-256 of the schema and of the shards' checksums: what the data set contains."""
        return identity_of(self.manifest)

    @cached_property
    def label_rates(self) -> dict[str, dict[str, float | None]]:
        """By split and task, the weighted mean label (`label_rates.py`), of the examples.

        Not what dataset.json says: data sets of earlier versions recorded unweighted means.
        """
        return {
            split: label_rates(found["weight"], found["positives"], self.schema.labels)
            for split, found in self.statistics["weights"].items()
        }

    def training_histories(self, stream: str) -> np.ndarray:
        """Return int64 [max_len + 1], the training examples by events that they are offered.

        Args:
            stream: Name of the stream, whose `max_len` it is.
        """
        return np.array(self.statistics["histories"][stream], np.int64)

    @cached_property
    def logs(self) -> dict[str, EventLog]:
        """Event logs by stream, raw, in memory: for who counts over all of them."""
        return self._tables.logs

    @cached_property
    def splits(self) -> dict[str, Examples]:
        """Examples by split, raw, in the order of the source, in memory likewise."""
        return self._tables.splits

    @cached_property
    def _tables(self) -> SourceTables:
        shards = []
        for entry in self.manifest["files"]:
            check_file(self.directory, entry)
            shards.append(read_shard(self.directory / entry["name"], self.schema))
        return join_shards(shards, self.schema)
