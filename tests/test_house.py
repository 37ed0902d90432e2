"""Files of up to 350 lines, classes of up to 150; no import circle among modules."""

import ast
import graphlib

import pytest

from tests.documents import ROOT
from tests.test_imports import module_name

FILE_LINES, CLASS_LINES = 350, 150
# What is longer, and why.
LONGER = {
    # One PyTorch model in one reading, beside the JAX one that it is compared with.
    "benchmarks/torch_kunlun.py: TorchKunlun",
    # Goes into an exported folder alone, without the package.
    "kunlun_jax/serving/reader.py: Model",
    # To be split.
    "kunlun_jax/serving/http/app.py: Service",
    "kunlun_jax/serving/http/scorer.py: Scorer",
    "kunlun_jax/serving/ranker.py: Ranker",
    "tests/data/own_data/test_own_data.py",
}
FOLDERS = ("kunlun_jax", "pallas_kernels", "benchmarks", "configs", "tests")
FILES = sorted(
    path.relative_to(ROOT)
    for pattern in ("train.py", *(f"{folder}/**/*.py" for folder in FOLDERS))
    for path in ROOT.glob(pattern)
    if not path.is_symlink() and not path.parent.is_symlink()
)


def too_long(name: str, source: str) -> set[str]:
    """Return the file, if it is too long, and the classes of it that are."""
    classes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef))
    found = {f"{name}: {c.name}" for c in classes if c.end_lineno - c.lineno >= CLASS_LINES}
    return found | ({name} if len(source.splitlines()) > FILE_LINES else set())


def test_files_and_classes_are_short():
    found = set().union(*(too_long(str(path), (ROOT / path).read_text()) for path in FILES))
    assert len(FILES) > 400
    assert found <= LONGER


@pytest.mark.parametrize(
    ("source", "found"),
    [("x = 1\n" * 350, set()), ("x = 1\n" * 351, {"f"}),
     ("class A:\n" + "    x = 1\n" * 149, set()), ("class A:\n" + "    x = 1\n" * 150, {"f: A"})],
)  # fmt: skip
def test_one_line_more_is_found(source, found):
    assert too_long("f", source) == found


def imported(source: str, modules: set[str]) -> set[str]:
    """Return the modules that a file imports when it is imported itself."""
    names: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update({f"{node.module}", *(f"{node.module}.{a.name}" for a in node.names)})
    return names & modules


def circle(sources: dict[str, str]) -> list[str]:
    """Return modules of which each imports the next, and the last one the first; [] if none do."""
    graph = {module: imported(source, set(sources)) for module, source in sources.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_no_module_imports_itself_by_way_of_others():
    paths = [path for path in FILES if path.name != "__init__.py"]
    assert circle({module_name(path): (ROOT / path).read_text() for path in paths}) == []


def test_a_circle_is_found():
    sources = {"a": "import b\n", "b": "from c import x\n", "c": "import a\n"}
    assert set(circle(sources)) == {"a", "b", "c"}
    assert circle({**sources, "c": "def f():\n    import a\n"}) == []
