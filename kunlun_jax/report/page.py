"""The report of one run."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from kunlun_jax.metrics.comparison import METRICS, measure
from kunlun_jax.metrics.user_bootstrap import ComparisonError, UserBootstrap, estimate
from kunlun_jax.report.charts import reliability, reliability_bins, score_histogram
from kunlun_jax.report.facts import Facts
from kunlun_jax.report.html import Child, Node, element, figures, page, section, table, tables
from kunlun_jax.report.importance import importance_section
from kunlun_jax.report.parts import (
    ABSENT,
    NAMES,
    curves_section,
    environment_section,
    estimate_text,
    interval_rows,
    metric_rows,
    model_section,
    number,
    paragraph,
    time_section,
)
from kunlun_jax.report.segments import segment_rows
from kunlun_jax.training.summary import REPORTED
from kunlun_jax.training.workdir import BEST_STEP

NUM_RESAMPLES = 200


def render(facts: Facts, *, num_resamples: int = NUM_RESAMPLES) -> str:
    """Return the page.

    Args:
        facts: Of the run.
        num_resamples: Resamples of the users, behind every interval.
    """
    name = facts.settings["model.name"]
    lead = paragraph(
        f"Working directory {facts.workdir}; the checkpoint of step {facts.final[BEST_STEP]:,.0f}, "
        "which has the lowest validation NE."
    )
    run = [("the run", facts)]
    sections = [
        _results(facts, num_resamples),
        curves_section(run),
        _predictions(facts, num_resamples),
        _segments(facts, num_resamples),
        importance_section(facts),
        model_section(run),
        time_section(run),
        card_section(facts),
        _configuration(facts),
        environment_section(run),
    ]
    title = f"{name} on {facts.schema.name}: report of a run"
    return page(title, [lead], [part for part in sections if part is not None])


def _results(facts: Facts, num_resamples: int) -> Node:
    rows = [row for split in ("val", "test") for row in metric_rows(facts, split)]
    header = ["split", *(NAMES[key] for key in REPORTED), "examples"]
    certain = []
    for task, label in enumerate(facts.schema.labels):
        try:
            bootstrap = UserBootstrap(facts.scores.user_ids, num_resamples=num_resamples)
            found = measure(facts.scores, bootstrap, label_rate=facts.label_rates[task], task=task)
        except ComparisonError as error:
            certain.append((label, str(error), *[""] * (len(METRICS) - 1)))
            continue
        cells = []
        for metric in METRICS:
            of = estimate(getattr(found, metric), found.resampled[metric])
            cells.append(estimate_text(dataclasses.asdict(of)))
        certain.append((label, *cells))
    note = (
        f"Intervals: 95 %, of {num_resamples:,} resamples of the users; they say what other users "
        "would change, not what other seeds would. NE is the log loss over the entropy of the "
        "training label rate: 1 is what that rate reaches for all, and less is better."
    )
    return section(
        "Results",
        tables(
            table(header, rows, "Metrics of the best checkpoint"),
            table(("task", *(NAMES[m] for m in METRICS)), certain, "Test split, with intervals"),
        ),
        paragraph(note),
    )


def _predictions(facts: Facts, num_resamples: int) -> Node:
    children: list[Child] = []
    for task, label in enumerate(facts.schema.labels):
        if len(facts.schema.labels) > 1:
            children.append(element("h3", label))
        try:
            bootstrap = UserBootstrap(facts.scores.user_ids, num_resamples=num_resamples)
        except ComparisonError:  # a single user
            bootstrap = None
        bins = reliability_bins(facts.scores, task, bootstrap)
        histogram = score_histogram(facts.scores, task, "Predictions of the test split")
        diagram = reliability([("test split", bins)], "Reliability on the test split")
        children.append(figures(diagram, histogram))
        rows = [
            (f"{i}", number(b["predicted"], ".4g"), number(b["observed"], ".4g"),
             number(b["low"], ".4g"), number(b["high"], ".4g"), f"{b['weight']:,.6g}")
            for i, b in enumerate(bins, 1)
        ]  # fmt: skip
        header = ("bin", "predicted", "observed", "from", "to", "weight")
        if rows:
            children.append(table(header, rows, "Bins of the reliability diagram"))
    return section("Predictions", *children)


def _segments(facts: Facts, num_resamples: int) -> Node:
    children: list[Child] = []
    for segmentation in facts.segmentations:
        for task, label in enumerate(facts.schema.labels):
            found = segment_rows(segmentation, facts.scores, task, num_resamples=num_resamples)
            pictures = interval_rows(found, "auc_roc")
            rows = [
                (
                    row["name"],
                    f"{row['examples']:,}",
                    f"{row['users']:,}",
                    f"{row['label_rate']:.2%}",
                    number(row["prediction"], ".2%"),
                    *(estimate_text(row[metric], ".3f") for metric in METRICS),
                    picture,
                )
                for row, picture in zip(found, pictures, strict=True)
            ]
            header = (
                "segment", "examples", "users", "mean label", "mean prediction",
                "NE (own rate)", "AUC", "AUC, drawn",
            )  # fmt: skip
            several = len(facts.schema.labels) > 1
            caption = f"{segmentation.title}{f', task {label}' if several else ''}"
            children.append(table(header, rows, caption))
    note = (
        "Of the test split. NE is relative to the label rate of the segment itself; a dash: a "
        "single user, labels of one class, or a prediction that is no number."
    )
    return section("Segments", paragraph(note), *children)


def card_section(facts: Facts) -> Node:
    """Return the data set's card, with what its build found wrong.

    Args:
        facts: Of a run.
    """
    shown = [table(t.header, t.rows, caption) for caption, t in facts.card.items()]
    findings = [element("li", line) for line in facts.findings]
    listed = element("ul", *findings) if findings else paragraph("The build found nothing wrong.")
    return section("Data", tables(*shown), element("h3", "Findings of the build"), listed)


def _configuration(facts: Facts) -> Node:
    same = [
        (key, _value(value))
        for key, value in facts.settings.items()
        if key in facts.base and facts.base[key] == value
    ]
    names = ("this run", "base")
    caption = "Differences to configs/base.py"
    return section(
        "Configuration",
        settings_table(facts.settings, facts.base, names, caption),
        table(("setting", "value"), same, "As in configs/base.py"),
    )


def settings_table(
    a: Mapping[str, Any], b: Mapping[str, Any], names: tuple[str, str], caption: str
) -> Node:
    """Return a table of the settings in which two configurations differ.

    Args:
        a: Settings by dotted name.
        b: Likewise.
        names: What the two are called.
        caption: Of the table.
    """
    rows = [
        (key, *(_value(of[key]) if key in of else ABSENT for of in (a, b)))
        for key in [*a, *(key for key in b if key not in a)]
        if key not in a or key not in b or a[key] != b[key]
    ]
    if not rows:
        return paragraph(f"{caption}: none.")
    return table(("setting", *names), rows, caption)


def _value(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
