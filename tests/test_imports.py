"""Imports point downward: train -> training -> models -> layers -> pallas_kernels."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# A module imports its own package, and whatever stands in an earlier line.
ORDER = (
    ("pallas_kernels",),
    ("kunlun_jax.interrupts",),
    (
        "kunlun_jax.shapes",
        "kunlun_jax.environment",
        "kunlun_jax.files",
        "kunlun_jax.programs",
        "kunlun_jax.compilation_cache",
    ),
    ("kunlun_jax.config",),
    ("kunlun_jax.command_line",),
    ("kunlun_jax.configs",),
    ("kunlun_jax.sharding",),
    ("kunlun_jax.hosts",),
    ("kunlun_jax.data",),
    ("kunlun_jax.tables",),
    ("kunlun_jax.layers",),
    ("kunlun_jax.models",),
    ("kunlun_jax.flops",),
    ("kunlun_jax.metrics",),
    ("kunlun_jax.training",),
    (
        "kunlun_jax.serving",
        "kunlun_jax.scaling",
        "kunlun_jax.tune",
        "kunlun_jax.audit",
        "kunlun_jax.compare",
        "kunlun_jax.plan",
    ),
    (
        "kunlun_jax.front_door",
        "kunlun_jax.predict",
        "kunlun_jax.serve",
        "kunlun_jax.export",
        "kunlun_jax.report",
    ),
    ("kunlun_jax.why",),
    ("kunlun_jax.__main__", "kunlun_jax.build", "kunlun_jax.validate", "kunlun_jax.study"),
    ("train", "kunlun_jax.train"),
)
RANKS = {package: rank for rank, packages in enumerate(ORDER) for package in packages}
KERNEL_CALLERS = {"pffn", "window_attention", "seed_pooling"}
OPERATIONS = tuple(
    f"pallas_kernels.{name}" for name in ("gdpa", "window_attention", "seed_attention")
)
FILES = sorted(
    path.relative_to(ROOT)
    for pattern in ("kunlun_jax/**/*.py", "pallas_kernels/**/*.py", "train.py")
    for path in ROOT.glob(pattern)
)


def imports_of(source: str) -> set[str]:
    """Return the modules that a file imports, wherever in it the import stands.

    `from a import b` counts as a.b, because b may be a module.
    """
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def package_of(module: str) -> str | None:
    """Return the entry of ORDER that a module belongs to; None for other projects' modules."""
    parts = module.split(".")
    if parts[0] in ("pallas_kernels", "train"):
        return parts[0]
    return ".".join(parts[:2]) if parts[0] == "kunlun_jax" else None


def module_name(path: pathlib.Path) -> str:
    return ".".join(path.with_suffix("").parts)


def violations(module: str, source: str) -> list[str]:
    own = package_of(module)
    assert own in RANKS, f"{own} has no place in ORDER"
    found = []
    for name in sorted(imports_of(source)):
        package = package_of(name)
        if package is None or package == own:
            continue
        assert package in RANKS, f"{package} has no place in ORDER"
        if RANKS[package] >= RANKS[own]:
            found.append(f"{module} imports {name}")
    return found


def test_imports_point_downward():
    files = [path for path in FILES if path != pathlib.Path("kunlun_jax/__init__.py")]
    assert len(files) > 30
    assert not [
        violation
        for path in files
        for violation in violations(module_name(path), (ROOT / path).read_text())
    ]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("kunlun_jax.layers.pffn", "from kunlun_jax.models import kunlun"),
        ("kunlun_jax.layers.pffn", "from kunlun_jax import training"),
        ("kunlun_jax.models.kunlun", "def f():\n    import kunlun_jax.training.step"),
        ("kunlun_jax.data.build", "from kunlun_jax.layers.embedding import lookup"),
        ("pallas_kernels.batched", "from kunlun_jax.shapes import Array"),
    ],
)
def test_an_import_that_points_upward_is_found(module, source):
    assert len(violations(module, source)) == 1


def test_the_kernels_know_arrays_only():
    foreign = {"flax", "ml_collections", "configs", "optax", "kunlun_jax"}
    for path in FILES:
        if path.parts[0] == "pallas_kernels":
            roots = {name.split(".")[0] for name in imports_of((ROOT / path).read_text())}
            assert not roots & foreign, path


def test_only_three_layers_call_kernels():
    callers = {
        path.stem
        for path in FILES
        if path.parts[0] == "kunlun_jax"
        and any(name.startswith(OPERATIONS) for name in imports_of((ROOT / path).read_text()))
    }
    assert callers == KERNEL_CALLERS


def test_the_config_dict_stops_at_config():
    readers = {
        str(path)
        for path in FILES
        if any("ml_collections" in name for name in imports_of((ROOT / path).read_text()))
    }
    programs = {f"kunlun_jax/{name}/__main__.py" for name in ("plan", "scaling")}
    flags = {"kunlun_jax/command_line.py", "train.py", "kunlun_jax/train.py"}
    assert readers <= {"kunlun_jax/config/experiment.py", *flags, *programs}


def test_package_files_only_re_export():
    for path in FILES:
        if path.name == "__init__.py":
            for node in ast.parse((ROOT / path).read_text()).body:
                is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
                is_list = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
                is_import = isinstance(node, ast.Import | ast.ImportFrom)
                assert is_docstring or is_list or is_import, f"{path}: {ast.unparse(node)}"


def test_the_map_of_the_design_page_is_true():
    """Every file that the map names is there, and defines what the map says it does."""
    page = (ROOT / "docs/design.md").read_text()
    table = page.partition("## Where things are")[2].partition("## ")[0]
    named = re.findall(r"`([\w/]+\.py)`(?:: `(\w+)`)?", table)
    assert len(named) > 15
    for file, symbol in named:
        tree = ast.parse((ROOT / file).read_text())
        defined = {getattr(node, "name", None) for node in tree.body}
        for node in tree.body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", 0)]
            defined |= {target.id for target in targets if isinstance(target, ast.Name)}
        assert not symbol or symbol in defined, f"{file} does not define {symbol}"
