"""The page about faults names the tests that there are, and no others."""

import importlib
import pathlib

from tests.faults.conftest import read_table
from tests.faults.harness import ROOT


def marked_tests():
    """Return the names of all tests that are marked as a fault, and what they say it is."""
    tests = {}
    for file in sorted(pathlib.Path(__file__).parent.glob("test_*.py")):
        module = importlib.import_module(f"tests.faults.{file.stem}")
        for name, function in vars(module).items():
            for mark in getattr(function, "pytestmark", []):
                if mark.name == "fault":
                    tests[f"faults/{file.name}::{name}"] = mark.args[0]
    return tests


def test_the_page_is_of_these_tests():
    rows = read_table((ROOT / "docs" / "reliability.md").read_text())
    assert {test: cells[0] for test, cells in rows.items()} == marked_tests()
