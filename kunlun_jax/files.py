"""Files that outlive a kill and a power cut: one durable write, one lock, one checksum each.

A file or folder is written under another name beside its own (`part_of`), brought to the disk, and
renamed (`settle`). Whoever reads the name finds the old content or the new, never a part of either.

The lock is the kernel's `flock`, which ends with the process that holds it, however it ends. The
package filelock is built on the same call and was tried in its version 4.3. It was not taken: where
a file system has no flock it falls back to a marker file, which a killed process leaves behind; it
polls instead of waiting; and the name of the holder, which our message needs, would still have to
be written here.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import pathlib
import secrets
import shutil
import socket
from collections.abc import Iterator
from typing import IO, Any

PART = ".part"  # ends the name of what is not complete yet


class InUseError(RuntimeError):
    """A lock that another process holds; the message is the holder."""


def part_of(path: pathlib.Path) -> pathlib.Path:
    """Return a new name, beside a file, for a version that is not complete; for this writer alone.

    Args:
        path: The file, or folder.
    """
    return path.with_name(f"{path.name}.{secrets.token_hex(8)}{PART}")


def is_part_of(path: pathlib.Path, name: str) -> bool:
    """Return whether a path is what a killed writer of a file has left behind.

    Args:
        path: The path.
        name: Name of the file that it wrote.
    """
    return path.name.startswith(f"{name}.") and path.suffix == PART


def reserve(file: IO[bytes], size: int) -> None:
    """Give an empty file its size, and its room on the disk: a full disk is an error here.

    Later it would end the process, if the file is mapped.

    Args:
        file: Open for writing.
        size: Bytes, at least 1; all are zero.

    Raises:
        OSError: If there is no room.
    """
    system = os.fstatvfs(file.fileno())
    if size > system.f_bavail * system.f_frsize:  # before it takes all the space that is left
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        os.ftruncate(file.fileno(), size)  # macOS


def sync(path: pathlib.Path) -> None:
    """Wait until a file, or the list of names in a folder, is on the disk.

    Raises:
        OSError: If it cannot be written.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def settle(part: pathlib.Path, path: pathlib.Path) -> None:
    """Give a complete file or folder its name, for good; a file of that name is replaced.

    Args:
        part: What `part_of` named, written and closed.
        path: Its name.

    Raises:
        OSError: If it cannot be brought to the disk or renamed.
    """
    for directory, _, names in os.walk(part):  # nothing, of a file
        for name in names:
            sync(pathlib.Path(directory, name))
        sync(pathlib.Path(directory))
    if part.is_file():
        sync(part)
    part.replace(path)
    sync(path.parent)


def publish(path: pathlib.Path, content: str | bytes) -> None:
    """Write a file, durably and all at once.

    Args:
        path: The file; it may exist.
        content: Bytes, or text, which is written in UTF-8.

    Raises:
        OSError: If it cannot be written; then the old one stays.
    """
    part = part_of(path)
    try:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        settle(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def discard_parts(path: pathlib.Path) -> None:
    """Remove what killed writers of a file or folder have left; none may be writing it now.

    Args:
        path: The file, or folder.
    """
    for part in [part for part in path.parent.iterdir() if is_part_of(part, path.name)]:
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink()


@contextlib.contextmanager
def locked(path: pathlib.Path, *, wait: bool = True, keep: bool = True) -> Iterator[None]:
    """Hold a lock until the `with` block or the process ends.

    Args:
        path: A file, which is made if it is missing, and names its holder; or a folder that exists,
            where no file is to be left.
        wait: Whether to wait for a process that holds it.
        keep: Whether the file stays. Who waits for one that is removed makes it anew.

    Raises:
        InUseError: If another process holds it, and this one does not wait.
        OSError: If it cannot be made, or the file system has no locks.
    """
    is_folder = path.is_dir()
    flags = os.O_RDONLY if is_folder else os.O_RDWR | os.O_CREAT
    while True:
        descriptor = os.open(path, flags, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                holder = "" if is_folder else os.read(descriptor, 1000).decode(errors="replace")
                raise InUseError(holder.strip() or "another process") from None
            if not _is_open_at(descriptor, path):
                continue  # the holder has removed the file
            if not is_folder:
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
            try:
                yield
            finally:
                if not keep:
                    path.unlink(missing_ok=True)
            return
        finally:
            os.close(descriptor)


def _is_open_at(descriptor: int, path: pathlib.Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def file_sha256(path: pathlib.Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_sha256(content: Any) -> str:
    """Return the SHA-256 of JSON, in hexadecimal digits; the order of keys does not matter.

    Args:
        content: JSON-serialisable.
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def json_lines(content: dict[str, Any]) -> str:
    """Return JSON with one key a line; of a mapping or a list of mappings, one entry a line.

    Args:
        content: JSON-serialisable.
    """
    lines = []
    for key, value in json.loads(json.dumps(content)).items():
        if isinstance(value, list) and any(isinstance(row, dict) for row in value):
            text = "[\n  " + ",\n  ".join(json.dumps(row) for row in value) + "\n ]"
        elif (
            isinstance(value, dict)
            and value
            and all(isinstance(each, dict | list) for each in value.values())
        ):
            rows = (f"{json.dumps(name)}: {json.dumps(each)}" for name, each in value.items())
            text = "{\n  " + ",\n  ".join(rows) + "\n }"
        else:
            text = json.dumps(value)
        lines.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def first_difference(expected: Any, got: Any, where: str = "") -> tuple[str, Any, Any] | None:
    """Return the first path at which two trees of JSON differ, and the two values there.

    >>> first_difference({"x": {"y": [1, 2]}}, {"x": {"y": [1, 3]}})
    ('x.y[1]', 2, 3)

    Args:
        expected: One tree.
        got: The other.
        where: Path of both trees; the paths within begin with it.

    Returns:
        Path, expected and got; "nothing" stands for a key that one side does not have. None: equal.
    """
    if isinstance(expected, dict) and isinstance(got, dict):
        pairs = {
            f"{where}.{key}" if where else f"{key}": (
                expected.get(key, "nothing"),
                got.get(key, "nothing"),
            )
            for key in sorted({*expected, *got})
        }
    elif isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        items = zip(expected, got, strict=True)
        pairs = {f"{where}[{index}]": pair for index, pair in enumerate(items)}
    else:
        return None if expected == got else (where, expected, got)
    differences = (first_difference(*pair, path) for path, pair in pairs.items())
    return next((found for found in differences if found), None)
