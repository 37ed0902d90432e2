"""HTML as a tree: what comes from data is the text of a node, and is escaped when it is written."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Any

Node = ET.Element
Child = Node | str | None
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"  # no script, and nothing from elsewhere
_NUMBER = re.compile(r"[+\-]?\d[\d.,%\[\]+\-e ]*")
_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --soft: #57606a;
  --line: #d0d7de; --band: #f3f5f7; --s0: #0b5cad; --s1: #a8410b; --s2: #2b7034; --s3: #7a3fa0; }
@media (prefers-color-scheme: dark) { :root { --paper: #15191e; --ink: #e6e9ed; --soft: #a5afba;
  --line: #3b444e; --band: #1f252c; --s0: #74b4ff; --s1: #ffab73; --s2: #7fd08a; --s3: #cfa5f0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.3rem; margin-top: 2.5rem;
  border-bottom: 1px solid var(--line); } h3 { font-size: 1.05rem; margin-top: 1.75rem; }
h1, h2, h3, p, li, dd, figcaption { overflow-wrap: anywhere; }
p, ul { max-width: 46rem; } a { color: var(--s0); }
.skip { position: absolute; left: -99rem; } .skip:focus { position: static; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding: 0; list-style: none;
  max-width: none; }
.figures { display: grid; gap: 1rem 2rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); }
figure { margin: 0; max-width: 25rem; } figure svg { display: block; width: 100%; height: auto; }
figcaption, .note { color: var(--soft); font-size: .875rem; }
figcaption b { color: var(--ink); }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1rem; margin: .25rem 0; padding: 0;
  list-style: none; font-size: .875rem; } .legend svg { display: inline; width: 2rem;
  height: .75rem; vertical-align: middle; margin-right: .4rem; }
.tables { display: flex; flex-wrap: wrap; gap: 0 3rem; align-items: flex-start; }
.scroll { overflow-x: auto; margin: .75rem 0; max-width: 100%; }
table { border-collapse: collapse; font-size: .875rem; }
caption { text-align: left; font-weight: 600; padding-bottom: .25rem; }
th, td { padding: .2rem .75rem .2rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); font-weight: normal; }
thead th { color: var(--soft); vertical-align: bottom; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td svg { display: block; width: 8rem; height: 1rem; }
tbody th { min-width: 7rem; max-width: 22rem; overflow-wrap: break-word; }
td.text { min-width: 9rem; max-width: 30rem; overflow-wrap: anywhere; }
svg text { fill: var(--ink); font-size: 12px; font-family: inherit; }
.grid { stroke: var(--line); } .axis, .whisker { stroke: var(--soft); fill: none; }
.diagonal, .zero { stroke: var(--soft); stroke-dasharray: 2 3; fill: none; }
.s0 { stroke: var(--s0); } .s1 { stroke: var(--s1); stroke-dasharray: 7 3; }
.s2 { stroke: var(--s2); stroke-dasharray: 2 2; }
.s3 { stroke: var(--s3); stroke-dasharray: 8 3 2 3; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.dot { stroke-dasharray: none; stroke-width: 1.5; fill: var(--paper); }
.cell { fill: var(--s0); } .below { fill: var(--s1); }
@media print { :root { --paper: #fff; --ink: #000; --soft: #444; --line: #bbb; --band: #fff;
  --s0: #0b5cad; --s1: #a8410b; --s2: #2b7034; --s3: #7a3fa0; color-scheme: light; }
  body { max-width: none; padding: 0; font-size: 10pt; } nav, .skip { display: none; }
  figure, tr { break-inside: avoid; } h2, h3 { break-after: avoid; } .scroll { overflow: visible; }
  .figures { grid-template-columns: 1fr 1fr; } }
"""


def element(tag: str, *children: Child, **attributes: Any) -> Node:
    """Return a node.

    Args:
        tag: Name of the element.
        children: Nodes and texts, in their order; None is left out.
        attributes: By name; "class_" stands for "class", and "_" inside for "-". None is left out.
    """
    values = {
        name.rstrip("_").replace("_", "-"): str(value)
        for name, value in attributes.items()
        if value is not None
    }
    node, last = ET.Element(tag, values), None
    for child in children:
        if isinstance(child, str):
            if last is None:
                node.text = (node.text or "") + child
            else:
                last.tail = (last.tail or "") + child
        elif child is not None:
            node.append(child)
            last = child
    return node


def table(header: Sequence[str], rows: Sequence[Sequence[Child]], caption: str) -> Node:
    """Return a table that scrolls by itself where the page is narrow.

    Args:
        header: Names of the columns.
        rows: Cells; the first one of a row names it. Numbers, also with an interval, stand to the
            right.
        caption: What the table shows.
    """
    numeric = [
        any(_is_number(row[i]) for row in rows)
        and all(_is_number(row[i]) or row[i] in ("", "–") for row in rows)
        for i in range(len(header))
    ]
    head = element(
        "tr",
        *(
            element("th", name, scope="col", class_="number" if numeric[i] and i else None)
            for i, name in enumerate(header)
        ),
    )
    body = [
        element(
            "tr",
            element("th", row[0], scope="row"),
            *(
                element("td", cell, class_="number" if numeric[i] else "text")
                for i, cell in enumerate(row[1:], 1)
            ),
        )
        for row in rows
    ]
    content = element(
        "table", element("caption", caption), element("thead", head), element("tbody", *body)
    )
    return element("div", content, class_="scroll", role="region", aria_label=caption, tabindex="0")


def _is_number(cell: Child) -> bool:
    return isinstance(cell, str) and _NUMBER.fullmatch(cell) is not None


def section(heading: str, *children: Child) -> Node:
    """Return a part of the page, with a heading that the table of contents names.

    Args:
        heading: The heading.
        children: What it contains.
    """
    return element("section", element("h2", heading), *children)


def figures(*children: Child) -> Node | None:
    """Return figures beside each other, where there is room; None if there are none.

    Args:
        children: The figures; None is left out.
    """
    found = [child for child in children if child is not None]
    return element("div", *found, class_="figures") if found else None


def tables(*children: Child) -> Node:
    """Return tables beside each other, where there is room.

    Args:
        children: The tables.
    """
    return element("div", *children, class_="tables")


def page(title: str, lead: Sequence[Child], sections: Sequence[Node]) -> str:
    """Return a whole page.

    Args:
        title: Its title, and first heading.
        lead: What stands before the table of contents.
        sections: Of `section`.
    """
    contents = []
    for number, part in enumerate(sections):
        part[0].set("id", f"section-{number}")
        link = element("a", part[0].text, href=f"#section-{number}")
        contents.append(element("li", link))
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("title", title),
        element("style", _STYLE),
    )
    main = element("main", element("h1", title), *lead, id="main")
    main.append(element("nav", element("ul", *contents), aria_label="Contents"))
    main.extend(sections)
    body = element("body", element("a", "To the content", href="#main", class_="skip"), main)
    text = ET.tostring(element("html", head, body, lang="en"), encoding="unicode", method="html")
    # A path of bytes that are no UTF-8 has surrogates, which no encoding has.
    return "<!DOCTYPE html>\n" + text.encode("utf-8", "backslashreplace").decode() + "\n"
