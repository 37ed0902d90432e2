import json

from benchmarks.report import compact, write_json

ROW = {"name": "a", "values": [0.25] * 40, "nested": {"x": None, "y": ["é", {}, []]}}


def test_a_row_that_fits_has_a_line_and_so_have_numbers():
    assert compact({"rows": [{"x": 1, "y": [2]}]}) == '{"rows": [{"x": 1, "y": [2]}]}'
    lines = compact({"rows": [ROW, {"x": 1}]}).splitlines()
    assert len(lines) == 10
    assert '   "values": [' + "0.25, " * 39 + "0.25]," in lines
    assert '  {"x": 1}' in lines


def test_what_is_written_is_what_is_read(tmp_path):
    path = tmp_path / "new" / "result.json"
    write_json(path, {"rows": [ROW] * 9, "pair": (1, 2), 3: "number"})
    assert json.loads(path.read_text()) == {"rows": [ROW] * 9, "pair": [1, 2], "3": "number"}
    assert [each.name for each in path.parent.iterdir()] == [path.name]
