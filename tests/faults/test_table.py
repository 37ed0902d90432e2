"""The page about faults names all quick tests, and no test that is not there."""

import importlib
import pathlib

from tests.faults.conftest import read_table
from tests.faults.harness import ROOT


def marked_tests():
    """Return what the tests marked as a fault say it is, by their names; and the slow ones."""
    faults, slow = {}, set()
    for file in sorted(pathlib.Path(__file__).parent.glob("test_*.py")):
        module = importlib.import_module(f"tests.faults.{file.stem}")
        for name, function in vars(module).items():
            marks = list(getattr(function, "pytestmark", []))
            own = {f"faults/{file.name}::{name}": marks}
            for mark in marks:
                if mark.name == "parametrize":
                    parameters = [p for p in mark.args[1] if hasattr(p, "marks")]
                    own |= {
                        f"faults/{file.name}::{name}[{p.id}]": [*p.marks, *marks]
                        for p in parameters
                    }
            for test, marked in own.items():
                names = {mark.name: mark for mark in marked}
                if "fault" in names:
                    faults[test] = names["fault"].args[0]
                    slow |= {test} if "slow" in names else set()
    return faults, slow


def test_the_page_is_of_these_tests():
    rows = read_table((ROOT / "docs" / "reliability.md").read_text())
    faults, slow = marked_tests()
    assert {test: cells[0] for test, cells in rows.items()} == {
        test: fault for test, fault in faults.items() if test in rows or test not in slow
    }
