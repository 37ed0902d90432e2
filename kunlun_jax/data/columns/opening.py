"""Opens the columns of a data set, or of a part; makes them first where there are none."""

import pathlib
import sys
from typing import Any

from kunlun_jax.data.columns.making import make_columns
from kunlun_jax.data.columns.mapped import (
    MappedColumns,
    columns_path,
    index_path,
    map_columns,
    read_index,
)
from kunlun_jax.data.format import DatasetError
from kunlun_jax.data.schema import Schema
from kunlun_jax.files import discard_parts, locked


def open_columns(
    directory: pathlib.Path,
    manifest: dict[str, Any],
    schema: Schema,
    *,
    folder: pathlib.Path,
    verify: bool,
) -> MappedColumns:
    """Map the columns of a data set; other processes wait while one makes them.

    Args:
        directory: Of the data set.
        manifest: Its manifest, or what it says of a part.
        schema: Its schema.
        folder: Where the columns lie, or will lie.
        verify: As of `map_columns`.

    Raises:
        DatasetError: If they cannot be made: the data set is damaged, or the folder has no room or
            cannot be written.
    """
    path = columns_path(folder, manifest)
    try:
        index = read_index(path, manifest, schema)
    except DatasetError:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder / f".{path.stem}.lock"):
                index = _index_made_if_needed(directory, manifest, schema, path)
        except OSError as error:
            raise DatasetError(
                f"{path}: the columns of the data set cannot be written: {error.strerror}; "
                "config.data.columns_directory names another place"
            ) from error
    return map_columns(path, index, schema, verify=verify)


def _index_made_if_needed(
    directory: pathlib.Path, manifest: dict[str, Any], schema: Schema, path: pathlib.Path
) -> dict[str, Any]:
    try:
        return read_index(path, manifest, schema)  # another process may have made it
    except DatasetError as error:
        if path.exists() or index_path(path).exists():
            print(f"warning: {error}; made anew from the shards", file=sys.stderr, flush=True)
    discard_parts(path)
    discard_parts(index_path(path))
    make_columns(directory, manifest, schema, path)
    return read_index(path, manifest, schema)
