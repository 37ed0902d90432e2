"""The parts of a report that one run and two runs have alike."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kunlun_jax.metrics.tasks import by_task
from kunlun_jax.report.facts import Facts
from kunlun_jax.report.html import Child, Node, element, figures, section, table, tables
from kunlun_jax.report.svg import Series, curves, interval
from kunlun_jax.training.summary import REPORTED

ABSENT = "–"
NAMES = {
    "normalized_entropy": "NE",
    "auc_roc": "AUC",
    "gauc": "GAUC",
    "log_loss": "log loss [nats]",
    "calibration": "predicted / observed",
    "ece": "ECE",
}
_CURVES = (("log_loss", "loss [nats]"), ("normalized_entropy", "NE"), ("auc_roc", "AUC"))
_SPLITS = (("train", "training"), ("val", "validation"))
_ACTIVITIES = {
    "step": "steps",
    "input": "waiting for input",
    "compilation": "compilation",
    "evaluation": "evaluation",
    "checkpoint": "checkpoints",
}
Runs = Sequence[tuple[str, Facts]]


def number(value: float | None, form: str = ".5f") -> str:
    """Return a number as text; a dash where there is none."""
    return ABSENT if value is None or not np.isfinite(value) else format(value, form)


def estimate_text(found: Mapping[str, float] | None, form: str = ".4f") -> str:
    """Return an estimate with its interval as text."""
    if found is None:
        return ABSENT
    return f"{found['value']:{form}} [{found['low']:{form}}, {found['high']:{form}}]"


def paragraph(text: str) -> Node:
    """Return a paragraph of remarks."""
    return element("p", text, class_="note")


def key_of(facts: Facts, task: str, metric: str) -> str:
    """Return the end of a metric's key in the record: "metric", or "task/metric" of several."""
    return f"{task}/{metric}" if len(facts.schema.labels) > 1 else metric


def metric_rows(facts: Facts, split: str) -> list[tuple[str, ...]]:
    """Return the final metrics of a split, a row a task.

    Args:
        facts: Of the run.
        split: "val" or "test".
    """
    start, tasks = f"{split}/", facts.schema.labels
    values = {k.removeprefix(start): v for k, v in facts.final.items() if k.startswith(start)}
    label = "validation" if split == "val" else split
    return [
        (f"{label}, {task}" if len(tasks) > 1 else label,
         *(number(found.get(key)) for key in REPORTED), number(found.get("count"), ",.0f"))
        for task, found in by_task(values, tasks).items()
    ]  # fmt: skip


def curves_section(runs: Runs) -> Node:
    """Return loss, NE and AUC over steps.

    Args:
        runs: Name and facts; names are shown where there are several.
    """
    facts = runs[0][1]
    children: list[Child] = []
    for task in facts.schema.labels:
        charts = []
        for metric, label in _CURVES:
            lines = []
            for name, of in runs:
                for split, words in _SPLITS:
                    x, y = of.column(f"{split}/{key_of(of, task, metric)}")
                    shown = f"{name}, {words}" if len(runs) > 1 else words
                    lines.append(Series(shown, x, y))
            title = f"{NAMES[metric].removesuffix(' [nats]')} over steps"
            charts.append(curves(title[0].upper() + title[1:], "step", label, lines))
        if len(facts.schema.labels) > 1:
            children.append(element("h3", task))
        children.append(figures(*charts))
    note = (
        "Training: means since the last line of the record, of the model as it was then. "
        "Validation: evaluations during training, which may be of a part of the split."
    )
    return section("While training", paragraph(note), *children)


