import math
import re
import xml.etree.ElementTree as ET

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from kunlun_jax.report.svg import Chart, Series, axis, curves, interval, thinned

NUMBERS = strategies.floats(-1e12, 1e12, allow_subnormal=False)


class TestAxis:
    @hypothesis.given(strategies.lists(NUMBERS, max_size=5))
    def test_it_holds_all_values_between_few_ticks_of_one_distance(self, values):
        found = axis("x", values)
        places = [place for place, _ in found.ticks]
        slack = 1e-6 * (found.high - found.low)
        assert all(found.low - slack <= v <= found.high + slack for v in values)
        assert 2 <= len(places) <= 8
        assert np.allclose(np.diff(places), np.diff(places)[0])
        assert len({text for _, text in found.ticks}) == len(places)

    @pytest.mark.parametrize(
        ("values", "texts"),
        [
            ([0.0, 1.0], ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
            ([0.0, 1000.0], ["0", "200", "400", "600", "800", "1k"]),
            ([0.0, 2.5e6], ["0", "500k", "1M", "1.5M", "2M", "2.5M"]),
            ([0.0, 1.2], ["0.00", "0.25", "0.50", "0.75", "1.00", "1.25"]),
            ([math.nan, 3.0, 4.0], ["3.0", "3.2", "3.4", "3.6", "3.8", "4.0"]),
        ],
    )
    def test_texts_by_hand(self, values, texts):
        assert [text for _, text in axis("x", values).ticks] == texts

    def test_zero_is_there_where_it_is_asked_for(self):
        assert axis("x", [3.0, 4.0], zero=True).low == 0.0
        assert axis("x", [-3.0], zero=True).high == 0.0


def points_of(node):
    """Return the points of the only line, in units of the picture."""
    (path,) = (x for x in node.iter("path"))
    return [tuple(map(float, pair)) for pair in re.findall(r"([\d.]+) ([\d.]+)", path.get("d"))]


class TestChart:
    def test_points_by_hand(self):
        """52 units left of the chart, 12 right, 8 above and 40 below; y grows downwards."""
        chart = Chart(axis("x", [0.0, 10.0]), axis("y", [0.0, 1.0]))
        chart.line(Series("a", np.array([0, 5, 10]), np.array([0, 0.5, 1])), 0)
        points = points_of(chart.figure("t", "alternative"))
        assert points == [(52.0, 200.0), (200.0, 104.0), (348.0, 8.0)]

    def test_a_gap_is_a_gap(self):
        chart = Chart(axis("x", [0.0, 3.0]), axis("y", [0.0, 1.0]))
        chart.line(Series("a", np.arange(4), np.array([0, 1, math.nan, 1])), 0)
        (path,) = chart.figure("t", "alternative").iter("path")
        assert re.sub("[^ML]", "", path.get("d")) == "MLM"

    def test_steps_go_from_edge_to_edge(self):
        chart = Chart(axis("x", [0.0, 2.0]), axis("y", [0.0, 1.0]))
        chart.line(Series("a", np.arange(3), np.array([1.0, 0.0])), 0, steps=True)
        points = points_of(chart.figure("t", "alternative"))
        assert points == [(52.0, 8.0), (200.0, 8.0), (200.0, 200.0), (348.0, 200.0)]

    def test_axes_are_labelled_and_the_picture_is_told(self):
        found = curves("Loss", "step", "loss [nats]", [Series("train", np.arange(3), np.ones(3))])
        texts = {node.text for node in found.iter("text")}
        assert {"step", "loss [nats]"} <= texts
        (title,) = found.iter("title")
        assert title.text == "Loss: train from 1 to 1"

    def test_cells_by_hand(self):
        """The first row is at the top; shades are eighths of the largest, and 0 has none."""
        chart = Chart(axis("x", [0.0, 3.0]), axis("y", [0.0, 2.0]))
        chart.cells(np.array([[8.0, 0.0, -4.0], [1.0, 8.0, 0.2]]))
        drawn = {
            (x.get("class"), x.get("fill-opacity")): x.get("d")
            for x in chart.figure("t", "alternative").iter("path")
        }
        assert drawn == {
            ("cell", "1.00"): "M0 0h1v1h-1zM1 1h1v1h-1z",
            ("cell below", "0.50"): "M2 0h1v1h-1z",
            ("cell", "0.12"): "M0 1h1v1h-1z",
        }

    def test_without_a_number_there_is_no_picture(self):
        assert curves("x", "s", "y", [Series("a", np.arange(2), np.full(2, math.nan))]) is None


def test_long_lines_become_means():
    y = np.arange(1200.0)
    found = thinned(Series("a", np.arange(1200), y))
    assert len(found.x) == 300
    assert found.y[:2].tolist() == [1.5, 5.5]


def test_an_interval_is_drawn_where_it_is():
    node = interval(1.0, 0.0, 2.0, (-2.0, 2.0))
    zero, whisker = node.findall("line")
    assert (zero.get("x1"), whisker.get("x1"), whisker.get("x2")) == ("64.0", "64.0", "124.0")
    assert ET.tostring(interval(1.0, 1.0, 1.0, (1.0, 1.0)))  # no width to divide by
