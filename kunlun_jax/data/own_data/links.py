"""Names that DuckDB takes literally, whatever the files are really called.

DuckDB takes `*`, `?` and `[` in a path for a pattern, and a folder `label=1` for a column. It is
therefore given links: a folder with a plain name holds one for every folder and every file.
"""

import os
import pathlib
import re
import tempfile

PLAIN = re.compile(r"[A-Za-z0-9_.-]+")


class Links:
    """A folder of links, removed by `close`."""

    def __init__(self) -> None:
        """Make the folder.

        Raises:
            OSError: If there is no folder for temporary files that has a plain name.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="kunlun-", dir=_plain_folder())
        self._links: dict[str, str] = {}

    def name(self, path: pathlib.Path) -> str:
        """Return another name of a file, which need not exist if its own name is plain."""
        if PLAIN.fullmatch(path.name) and not path.name.startswith("."):
            return f"{self._link(path.parent)}/{path.name}"
        return self._link(path)

    def restore(self, text: str) -> str:
        """Put the files' own names in the place of the others."""
        for path, link in self._links.items():
            text = re.sub(rf"{re.escape(link)}\b", lambda _, path=path: path, text)
        return text

    def close(self) -> None:
        """Remove the links."""
        self._folder.cleanup()

    def _link(self, path: pathlib.Path) -> str:
        target = str(path.absolute())
        if target not in self._links:
            link = f"{self._folder.name}/{len(self._links)}"
            os.symlink(target, link)
            self._links[target] = link
        return self._links[target]


def _plain_folder() -> str:
    candidates = [tempfile.gettempdir(), "/tmp", "/var/tmp"]
    for folder in candidates:
        parts = pathlib.Path(folder).parts[1:]
        plain = os.path.isabs(folder) and all(PLAIN.fullmatch(part) for part in parts)
        if plain and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise OSError(
        f"TMPDIR: expected a folder of letters, digits, '_', '-' and '.', got {candidates[0]!r}"
    )
