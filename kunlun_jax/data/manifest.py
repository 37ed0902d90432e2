"""dataset.json: what it says, how it is read, and how files are compared with it."""

import json
import pathlib
from typing import Any

from kunlun_jax.data.format import DatasetError
from kunlun_jax.data.schema import Schema, SchemaError
from kunlun_jax.data.tables import SPLITS
from kunlun_jax.files import file_sha256, json_sha256

MANIFEST = "dataset.json"
FORMAT_VERSION = 1


def identity_of(manifest: dict[str, Any]) -> str:
    """Return the SHA-256 of the schema and of the shards' checksums: what a data set contains.

    Args:
        manifest: The content of dataset.json.
    """
    content = {"schema": manifest["schema"], "files": manifest["files"]}
    return json_sha256(content)


def manifest_of_part(manifest: dict[str, Any], part: int, num_parts: int) -> dict[str, Any]:
    """Return what a manifest says of a part: every `num_parts`-th of the shards.

    A shard has all of its users, so a part has every history that its examples need. How much a
    part holds is not written; `counts` are those of the whole.

    Args:
        manifest: The content of dataset.json.
        part: Number of the part.
        num_parts: Parts; 1: the manifest itself.
    """
    if num_parts == 1:
        return manifest
    return {**manifest, "files": manifest["files"][part::num_parts], "part": [part, num_parts]}


def is_part(manifest: dict[str, Any]) -> bool:
    """Return whether a manifest is that of one of several parts."""
    return "part" in manifest


def added(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Return the counts of two parts, or shards, together.

    Args:
        first: As `counts` of dataset.json: numbers, or mappings to numbers.
        second: Of the same keys.
    """
    return {
        key: added(value, second[key]) if isinstance(value, dict) else value + second[key]
        for key, value in first.items()
    }


def files_of(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the manifest says of every file: name, bytes, sha256."""
    return [*manifest["files"], *manifest.get("vocabularies", {}).values()]


def check_size(directory: pathlib.Path, entry: dict[str, Any]) -> None:
    """Compare a file with its name and size, without reading it.

    Args:
        directory: Of the data set.
        entry: As of `files_of`.

    Raises:
        DatasetError: If it is missing, or longer or shorter.
    """
    path = directory / entry["name"]
    if not path.exists():
        raise DatasetError(f"{path}: missing")
    size = path.stat().st_size
    if size != entry["bytes"]:
        raise DatasetError(f"{path}: expected {entry['bytes']} bytes, got {size}")


def check_file(directory: pathlib.Path, entry: dict[str, Any]) -> None:
    """Compare a file with its name, size and checksum.

    Args:
        directory: Of the data set.
        entry: As of `files_of`.

    Raises:
        DatasetError: If it is missing or differs.
    """
    check_size(directory, entry)
    path = directory / entry["name"]
    checksum = file_sha256(path)
    if checksum != entry["sha256"]:
        raise DatasetError(f"{path}: damaged: expected SHA-256 {entry['sha256']}, got {checksum}")


def read_schema(directory: pathlib.Path) -> Schema:
    """Return the schema of a data set, without a look at its shards.

    Raises:
        DatasetError: As `read_manifest`.
    """
    return schema_of(read_manifest(directory), directory / MANIFEST)


def manifest_checksum(manifest: dict[str, Any]) -> str:
    """Return the SHA-256 of what dataset.json says, apart from its own checksum."""
    content = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
    return json_sha256(content)


def read_manifest(directory: pathlib.Path) -> dict[str, Any]:
    """Read dataset.json.

    Raises:
        DatasetError: If it is missing, damaged, or of another format version.
    """
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DatasetError(f"{directory}: no data set here, {MANIFEST} is missing") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: not JSON: {error}") from error
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if version != FORMAT_VERSION:
        raise DatasetError(f"{path}: expected format version {FORMAT_VERSION}, got {version}")
    missing = {"schema", "counts", "label_rates", "source", "files"} - set(manifest)
    if missing:
        raise DatasetError(f"{path}: no {sorted(missing)}")
    # Data sets of before there was a checksum are accepted without.
    expected = manifest.get("manifest_sha256", manifest_checksum(manifest))
    if expected != manifest_checksum(manifest):
        raise DatasetError(f"{path}: damaged: its content does not have its checksum")
    _check_layout(manifest, schema_of(manifest, path), path)
    return manifest


def _check_layout(manifest: dict[str, Any], schema: Schema, path: pathlib.Path) -> None:
    """Refuse a manifest that lacks, or has of another type, what is read from it."""
    files, vocabularies = manifest["files"], manifest.get("vocabularies", {})
    if not isinstance(files, list) or not isinstance(vocabularies, dict):
        raise DatasetError(f"{path}: files: expected a list and a mapping of files")
    for entry in (*files, *vocabularies.values()):
        if not _is_entry(entry):
            raise DatasetError(f"{path}: files: expected name, bytes and sha256, got {entry!r:.60}")
    counts = manifest["counts"]
    expected = {"rows": list(SPLITS), "events": [stream.name for stream in schema.streams]}
    for key, names in expected.items():
        found = counts.get(key) if isinstance(counts, dict) else None
        if not isinstance(found, dict) or sorted(found) != sorted(names) or not all(
            map(_is_count, found.values())
        ):  # fmt: skip
            raise DatasetError(f"{path}: counts: expected {key} of {names}, got {found!r:.60}")
    if not _is_count(counts.get("users")):
        raise DatasetError(f"{path}: counts: expected users, got {counts.get('users')!r:.60}")
    rates = manifest["label_rates"]
    found = rates.get("train") if isinstance(rates, dict) else None
    if not isinstance(found, dict) or not all(
        isinstance(found.get(task, ""), float | int | None) for task in schema.labels
    ):  # fmt: skip
        raise DatasetError(f"{path}: label_rates: expected train's, got {found!r:.60}")


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and all(isinstance(entry.get(key), str) for key in ("name", "sha256"))
        and _is_count(entry.get("bytes"))
        and not {"", "..", "."} & set(entry["name"].split("/"))  # below the directory
    )


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def schema_of(manifest: dict[str, Any], path: pathlib.Path) -> Schema:
    """Return the schema that a manifest holds.

    Args:
        manifest: The content of dataset.json.
        path: Of the file, for the message.

    Raises:
        DatasetError: If it is none.
    """
    try:
        return Schema.from_json(manifest["schema"])
    except SchemaError as error:
        raise DatasetError(f"{path}: {error}") from error
