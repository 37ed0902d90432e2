"""Collects what every fault led to, and writes the table of docs/reliability.md from it.

    python -m pytest tests/faults -m "" --fault-table=docs/reliability.md

Rows of tests that did not run stay as they are; if a test fails or is skipped, nothing is written.
A test of a fault is marked `@pytest.mark.fault("what goes wrong", "what is promised")` and hands
the `observe` fixture what it saw; where its parameters are marked, each of them is a row.
"""

import pathlib
import re

import pytest

from tests.data import toy
from tests.faults.harness import ROOT, Runs, small_model_in_use

BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
HEADER = ("| fault | what happens | what the test saw | test |", "|---|---|---|---|")
LONGEST = 320
_ROWS: dict[str, list[str]] = {}
_FAILED: list[str] = []


def pytest_addoption(parser):
    parser.addoption("--fault-table", default=None, help="Markdown file whose table is rewritten.")


def pytest_collection_modifyitems(items):
    # A read of a damaged file lets the storage library drop others that are under way, noisily and
    # at any time after.
    for item in items:
        if pathlib.Path(__file__).parent in item.path.parents:
            quiet = "ignore::pytest.PytestUnraisableExceptionWarning"
            item.add_marker(pytest.mark.filterwarnings(quiet))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    marker, report = item.get_closest_marker("fault"), outcome.get_result()
    if marker is None:
        return
    if report.failed or report.skipped:
        _FAILED.append(f"{item.nodeid} ({report.outcome})")
    elif report.when == "call":
        test = item.nodeid.removeprefix("tests/")
        if marker in item.function.pytestmark:  # one row for all parameters
            test = test.split("[")[0]
        seen = dict(item.user_properties).get("observed", "")
        row = _ROWS.setdefault(test, [*marker.args, seen])
        row[2] = row[2] or seen


def pytest_sessionfinish(session, exitstatus):
    path = session.config.getoption("--fault-table", default=None)
    if path is None:
        return
    if _FAILED or exitstatus != 0:
        print(f"\nno table: {', '.join(_FAILED) or 'the run did not pass'}")
        session.exitstatus = 1
        return
    file = pathlib.Path(path)
    text = file.read_text()
    rows = read_table(text) | _ROWS
    lines = [f"| {' | '.join([*rows[test], f'`{test}`'])} |" for test in sorted(rows)]
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    file.write_text("\n".join([f"{before}{BEGIN}", *HEADER, *lines, f"{END}{after}"]))


def read_table(text):
    """Return the cells of every row of the table in a page, by the test's name."""
    rows = {}
    for line in text.split(BEGIN)[1].split(END)[0].strip().splitlines()[len(HEADER) :]:
        *cells, test = (cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
        rows[test.strip("`")] = cells
    return rows


@pytest.fixture
def observe(request, tmp_path, tmp_path_factory):
    """Note exit code and message of an outcome, without what is of this machine, for the table."""

    def observe(outcome, note=""):
        message = outcome.message if outcome.code > 0 else note
        for path, name in ((tmp_path, "..."), (ROOT, "...")):
            message = message.replace(str(path), name)
        message = re.sub(rf"{tmp_path_factory.getbasetemp()}/[^/]+", "...", message)
        message = re.sub(r"process \d+ on \S+", "process N on HOST", message)
        message = re.sub(r"\d+\.\d+ MB", "N MB", message)
        if len(message) > LONGEST:
            message = f"{message[: LONGEST - 60]} ... {message[-55:]}"
        message = message.replace("|", "\\|")
        text = f"exit {outcome.code}" + (f"; `{message}`" if message else "")
        request.node.user_properties.append(("observed", text))

    return observe


@pytest.fixture
def observe_text(request):
    """Note for the table what was seen where there is no outcome of a program."""
    return lambda text: request.node.user_properties.append(("observed", text))


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    return toy.toy_dataset(tmp_path_factory.mktemp("toy") / "dataset")


# Of this package only, because the small model stands in Kunlun's place for as long.
@pytest.fixture(scope="package")
def runs(tmp_path_factory, compilation_cache):
    with small_model_in_use():
        yield Runs(tmp_path_factory.mktemp("faults") / "data", compilation_cache)


@pytest.fixture(scope="package")
def uninterrupted(runs, tmp_path_factory):
    """The working directory of a run that nothing stopped; steps 10, 16 and 20 are kept."""
    workdir = tmp_path_factory.mktemp("uninterrupted") / "run"
    outcome = runs.here(workdir, "training.keep_checkpoints=2")
    assert outcome.code == 0, outcome.err
    return workdir
