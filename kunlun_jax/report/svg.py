"""Charts as SVG that takes its colours from the page: light, dark and printed alike.

Every chart is 360 units wide, so that its texts are as large as the page's on a narrow screen.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from kunlun_jax.report.html import Node, element

WIDTH, HEIGHT = 360, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 8, 40
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_MOST_POINTS = 300
_MOST_DOTS = 25  # a line of no more points shows them: one point alone is no line
_LEVELS = 8  # shades of a cell
NUM_STYLES = 4


@dataclasses.dataclass(frozen=True)
class Axis:
    """One axis of a chart.

    Attributes:
        label: What it shows, with the unit.
        low: Its first value.
        high: Its last value, > low.
        ticks: Marked values with their texts.
        has_lines: Whether a vertical one draws a line at every tick.
    """

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    has_lines: bool = True


@dataclasses.dataclass(frozen=True)
class Series:
    """A line of a chart.

    Attributes:
        name: For the legend.
        x: [n].
        y: [n]; what is not finite is a gap.
    """

    name: str
    x: np.ndarray
    y: np.ndarray


def axis(
    label: str, values: np.ndarray | Sequence[float], *, zero: bool = False, ticks: int = 5
) -> Axis:
    """Return an axis that holds values, with round ticks.

    Args:
        label: What it shows, with the unit.
        values: What it has to hold; what is not finite does not count.
        zero: Whether 0 is on it, too.
        ticks: About how many.
    """
    found = np.asarray(values, np.float64)
    found = found[np.isfinite(found)]
    low, high = (float(found.min()), float(found.max())) if len(found) else (0.0, 1.0)
    low, high = (min(low, 0.0), max(high, 0.0)) if zero else (low, high)
    if high - low < 1e-9 * max(abs(low), abs(high), 1e-9):
        low, high = low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0)
    raw = (high - low) / ticks
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in _STEPS if power * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    marks = [step * i for i in range(first, last + 1)]
    return Axis(label, marks[0], marks[-1], tuple((x, _tick(x, step)) for x in marks))


def _tick(value: float, step: float) -> str:
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if step >= unit / 10 and abs(value) >= unit:
            text = _decimal(value / unit, step / unit)
            return f"{text.rstrip('0').rstrip('.') if '.' in text else text}{letter}"
    return f"{value:.2g}" if 0 < step < 1e-4 else _decimal(value, step)


def _decimal(value: float, step: float) -> str:
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    decimals += abs(step * 10**decimals - round(step * 10**decimals)) > 1e-6  # 2.5, 0.25
    return f"{value:.{decimals}f}"


class Chart:
    """A chart to draw into, from the back to the front."""

    def __init__(self, x: Axis, y: Axis, *, height: int = HEIGHT) -> None:
        """Draw the axes.

        Args:
            x: Horizontal.
            y: Vertical.
            height: Of the chart; it is 360 wide.
        """
        self._x, self._y, self._height = x, y, height
        self._names: list[tuple[str, str]] = []
        self._parts: list[Node] = []
        left, right, bottom = _LEFT, WIDTH - _RIGHT, height - _BOTTOM
        for value, text in y.ticks:
            at = self._to_y(value)
            if y.has_lines:
                ends = {"x1": left, "x2": right, "y1": _n(at), "y2": _n(at)}
                self._parts.append(element("line", **ends, class_="grid"))
            words = element("text", text, x=left - 6, y=_n(at + 4), text_anchor="end")
            self._parts.append(words)
        for value, text in x.ticks:
            at = self._to_x(value)
            self._parts += [
                element("line", x1=_n(at), x2=_n(at), y1=bottom, y2=bottom + 4, class_="axis"),
                element("text", text, x=_n(at), y=bottom + 17, text_anchor="middle"),
            ]
        middle = (_TOP + bottom) / 2
        self._parts += [
            element("line", x1=left, x2=right, y1=bottom, y2=bottom, class_="axis"),
            element("text", x.label, x=(left + right) / 2, y=height - 6, text_anchor="middle"),
            element(
                "text", y.label, x=11, y=middle, text_anchor="middle",
                transform=f"rotate(-90 11 {middle})",
            ),
        ]  # fmt: skip

    def _to_x(self, value: float) -> float:
        share = (value - self._x.low) / (self._x.high - self._x.low)
        return _LEFT + (WIDTH - _RIGHT - _LEFT) * min(max(share, 0.0), 1.0)

    def _to_y(self, value: float) -> float:
        share = (value - self._y.low) / (self._y.high - self._y.low)
        bottom = self._height - _BOTTOM
        return bottom - (bottom - _TOP) * min(max(share, 0.0), 1.0)

    def line(self, series: Series, style: int, *, steps: bool = False) -> None:
        """Draw a line.

        Args:
            series: The points, from left to right.
            style: 0 .. 3.
            steps: Whether y[i] holds from x[i] to x[i + 1], which has one more.
        """
        x, y = series.x.astype(np.float64), series.y
        if steps:
            x, y = np.repeat(x, 2)[1:-1], np.repeat(y, 2)
        pieces, pen_down = [], False
        for a, b in zip(x.tolist(), y.tolist(), strict=True):
            if math.isfinite(b):
                pieces.append(f"{'L' if pen_down else 'M'}{_n(self._to_x(a))} {_n(self._to_y(b))}")
            pen_down = math.isfinite(b)
        kind = f"s{style % NUM_STYLES}"
        self._names.append((series.name, f"{kind} line"))
        self._parts.append(element("path", d=" ".join(pieces), class_=f"{kind} line"))
        if not steps and len(x) <= _MOST_DOTS:
            self._parts += [
                element("circle", cx=_n(self._to_x(a)), cy=_n(self._to_y(b)), r=2.5,
                        class_=f"{kind} dot")
                for a, b in zip(x.tolist(), y.tolist(), strict=True)
                if math.isfinite(b)
            ]  # fmt: skip

    def rule(self, a: tuple[float, float], b: tuple[float, float], name: str) -> None:
        """Draw a thin dotted line between two points, for comparison.

        Args:
            a: (x, y).
            b: Likewise.
            name: For the legend.
        """
        (x1, y1), (x2, y2) = ((self._to_x(x), self._to_y(y)) for x, y in (a, b))
        self._names.append((name, "diagonal"))
        self._parts.append(
            element("line", x1=_n(x1), y1=_n(y1), x2=_n(x2), y2=_n(y2), class_="diagonal")
        )

    def dots(self, series: Series, low: np.ndarray, high: np.ndarray, style: int) -> None:
        """Draw points with intervals of y.

        Args:
            series: The points.
            low: [n], lower ends.
            high: [n], upper ends.
            style: 0 .. 3.
        """
        kind = f"s{style % NUM_STYLES} dot"
        self._names.append((series.name, kind))
        for x, y, a, b in zip(series.x, series.y, low, high, strict=True):
            if not math.isfinite(y):
                continue
            at = _n(self._to_x(x))
            ends = {"y1": _n(self._to_y(a)), "y2": _n(self._to_y(b))}
            self._parts.append(element("line", x1=at, x2=at, **ends, class_=kind))
            self._parts.append(element("circle", cx=at, cy=_n(self._to_y(y)), r=3.5, class_=kind))

    def cells(self, values: np.ndarray) -> None:
        """Fill the chart with cells, the darker the larger; what is below 0 has another colour.

        Args:
            values: [rows, columns], the first row at the top.
        """
        rows, columns = values.shape
        width, height = WIDTH - _RIGHT - _LEFT, self._height - _BOTTOM - _TOP
        largest = float(np.abs(values).max(initial=0.0)) or 1.0
        levels = np.rint(values / largest * _LEVELS).astype(int)
        scale = f"scale({width / columns:.4f} {height / rows:.4f})"
        for level in sorted(set(levels.ravel().tolist()) - {0}):
            places = np.argwhere(levels == level).tolist()
            drawn = "".join(f"M{x} {y}h1v1h-1z" for y, x in places)
            self._parts.append(
                element(
                    "path",
                    d=drawn,
                    class_="cell" if level > 0 else "cell below",
                    fill_opacity=f"{abs(level) / _LEVELS:.2f}",
                    transform=f"translate({_LEFT} {_TOP}) {scale}",
                )
            )

    def figure(self, title: str, alternative: str, caption: str = "") -> Node:
        """Return the chart with title, legend and what stands for it where it cannot be seen.

        Args:
            title: What it shows.
            alternative: What is to be seen in it, in words.
            caption: More of it, below.
        """
        chart = element(
            "svg",
            element("title", f"{title}: {alternative}"),
            *self._parts,
            viewBox=f"0 0 {WIDTH} {self._height}",
            role="img",
        )
        legend = [element("li", _swatch(kind), name) for name, kind in self._names if name]
        shown = element("ul", *legend, class_="legend") if legend else None
        words = element("figcaption", element("b", title), f". {caption}" if caption else "")
        return element("figure", words, shown, chart)


def _swatch(kind: str) -> Node:
    mark = element("line", x1=0, x2=32, y1=6, y2=6, class_=kind)
    dot = element("circle", cx=16, cy=6, r=3.5, class_=kind) if kind.endswith("dot") else None
    return element("svg", mark, dot, viewBox="0 0 32 12", aria_hidden="true")


def thinned(series: Series) -> Series:
    """Return a line of at most 300 points: means of neighbours, where there are more."""
    if len(series.x) <= _MOST_POINTS:
        return series
    parts = np.array_split(np.arange(len(series.x)), _MOST_POINTS)
    x, y = (np.array([values[part].mean() for part in parts]) for values in (series.x, series.y))
    return Series(series.name, x, y)


def curves(title: str, x_label: str, y_label: str, lines: Sequence[Series]) -> Node | None:
    """Return lines in one chart; None if no line has a point.

    Args:
        title: What it shows.
        x_label: Of the horizontal axis, with the unit.
        y_label: Of the vertical one.
        lines: The lines; those without a finite value are left out.
    """
    kept = [(i, thinned(s)) for i, s in enumerate(lines) if np.isfinite(s.y).any()]
    if not kept:
        return None
    chart = Chart(
        axis(x_label, np.concatenate([s.x for _, s in kept])),
        axis(y_label, np.concatenate([s.y for _, s in kept])),
    )
    words = []
    for style, series in kept:
        chart.line(series, style)
        finite = series.y[np.isfinite(series.y)]
        words.append(f"{series.name} from {finite[0]:.4g} to {finite[-1]:.4g}")
    thin = any(len(s.x) > _MOST_POINTS for s in lines)
    return chart.figure(
        title, "; ".join(words), f"Means of up to {_MOST_POINTS} pieces." if thin else ""
    )


def interval(value: float, low: float, high: float, span: tuple[float, float]) -> Node:
    """Return a value with its interval as a small picture for a cell, beside the numbers.

    Args:
        value: The value.
        low: Lower end of its interval.
        high: Upper end.
        span: The values at the left and the right edge; those of all rows.
    """

    def to_x(number: float) -> str:
        share = (number - span[0]) / ((span[1] - span[0]) or 1.0)
        return _n(4 + 120 * min(max(share, 0.0), 1.0))

    zero = element("line", x1=to_x(0.0), x2=to_x(0.0), y1=0, y2=16, class_="zero")
    return element(
        "svg",
        zero if span[0] <= 0.0 <= span[1] else None,
        element("line", x1=to_x(low), x2=to_x(high), y1=8, y2=8, class_="whisker"),
        element("circle", cx=to_x(value), cy=8, r=3.5, class_="s0 dot"),
        viewBox="0 0 128 16",
        aria_hidden="true",
    )


def _n(value: float) -> str:
    return f"{value:.1f}"
