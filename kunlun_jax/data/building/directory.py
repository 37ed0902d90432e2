"""The directory in which a data set is built: locked, resumable, renamed when it is complete."""

import contextlib
import json
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

from kunlun_jax.data.own_data.messages import path_shown
from kunlun_jax.files import PART, locked, publish, sync

SCRATCH = "scratch"
PLAN = "plan.json"


@contextlib.contextmanager
def building_right(directory: pathlib.Path, *, keep: bool = True) -> Iterator[None]:
    """Hold the right to build this directory, or file; another process waits here.

    Args:
        directory: Its name.
        keep: Whether the file of the lock stays beside it.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    with locked(directory.parent / f".{directory.name}.lock", keep=keep):
        yield


@contextlib.contextmanager
def building(
    directory: pathlib.Path, plan: dict[str, Any], *, file: str = ""
) -> Iterator[pathlib.Path]:
    """Give a directory to build in; at the end it loses its folder `scratch` and gets its name.

    A build that was killed or ran out of disk leaves its directory behind, and the next one of the
    same plan goes on in it. Data that are refused leave nothing.

    Args:
        directory: The name; has to be locked and must not exist.
        plan: JSON-serialisable; everything that the content depends on.
        file: If given, the file in it that gets the name, alone.
    """
    staging = directory.parent / f".{directory.name}.building"
    try:
        known = json.loads((staging / SCRATCH / PLAN).read_text())
    except (OSError, ValueError):
        known = None
    if known != json.loads(json.dumps(plan)):
        _discard(staging)
        (staging / SCRATCH).mkdir(parents=True)
        publish(staging / SCRATCH / PLAN, json.dumps(plan))
    for path in staging.glob(f"*{PART}"):
        path.unlink()
    try:
        yield staging
        _forget_plan(staging)
        shutil.rmtree(staging / SCRATCH)
        sync(staging)
        (staging / file).rename(directory)  # its files are on the disk already
        sync(directory.parent)
        shutil.rmtree(staging, ignore_errors=True)  # what is left where a file got the name
    except ValueError:
        _discard(staging)
        raise


def _discard(staging: pathlib.Path) -> None:
    _forget_plan(staging)
    shutil.rmtree(staging, ignore_errors=True)


def _forget_plan(staging: pathlib.Path) -> None:
    """Let no later build go on here: whoever is killed while removing files leaves a part of them.

    A folder of staged rows, for one, is there until its last file is gone.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        (staging / SCRATCH / PLAN).unlink()
        sync(staging / SCRATCH)


def made_from_other(
    manifest: dict[str, Any],
    description: dict[str, Any],
    checksums: dict[str, str],
    extended: dict[str, str],
) -> str:
    """Return what a data set was made from that is another now; empty if nothing is.

    Args:
        manifest: Of the data set.
        description: What a manifest says of the source now.
        checksums: SHA-256 of the files that are read now.
        extended: Identity of the data set that is extended now; empty: none.
    """
    known = manifest["source_checksums"]
    for name in sorted(known.keys() | checksums.keys()):
        if known.get(name) != checksums.get(name):
            state = "changed" if name in known and name in checksums else "missing"
            if name not in known:
                state = "new"
            return f"{path_shown(name)}: {state}"
    if manifest["source"].get("version") != description["version"]:
        return "made by another version of this program"
    parent = {key: x for key, x in manifest.get("parent", {}).items() if key != "appended"}
    if parent != extended:
        return "--extend or --statistics: changed"
    return "" if manifest["source"] == description else "schema: changed"
