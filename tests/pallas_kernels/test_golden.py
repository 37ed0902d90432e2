"""The kernels' Triton IR is what the files in `golden` say."""

import difflib
import re

import jax
import pytest

from tests.pallas_kernels import golden

RENEW = "if the change is meant: python -m tests.pallas_kernels.golden"


def differences(want: str, got: str) -> list[str]:
    """Return the lines in which two texts differ."""
    lines = difflib.unified_diff(want.splitlines(), got.splitlines(), "golden", "now", n=1)
    return list(lines)


def test_a_file_for_every_case_and_no_other():
    assert {path.stem for path in golden.FOLDER.iterdir()} == set(golden.KERNELS)


@pytest.mark.parametrize("kernel", golden.KERNELS)
def test_the_ir_is_the_same(kernel):
    want = (golden.FOLDER / f"{kernel}.mlir").read_text()
    changed = differences(want, golden.ir_of(kernel))
    if changed and jax.__version__ != golden.JAX_VERSION:
        # Versions spell operations and their attributes differently, and a file for each would say
        # nothing that the compile report, which judges by machine code, does not.
        pytest.skip(f"{len(changed)} lines of diff: jax {jax.__version__}, the files are of others")
    assert not changed, "\n".join([RENEW, *changed[:60]])


@pytest.mark.parametrize("kernel", golden.KERNELS)
def test_the_files_hold_no_place_of_a_machine(kernel):
    text = (golden.FOLDER / f"{kernel}.mlir").read_text()
    assert not re.search(r"loc\(|\.py|/(?:home|root|tmp|usr|work)/", text)
