"""The package stands alone."""

import ast
import sys
from pathlib import Path

import pallas_kernels

ALLOWED = {"jax", "jaxtyping", "numpy", "pallas_kernels"}


def test_imports_nothing_of_the_model():
    root = Path(pallas_kernels.__file__).parent
    files = sorted(root.rglob("*.py"))
    assert files
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            for name in names:
                top = name.split(".")[0]
                assert top in ALLOWED | sys.stdlib_module_names, f"{path}: {name}"
