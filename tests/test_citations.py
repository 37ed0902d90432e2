"""Every citation of a page under docs/ resolves to a heading of it."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
CITATION = re.compile(r"docs/(\w+\.md)#([\w-]+)")
FOLDERS = ("benchmarks", "configs", "kunlun_jax", "pallas_kernels", "tests")


def anchors(page: pathlib.Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


def citations() -> list[tuple[str, str, str]]:
    """Return (file, page, anchor) of every citation in the sources."""
    files = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return [
        (str(path.relative_to(ROOT)), page, anchor)
        for path in sorted(files)
        for page, anchor in CITATION.findall(path.read_text())
    ]


def test_citations_resolve():
    pages = {page: anchors(ROOT / "docs" / page) for _, page, _ in citations()}
    assert [c for c in citations() if c[2] not in pages[c[1]]] == []


def test_the_layers_of_the_figure_cite_their_equations():
    cited = {file for file, page, _ in citations() if page == "model.md"}
    layers = ("pffn", "seed_pooling", "weight_generation", "window_attention", "wukong", "rote")
    assert {f"kunlun_jax/layers/{name}.py" for name in layers} <= cited


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/*.md")), ids=lambda path: path.name)
def test_links_between_pages_resolve(page):
    for target in re.findall(r"\]\(((?!https?://)[^)#]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target
