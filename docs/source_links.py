"""A hook of MkDocs: what links to a file of the repository, outside docs/, names it instead.

The pages are read on code hosts too, where such links lead to the sources. A site has no sources: there
the link becomes a link into the repository where `repo_url` says where that is, else the file's path.
"""

import pathlib
import re
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
LINK = re.compile(r"\[([^\]]*)\]\(\.\./([^)#]+)(#[^)]*)?\)")


def on_page_markdown(markdown: str, *, config: Any, **_: Any) -> str:
    """Return a page without relative links to what is outside docs/.

    Args:
        markdown: The page.
        config: The site's configuration, of which `repo_url` is read.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    return LINK.sub(lambda link: source_link(*link.group(1, 2), config.repo_url), markdown)


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