def time_section(runs: Runs) -> Node:
    """Return where the time went, speeds, MFU, and padding by stream.

    Args:
        runs: As of `curves_section`.
    """
    charts = []
    for key, title, label, scale in (
        ("train/mfu", "MFU over steps", "MFU [%]", 100.0),
        ("train/examples_per_second", "Speed over steps", "examples/s", 1.0),
    ):
        lines = []
        for name, facts in runs:
            x, y = facts.column(key)
            lines.append(Series(name if len(runs) > 1 else "", x, y * scale))
        charts.append(curves(title, "step", label, lines))
    header, rows = ["part of the time", *(n for n, _ in runs)], []
    if len(runs) == 1:
        header[1] = "share"
    for activity, words in _ACTIVITIES.items():
        values = [facts.column(f"time/{activity}")[1] for _, facts in runs]
        rows.append((words, *(number(v[-1], ".1%") if len(v) else ABSENT for v in values)))
    for key, words, form in (
        ("train/mfu", "MFU, median", ".2%"),
        ("train/examples_per_second", "examples/s, median", ",.0f"),
        ("train/examples_per_cpu_second", "examples/processor s, median", ",.0f"),
        ("train/model_gflops_per_second", "GFLOP/s of the model, median", ",.1f"),
    ):
        values = [facts.column(key)[1] for _, facts in runs]
        finite = [v[np.isfinite(v)] for v in values]
        cells = (number(np.median(v), form) if len(v) else ABSENT for v in finite)
        rows.append((words, *cells))
    notes = (
        "Goodput is the share of steps. Shares are of the time from the last start of the run to "
        "the last line of its training record. MFU: three times the forward pass's operations a "
        "second over what the devices reach on one large matrix product. A run does not record "
        "how long single modules take; the tables of the model have their share of the operations."
    )
    padding = [
        table(
            facts.padding.header,
            [[str(cell) for cell in row] for row in facts.padding.rows],
            f"Padding of training batches{'' if len(runs) == 1 else f', {name}'}",
        )
        for name, facts in runs
    ]
    warnings = [paragraph(line) for _, facts in runs for line in facts.warnings]
    return section(
        "Time and padding",
        figures(*charts),
        tables(table(header, rows, "Goodput and speed"), *padding),
        paragraph(notes),
        *warnings,
    )


def model_section(runs: Runs) -> Node:
    """Return parameters and FLOPs.

    Args:
        runs: As of `curves_section`.
    """
    children: list[Child] = []
    for name, facts in runs:
        if len(runs) > 1:
            children.append(element("h3", name))
        captions = ("Dense modules", "Embedding tables", "Event streams")
        shown = [
            table(found.header, [[str(cell) for cell in row] for row in found.rows], caption)
            for found, caption in zip(facts.model, captions, strict=True)
        ]
        children.append(tables(*shown))
    note = (
        "FLOPs: matrix products of the forward pass of one example, at full history length; a "
        "multiply-add counts as two."
    )
    return section("Model", *children, paragraph(note))


def environment_section(runs: Runs) -> Node:
    """Return commit, machine and versions.

    Args:
        runs: As of `curves_section`.
    """
    children: list[Child] = []
    for name, facts in runs:
        of = f" of {name}" if len(runs) > 1 else ""
        if facts.environment is None:
            text = f"Not recorded{of}: an earlier version trained the run."
            children.append(paragraph(text))
            continue
        versions = facts.environment.get("versions", {})
        rows = [
            (key.replace("_", " "), str(value))
            for key, value in facts.environment.items()
            if key != "versions"
        ]
        rows += [(name, str(version)) for name, version in versions.items()]
        children.append(table(("", "value"), rows, f"Where the run ended{of}"))
    return section("Environment", *children)


def interval_rows(
    rows: Sequence[Mapping[str, Any]], metric: str, *, zero: bool = False
) -> list[Node | str]:
    """Return the pictures of a metric's intervals, on one axis.

    Args:
        rows: With the metric's estimate, or None.
        metric: Which.
        zero: Whether 0 is on the axis.
    """
    found = [row[metric] for row in rows if row[metric] is not None]
    if not found:
        return [ABSENT for _ in rows]
    ends = [e[key] for e in found for key in ("low", "high")] + ([0.0] if zero else [])
    span = (min(ends), max(ends))
    return [
        ABSENT if row[metric] is None
        else interval(row[metric]["value"], row[metric]["low"], row[metric]["high"], span)
        for row in rows
    ]  # fmt: skip
