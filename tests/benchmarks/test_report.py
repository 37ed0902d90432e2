import json
import pathlib

import pytest

from benchmarks.report import RESULTS, write_json
from kunlun_jax.files import json_lines

ROW = {"name": "a", "values": [0.25] * 40, "nested": {"x": None, "y": ["é", {}, []]}}


def test_a_row_has_a_line_and_so_has_a_key():
    content = {
        "rows": [ROW, {"x": 1}],
        "cases": {"a": ROW},
        "flat": {"x": 1},
        "none": {},
        "numbers": [1, 2],
    }
    lines = json_lines(content).splitlines()
    assert len(lines) == 1 + 4 + 3 + 1 + 1 + 1 + 1
    assert lines[3] == '  {"x": 1}' and lines[-4] == ' "flat": {"x": 1},'


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.name)
def test_every_record_is_written_so(path: pathlib.Path):
    assert path.read_text() == json_lines(json.loads(path.read_text()))


def test_what_is_written_is_what_is_read(tmp_path):
    path = tmp_path / "new" / "result.json"
    write_json(path, {"rows": [ROW] * 9, "pair": (1, 2), 3: "number"})
    assert json.loads(path.read_text()) == {"rows": [ROW] * 9, "pair": [1, 2], "3": "number"}
    assert [each.name for each in path.parent.iterdir()] == [path.name]
