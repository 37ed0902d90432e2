"""Examples in docstrings are run; those of public functions and layers have to be there."""

import doctest
import importlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PUBLIC = (
    "kunlun_jax.layers.pffn",
    "kunlun_jax.layers.seed_pooling",
    "kunlun_jax.layers.window_attention",
    "pallas_kernels.gdpa.api",
    "pallas_kernels.seed_attention.api",
    "pallas_kernels.window_attention.api",
)


def modules_with_examples():
    files = [p for room in ("kunlun_jax", "pallas_kernels") for p in (ROOT / room).rglob("*.py")]
    return sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in files
        if not path.is_symlink() and ">>> " in path.read_text()
    )


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples(name):
    results = doctest.testmod(importlib.import_module(name), raise_on_error=True)
    assert results.attempted


def test_what_is_public_has_one():
    assert set(PUBLIC) <= set(modules_with_examples())
