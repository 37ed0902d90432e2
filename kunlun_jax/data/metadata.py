"""A data set without its shards: dataset.json and the vocabularies, which tell what its ids mean.

They are what a trained model needs of the data it was trained on, so a run keeps a copy.
"""

import pathlib
import shutil
from typing import Any

import pyarrow.parquet as pq

from kunlun_jax.data.format import DatasetError
from kunlun_jax.data.manifest import MANIFEST, check_file, read_manifest
from kunlun_jax.files import discard_parts, part_of, publish, settle


def copy_metadata(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copy dataset.json and the vocabularies of a data set; what is there already stays.

    Args:
        source: Directory of the data set.
        target: A folder, made where it is missing; complete once dataset.json is in it.

    Raises:
        DatasetError: If a file of the data set is missing or damaged.
        OSError: If it cannot be read or written.
    """
    target.mkdir(exist_ok=True)
    content = (source / MANIFEST).read_bytes()
    if (target / MANIFEST).exists() and (target / MANIFEST).read_bytes() == content:
        return
    for entry in read_manifest(source).get("vocabularies", {}).values():
        path = target / entry["name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        discard_parts(path)
        part = part_of(path)
        shutil.copyfile(source / entry["name"], part)
        check_file(part.parent, {**entry, "name": part.name})
        settle(part, path)
    discard_parts(target / MANIFEST)
    publish(target / MANIFEST, content)


def read_vocabularies(directory: pathlib.Path, manifest: dict[str, Any]) -> dict[str, list[str]]:
    """Return the values of every vocabulary that was built from tables; value i has the id i + 1.

    Args:
        directory: Of a data set, or of what `copy_metadata` copied.
        manifest: Its dataset.json.

    Raises:
        DatasetError: If a file is missing or damaged.
    """
    found = {}
    for name, entry in manifest.get("vocabularies", {}).items():
        check_file(directory, entry)
        table = pq.ParquetFile(directory / entry["name"]).read(["value", "id"])
        if table["id"].to_pylist() != list(range(1, table.num_rows + 1)):
            raise DatasetError(f"{directory / entry['name']}: expected ids 1, 2, ... in order")
        found[name] = table["value"].to_pylist()
    return found
