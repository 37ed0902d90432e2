"""What is said of a table that is refused: one line, short enough to be read."""

import contextlib
import os
import pathlib
from collections.abc import Iterable, Iterator

from kunlun_jax.data.schema import SchemaError

LONGEST = 300
PATH_SHOWN = 100
VALUE_SHOWN = 40
NAMES_SHOWN = 120


def clipped(text: str, longest: int = LONGEST) -> str:
    """Return a text on one line of at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def path_shown(path: pathlib.Path | str) -> str:
    """Return a path that can be printed; a long one without its beginning."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return text if len(text) <= PATH_SHOWN else f"…{text[1 - PATH_SHOWN :]}"


def value_shown(value: object) -> str:
    """Return a value as Python writes it; of a long one its beginning and its length."""
    if isinstance(value, str) and len(value) > VALUE_SHOWN:
        return f"{value[:VALUE_SHOWN]!r}… ({len(value)} characters)"
    return clipped(repr(value), 2 * VALUE_SHOWN)


def names_shown(names: Iterable[str]) -> str:
    """Return a list of names; of a long one its beginning and how many there are."""
    names = list(names)
    text = str(names)
    return text if len(text) <= NAMES_SHOWN else f"{text[:NAMES_SHOWN]}… ({len(names)} names)"


@contextlib.contextmanager
def named(place: pathlib.Path | str) -> Iterator[None]:
    """Put the file in front of what a SchemaError says about it, and keep it short."""
    try:
        yield
    except SchemaError as error:
        raise SchemaError(clipped(f"{path_shown(place)}: {error}")) from error
