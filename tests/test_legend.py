"""One letter means one thing: every shape in the sources is held to the legend of shapes.py."""

import ast
import pathlib
import re
from collections.abc import Iterator

import pytest

from kunlun_jax import shapes

ROOT = pathlib.Path(__file__).parents[1]
LEGEND = re.findall(r"^    (\w+)  +\S", shapes.__doc__ or "", flags=re.MULTILINE)
ARRAYS = {"Float", "Int", "Bool", "Shaped"}
# "[B, T, 2]" or "[n]", but no index such as "lengths[b]", and no list of names or numbers alone.
BRACKETS = re.compile(r"(?<![\w\])])\[(\w+(?:, \w+)*)\]")
LETTERS = re.compile(r"[A-Z][A-Za-z]?[0-9]?|[a-z]")


def sources() -> list[pathlib.Path]:
    """Return the modules of both packages; what a link leads to is no module of them."""
    folders = (ROOT / "kunlun_jax", ROOT / "pallas_kernels")
    found = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    return [path for path in found if not any(part.is_symlink() for part in (path, path.parent))]


def annotations(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and shape of every jaxtyping annotation."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Subscript)
            and isinstance(node.value, ast.Name)
            and node.value.id in ARRAYS
            and isinstance(node.slice, ast.Tuple)
        ):
            shape = node.slice.elts[1]
            assert isinstance(shape, ast.Constant), ast.unparse(node)
            yield node.lineno, shape.value


def annotated(text: str) -> list[str]:
    """Return the names of an annotation's dimensions: without numbers, marks and values."""
    names = [name.lstrip("*#?") for name in text.split()]
    return [name for name in names if name not in ("...", "_") and re.match(r"[A-Za-z]", name)]


def described(text: str) -> list[list[str]]:
    """Return the letters of every shape in a docstring, message or comment."""
    found = [shape.split(", ") for shape in BRACKETS.findall(text)]
    return [[name for name in shape if LETTERS.fullmatch(name)] for shape in found]


def strange(names: list[str]) -> list[str]:
    """Return the letters that the legend does not know; words stand for themselves."""
    return [name for name in names if name not in LEGEND and not re.fullmatch(r"[a-z_]{3,}", name)]


def shapes_in(path: pathlib.Path) -> Iterator[tuple[int, list[str]]]:
    """Yield line and letters of every shape in a module: annotations, strings, comments."""
    text = path.read_text()
    tree = ast.parse(text)
    for line, annotation in annotations(tree):
        yield line, annotated(annotation)
    strings = [node for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    texts = [(node.lineno, node.value) for node in strings if isinstance(node.value, str)]
    texts += [(i, line.partition("# ")[2]) for i, line in enumerate(text.splitlines(), 1)]
    for line, described_as in texts:
        yield from ((line, shape) for shape in described(described_as))


def test_every_shape_is_in_the_letters_of_the_legend():
    found = [(path, line, shape) for path in sources() for line, shape in shapes_in(path)]
    assert len(found) > 400
    wrong = [f"{path.relative_to(ROOT)}:{line}: {x}" for path, line, x in found if strange(x)]
    assert wrong == []


def test_the_legend_has_every_letter_once_and_none_in_vain():
    assert len(LEGEND) == len(set(LEGEND)) > 20
    texts = [text for path in sources() for _, text in annotations(ast.parse(path.read_text()))]
    assert set(LEGEND) - {"n"} <= {name for text in texts for name in annotated(text)}


@pytest.mark.parametrize(
    ("annotation", "described_as", "expected"),
    [
        ("B T N H2", "[B, T, N, H2]", []),
        ("*rows #B 1 ... _ {size}", "[B, rows, 2]", []),
        ("B Z", "[B, Z]", ["Z"]),
        ("B t", "[B, t]", ["t"]),
        ("half_H B", "[B]", ["half_H"]),
        ("B C2", "text [C2] text", ["C2"]),
    ],
)
def test_what_is_found(annotation, described_as, expected):
    assert strange(annotated(annotation)) == expected
    letters = [name for shape in described(described_as) for name in shape]
    assert strange(letters) == [name for name in expected if LETTERS.fullmatch(name)]
