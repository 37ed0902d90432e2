"""Hooks of MkDocs: what pages need on a site that are written for code hosts too.

- A link to a file outside docs/, which a site does not have, leads into the repository, if
  `repo_url` says where that is; else the file's path stands in its place.
- A bar that is escaped in a table's code loses its backslash.
"""

import pathlib
import re
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
LINK = re.compile(r"\[([^\]]*)\]\(\.\./([^)#]+)(?:#[^)]*)?\)")
CELL = re.compile(r"<td.*?</td>", re.DOTALL)


def on_page_markdown(markdown: str, *, config: Any, **_: Any) -> str:
    """Return a page without relative links to what is outside docs/.

    Args:
        markdown: The page.
        config: The site's configuration, of which `repo_url` is read.

    Raises:
        FileNotFoundError: If a link leads nowhere.
    """
    return LINK.sub(lambda link: source_link(*link.groups(), config.repo_url), markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Return a page whose tables have bars where code hosts have them."""
    return CELL.sub(lambda cell: cell.group().replace(r"\|", "|"), html)


def source_link(text: str, path: str, repository: str | None) -> str:
    """Return Markdown that leads to a file, or names it.

    Args:
        text: The link's text.
        path: The file, from the root.
        repository: Where the repository can be read; None if nowhere.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    if not (ROOT / path).exists():
        raise FileNotFoundError(f"docs: a link to ../{path}: expected a file of the repository")
    if repository:
        return f"[{text}]({repository.rstrip('/')}/blob/main/{path})"
    bare = text.strip("`")
    return f"`{path}`" if path.endswith(bare) else f"{text} (`{path}`)"
