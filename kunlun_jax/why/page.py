"""The page of an explanation."""

import numpy as np

from kunlun_jax.report.html import Child, Node, element, figures, page, section, table, tables
from kunlun_jax.report.parts import paragraph
from kunlun_jax.report.svg import Axis, Chart, Series, axis
from kunlun_jax.why.maps import GDPA
from kunlun_jax.why.occlusion import EVENT, Occlusion
from kunlun_jax.why.request import Explanation

_MOST_EVENTS = 20  # in the table; the charts have all


def render(found: Explanation) -> str:
    """Return the page.

    Args:
        found: What is shown.
    """
    sections = [_score(found), _fields(found), _events(found), _attention(found), _request(found)]
    return page(f"Why this score: {found.title}", [paragraph(found.run)], sections)


def _score(found: Explanation) -> Node:
    rows = [
        (task, f"{1 / (1 + np.exp(-z)):.5f}", f"{z:+.4f}")
        for task, z in zip(found.tasks, found.logits.tolist(), strict=True)
    ]
    note = (
        "Below, every effect is the log-odds with a part less those without it: above 0, it speaks "
        "for the candidate. Effects do not add up to the score: what two parts tell both, is "
        "lost only without both."
    )
    header = ("task", "probability", "log-odds")
    return section("Score", table(header, rows, "The model's answer"), paragraph(note))


def _fields(found: Explanation) -> Node:
    rows = []
    for part, added in _sorted(found):
        if part.kind != EVENT:
            where = f"stream {part.stream}" if part.stream else "context"
            rows.append((part.name or f"all of stream {part.stream}", where, *_texts(added)))
    note = (
        "Without: a stream is empty; a field of the context is at its mean, or has no value; one "
        "of events is at its mean, or out of vocabulary, in all of them."
    )
    header = ("left out", "of", *_columns(found))
    return section("Streams and fields", table(header, rows, "Effects"), paragraph(note))


def _events(found: Explanation) -> Node:
    charts, task = [], found.tasks[0]
    for name, events in found.events.items():
        numbers = [i for i, p in enumerate(found.parts) if p.kind == EVENT and p.stream == name]
        if not numbers:
            continue
        x = np.array([found.parts[i].position + 1.0 for i in numbers])
        y = found.effects[numbers, 0]
        chart = Chart(_event_axis(len(x)), axis("effect [log-odds]", y, zero=True))
        chart.rule((0.5, 0.0), (len(x) + 0.5, 0.0), "no effect")
        chart.dots(Series("event", x, y), y, y, 0)
        top = int(np.argmax(np.abs(y)))
        words = f"of {len(x)}, the largest is {y[top]:+.3g}: {events[int(x[top]) - 1]}"
        charts.append(chart.figure(f"Events of stream {name}, task {task}", words))
    rows = [
        (f"{part.stream} {part.position + 1}", found.events[part.stream][part.position],
         *_texts(added))
        for part, added in _sorted(found)
        if part.kind == EVENT
    ]  # fmt: skip
    caption = f"The {min(_MOST_EVENTS, len(rows))} largest of {len(rows)} events"
    shown = table(("event", "what", *_columns(found)), rows[:_MOST_EVENTS], caption)
    none = paragraph("The request has no history.")
    return section("Events", figures(*charts), shown if rows else none)


def _attention(found: Explanation) -> Node:
    children: list[Child] = []
    for kind, row, caption in (
        (GDPA, "slot", "Activated scores of the events with the slots of the personalised weights"),
        ("pooling", "seed", "Softmax weights of the seeds over the events"),
    ):
        charts = []
        for one in found.maps:
            heads, rows, length = one.weights.shape
            if one.kind != kind or not length:
                continue
            ticks = tuple(((heads - head - 0.5) * rows, f"{head + 1}") for head in range(heads))
            y = Axis(f"head, with {rows} {row}s each", 0.0, float(heads * rows), ticks, False)
            chart = Chart(_event_axis(length), y)
            chart.cells(one.weights.reshape(heads * rows, length))
            head, at, event = np.unravel_index(np.abs(one.weights).argmax(), one.weights.shape)
            words = (
                f"the largest is {one.weights[head, at, event]:.3g}, of head {head + 1}, {row} "
                f"{at + 1} and event {event + 1} of {length}"
            )
            charts.append(chart.figure(one.module, words, f"{words[0].upper()}{words[1:]}."))
        if charts:
            children += [element("h3", caption), figures(*charts)]
    if not children:
        children.append(paragraph("This model has no such maps for this request."))
    else:
        note = "The stronger the colour, the larger; what is below 0 has another one."
        children.insert(0, paragraph(note))
    return section("Attention", *children)


def _request(found: Explanation) -> Node:
    context = table(("feature", "value"), found.context, "Context")
    lists = [
        table(
            ("event", "what"),
            [(f"{i}", text) for i, text in enumerate(events, 1)],
            f"Events of stream {name}, oldest first",
        )
        for name, events in found.events.items()
        if events
    ]
    return section("Request", tables(context, *lists))


def _event_axis(length: int) -> Axis:
    marks = sorted({1, length, *(round(1 + (length - 1) * part / 4) for part in range(1, 4))})
    ticks = tuple((float(mark), f"{mark}") for mark in marks)
    return Axis("event, from the oldest to the newest", 0.5, length + 0.5, ticks)


def _sorted(found: Explanation) -> list[tuple[Occlusion, np.ndarray]]:
    order = np.argsort(-np.abs(found.effects[:, 0]), kind="stable")
    return [(found.parts[i], found.effects[i]) for i in order]


def _texts(added: np.ndarray) -> list[str]:
    return [f"{value:+.4f}" for value in added.tolist()]


def _columns(found: Explanation) -> list[str]:
    several = len(found.tasks) > 1
    return [f"effect{f' on {task}' if several else ''} [log-odds]" for task in found.tasks]
