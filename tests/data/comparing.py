"""Compares data sets: their files, and their columns in memory."""

import dataclasses
import pathlib
from typing import Any

import numpy as np


def files_in(directory: pathlib.Path) -> dict[str, bytes]:
    """Return the content of every file below a directory."""
    paths = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


def assert_equal(left: Any, right: Any, where: str = "", *, ignored: str = "") -> None:
    """Compare nested dataclasses and dictionaries of arrays, values and types.

    Args:
        left: One side.
        right: The other.
        where: Path of both, for a message.
        ignored: Name that is left out, wherever it is.
    """
    if dataclasses.is_dataclass(left):
        names = [field.name for field in dataclasses.fields(left)]
        left, right = ({name: getattr(x, name) for name in names} for x in (left, right))
    if isinstance(left, dict):
        assert list(left) == list(right), where
        for name in left.keys() - {ignored}:
            assert_equal(left[name], right[name], f"{where}/{name}", ignored=ignored)
    else:
        left, right = np.asarray(left), np.asarray(right)
        assert left.dtype == right.dtype, where
        np.testing.assert_array_equal(left, right, err_msg=where)
