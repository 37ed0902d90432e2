"""A built data set: dataset.json beside ArrayRecord shards, opened as columns that are mapped."""

import dataclasses
import pathlib
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
    read_manifest,
    read_schema,
    schema_of,
)
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
        columns: Logs and examples, in the order in which they are stored.
    """

    directory: pathlib.Path
    manifest: dict[str, Any]
    schema: Schema
    num_users: int
    columns: MappedColumns

    @classmethod
    def open(
        cls,
        directory: str | pathlib.Path,
        *,
        schema: Schema | None = None,
        columns_directory: str | pathlib.Path = "",
        verify: bool = True,
    ) -> "Dataset":
        """Open a data set; make its columns first where there are none (`columns/`).

        Of the other files, presence and size are compared: they are not read.

        Args:
            directory: What `build_dataset` wrote.
            schema: If given, the schema that the data set has to have.
            columns_directory: Where the columns lie; "": in the data set's directory.
            verify: Whether a thread compares the columns with their checksums.

        Raises:
            DatasetError: If something is missing, damaged or of another schema; names the file.
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
        for entry in files_of(manifest):
            check_size(directory, entry)
        folder = pathlib.Path(columns_directory or directory)
        columns = open_columns(directory, manifest, found, folder=folder, verify=verify)
        return cls(directory, manifest, found, manifest["counts"]["users"], columns)

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
            for split, found in self.columns.statistics["weights"].items()
        }

    def training_histories(self, stream: str) -> np.ndarray:
        """Return int64 [max_len + 1], the training examples by events that they are offered.

        Args:
            stream: Name of the stream, whose `max_len` it is.
        """
        return np.array(self.columns.statistics["histories"][stream], np.int64)

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
