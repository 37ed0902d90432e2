"""Reads a page as a browser does, and says what is wrong with it."""

import html.parser
import itertools
import re

VOID = {"meta", "br", "img", "link", "hr", "input"}


class Page(html.parser.HTMLParser):
    """A page, read.

    Attributes:
        faults: What is wrong with its structure.
        tags: Name and attributes of every element, in order.
        texts: By name of an element, the text of each that has one.
    """

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.faults: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[tuple[str, list[str]]] = []
        self.feed(text)
        self.close()
        self.faults += [f"<{tag}> is not closed" for tag, _ in self._open]

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append((tag, []))

    def handle_endtag(self, tag):
        if not self._open or self._open[-1][0] != tag:
            self.faults.append(f"</{tag}> closes {self._open[-1:]}")
            return
        _, pieces = self._open.pop()
        self.texts.setdefault(tag, []).append("".join(pieces))

    def handle_data(self, data):
        for _, pieces in self._open:
            pieces.append(data)

    def attributes(self, tag):
        """Return the attributes of every element of a name."""
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        """All that is to be read."""
        return self.texts["body"][0]


def problems(text: str) -> list[str]:
    """Return what keeps a page from being complete, offline, and open to everyone.

    Args:
        text: The page.
    """
    page = Page(text)
    found = list(page.faults)
    found += [] if text.startswith("<!DOCTYPE html>") else ["no document type"]
    found += [] if page.attributes("html")[0].get("lang") else ["no language"]
    found += [] if page.texts.get("title", [""])[0].strip() else ["no title"]
    names = {tag for tag, _ in page.tags}
    found += [f"<{tag}>" for tag in names & {"script", "link", "iframe", "object", "img", "base"}]
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            if name.startswith("on"):
                found.append(f"<{tag} {name}>")
            if name in ("href", "src") and not (value or "").startswith("#"):
                found.append(f"<{tag}> refers to {value}")
    found += ["a style from elsewhere"] if re.search(r"url\(|@import", text) else []
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    if levels.count(1) != 1 or levels[0] != 1:
        found.append("not one first heading")
    jumps = [b for a, b in itertools.pairwise(levels) if b > a + 1]
    found += [f"a heading jumps to level {level}" for level in jumps]
    for attributes in page.attributes("svg"):
        if attributes.get("role") != "img" and attributes.get("aria-hidden") != "true":
            found.append("a picture without a role")
    pictures = sum(attributes.get("role") == "img" for attributes in page.attributes("svg"))
    titles = [title for title in page.texts["title"][1:] if title.strip()]
    found += [] if len(titles) == pictures else [f"{pictures} pictures, {len(titles)} texts"]
    if len(page.texts.get("caption", [])) != len(page.attributes("table")):
        found.append("a table without a caption")
    found += ["a heading cell without a scope" for a in page.attributes("th") if "scope" not in a]
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    found += [] if len(ids) == len(set(ids)) else ["an id used twice"]
    targets = {a["href"].removeprefix("#") for a in page.attributes("a")}
    found += [f"a link to {name}, which is not there" for name in targets - set(ids)]
    return found
