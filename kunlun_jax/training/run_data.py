"""Which data set a run is of: its content binds the run, and not the directory that it lies in.

`data.json` in the working directory says the content, and where it was when the run last started.
The folder `dataset` has what a trained model needs of it: schema, statistics and vocabularies.
"""

import json
import pathlib
from typing import Any

from kunlun_jax.data import Dataset, DatasetError
from kunlun_jax.data.manifest import MANIFEST, identity_of, read_manifest
from kunlun_jax.data.metadata import copy_metadata
from kunlun_jax.files import publish
from kunlun_jax.training.workdir import WorkdirError, has_record, read_note

DATA_FILE = "data.json"
METADATA = "dataset"
_SHORT = 12  # digits of a checksum in a message


def keep_dataset(workdir: pathlib.Path, dataset: Dataset) -> None:
    """Note which data set a run is of, and keep what its ids and numbers mean.

    Args:
        workdir: The working directory.
        dataset: The data set.

    Raises:
        WorkdirError: If it cannot be written.
    """
    content = {
        "name": dataset.schema.name,
        "identity": dataset.identity,
        "directory": str(dataset.directory.absolute()),
    }
    try:
        publish(workdir / DATA_FILE, json.dumps(content, indent=1) + "\n")
        copy_metadata(dataset.directory, workdir / METADATA)
    except OSError as error:
        raise WorkdirError(f"{workdir}: cannot be used as workdir: {error}") from error


def require_same_dataset(workdir: pathlib.Path, dataset: Dataset) -> None:
    """Refuse a data set of another content than that of the run that the directory holds.

    Args:
        workdir: The working directory.
        dataset: The data set.

    Raises:
        WorkdirError: If its content differs.
    """
    kept = _kept(workdir)
    if kept and has_record(workdir) and kept["identity"] != dataset.identity:
        raise WorkdirError(
            f"{workdir}: holds a run on data set {_described(kept['name'], kept['identity'])}, got "
            f"{_described(dataset.schema.name, dataset.identity)} in {dataset.directory}"
        )


def find_dataset(workdir: pathlib.Path, directory: str, given: str | None = None) -> pathlib.Path:
    """Return where the data set of a run lies now; nothing is built.

    Without one that is given, it is looked for where the configuration says, where it was when the
    run last started, and where the configuration's relative path leads from a folder that the
    working directory lies in. Only one of the run's content is taken.

    Args:
        workdir: The working directory.
        directory: `config.data.directory`.
        given: What a user says instead.

    Raises:
        DatasetError: If it is in none of these directories, or the one given has another content.
        WorkdirError: If `data.json` is damaged.
    """
    kept = _kept(workdir)
    if given is not None:
        found = _identity(pathlib.Path(given), strict=True)
        if kept and found != kept["identity"]:
            raise DatasetError(
                f"{given}: expected data set {_described(kept['name'], kept['identity'])}, that of "
                f"the run {workdir}, got {str(found)[:_SHORT]}"
            )
        return pathlib.Path(given)
    candidates = [pathlib.Path(directory)]
    if kept:
        candidates.append(pathlib.Path(kept["directory"]))
    candidates += [parent / directory for parent in workdir.absolute().parents]
    candidates += [parent / directory for parent in workdir.resolve().parents]
    for candidate in candidates:
        identity = _identity(candidate)
        if identity is not None and (not kept or identity == kept["identity"]):
            return candidate
    wanted = f" {_described(kept['name'], kept['identity'])}" if kept else ""
    raise DatasetError(
        f"{candidates[0]}: no data set{wanted} here, where the run {workdir} had it; "
        "--dataset=DIRECTORY says where it is"
    )


def find_metadata(workdir: pathlib.Path, directory: str, given: str | None = None) -> pathlib.Path:
    """Return where dataset.json and the vocabularies of a run's data set are.

    Args:
        workdir: The working directory, which has them itself unless an earlier version trained the
            run.
        directory: `config.data.directory`.
        given: What a user says instead.

    Raises:
        DatasetError: As `find_dataset`, where the run does not have them.
        WorkdirError: If `data.json` is damaged.
    """
    if given is None and (workdir / METADATA / MANIFEST).exists():
        return workdir / METADATA
    try:
        return find_dataset(workdir, directory, given)
    except DatasetError as error:
        if given is not None:
            raise
        raise DatasetError(
            f"{workdir}: no {METADATA}/{MANIFEST}, which an earlier version did not keep: {error}"
        ) from error


def _kept(workdir: pathlib.Path) -> dict[str, Any] | None:
    """Return what `keep_dataset` wrote; a run of before it did so has nothing."""
    path, keys = workdir / DATA_FILE, ("name", "identity", "directory")
    content = read_note(path, set(keys))
    if content is not None and not all(isinstance(content[key], str) for key in keys):
        raise WorkdirError(f"{path}: expected {', '.join(keys)}, got {content!r:.60}")
    return content


def _identity(directory: pathlib.Path, *, strict: bool = False) -> str | None:
    """Return what a data set contains; None where there is none that could be opened."""
    if not strict and not (directory / MANIFEST).exists():
        return None
    try:
        return identity_of(read_manifest(directory))
    except DatasetError:
        if strict:
            raise
        return None


def _described(name: str, identity: str) -> str:
    return f"{name} ({identity[:_SHORT]})"
