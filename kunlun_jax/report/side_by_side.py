"""The report of two runs on the same examples, side by side."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from kunlun_jax.metrics.comparison import METRICS, difference, measure
from kunlun_jax.metrics.user_bootstrap import ComparisonError, UserBootstrap
from kunlun_jax.report.charts import reliability, reliability_bins, score_histogram
from kunlun_jax.report.facts import SPLIT, Facts
from kunlun_jax.report.html import Child, Node, element, figures, page, section, table, tables
from kunlun_jax.report.page import card_section, settings_table
from kunlun_jax.report.parts import (
    ABSENT,
    NAMES,
    curves_section,
    environment_section,
    estimate_text,
    interval_rows,
    metric_rows,
    model_section,
    paragraph,
    time_section,
)
from kunlun_jax.report.segments import paired_rows
from kunlun_jax.training.summary import REPORTED
from kunlun_jax.training.workdir import BEST_STEP


def require_comparable(a: Facts, b: Facts) -> None:
    """Refuse two runs that were not measured on the same examples.

    Args:
        a: Of one run.
        b: Of the other.

    Raises:
        ComparisonError: If their data sets or their test examples differ.
    """
    if a.identity != b.identity:
        raise ComparisonError(
            f"expected two runs of one data set, got {a.schema.name} ({a.identity[:12]}) in "
            f"{a.workdir} and {b.schema.name} ({b.identity[:12]}) in {b.workdir}"
        )
    if not a.scores.same_examples(b.scores):
        raise ComparisonError(f"expected the same {SPLIT} examples in {a.workdir} and {b.workdir}")


def render_both(a: Facts, b: Facts, *, num_resamples: int) -> str:
    """Return the page.

    Args:
        a: Of one run.
        b: Of the other.
        num_resamples: Resamples of the users, the same for both.

    Raises:
        ComparisonError: As `require_comparable`.
    """
    require_comparable(a, b)
    runs = [("A", a), ("B", b)]
    lead = element(
        "ul",
        *(
            element("li", f"{name}: {facts.settings['model.name']}, working directory "
                    f"{facts.workdir}, checkpoint of step {facts.final[BEST_STEP]:,.0f}")
            for name, facts in runs
        ),
    )  # fmt: skip
    sections = [
        _results(a, b, num_resamples),
        curves_section(runs),
        _predictions(a, b, num_resamples),
        _segments(a, b, num_resamples),
        model_section(runs),
        time_section(runs),
        section("Configuration", settings_table(a.settings, b.settings, ("A", "B"), "Differences")),
        environment_section(runs),
        card_section(a),
    ]
    return page(f"Two runs on {a.schema.name}, side by side", [lead], sections)


def _results(a: Facts, b: Facts, num_resamples: int) -> Node:
    rows = [
        (f"{name}, {split}", *cells)
        for name, facts in (("A", a), ("B", b))
        for half in ("val", "test")
        for split, *cells in metric_rows(facts, half)
    ]
    header = ["run, split", *(NAMES[key] for key in REPORTED), "examples"]
    paired = []
    for task, label in enumerate(a.schema.labels):
        row = _difference(a, b, task, num_resamples)
        for metric in METRICS:
            found = row[metric]
            picture = interval_rows([row], metric, zero=True)[0]
            p_value = ABSENT if found is None else f"{found['p_value']:.4f}"
            text = estimate_text(found, "+.5f")
            paired.append((f"{NAMES[metric]}, {label}", text, p_value, picture))
    note = (
        f"Intervals: 95 %, of {num_resamples:,} resamples of the users, the same for A and B; "
        "p: two-sided, that there is no difference. NE: less is better; AUC: more is. One run "
        "each says whether these two models differ on other users, not whether other seeds would."
    )
    return section(
        "Results",
        tables(
            table(header, rows, "Metrics of the best checkpoints"),
            table(("metric, task", "B - A", "p", "drawn"), paired, "Paired, on the test split"),
        ),
        paragraph(note),
    )


def _difference(a: Facts, b: Facts, task: int, num_resamples: int) -> Mapping[str, Any]:
    try:
        bootstrap = UserBootstrap(a.scores.user_ids, num_resamples=num_resamples)
        measured = [
            measure(facts.scores, bootstrap, label_rate=facts.label_rates[task], task=task)
            for facts in (a, b)
        ]
    except ComparisonError:  # one user, or one class
        return dict.fromkeys(METRICS)
    return {name: dataclasses.asdict(x) for name, x in difference(*measured).items()}


def _predictions(a: Facts, b: Facts, num_resamples: int) -> Node:
    children: list[Child] = []
    for task, label in enumerate(a.schema.labels):
        if len(a.schema.labels) > 1:
            children.append(element("h3", label))
        try:
            bootstrap = UserBootstrap(a.scores.user_ids, num_resamples=num_resamples)
        except ComparisonError:  # a single user
            bootstrap = None
        bins = [
            (name, reliability_bins(facts.scores, task, bootstrap))
            for name, facts in (("A", a), ("B", b))
        ]
        histograms = [
            score_histogram(facts.scores, task, f"Predictions of {name}, test split")
            for name, facts in (("A", a), ("B", b))
        ]
        children.append(figures(reliability(bins, "Reliability on the test split"), *histograms))
    return section("Predictions", *children)


def _segments(a: Facts, b: Facts, num_resamples: int) -> Node:
    children: list[Child] = []
    for segmentation in a.segmentations:
        for task, label in enumerate(a.schema.labels):
            found = paired_rows(segmentation, a.scores, b.scores, task, num_resamples=num_resamples)
            pictures = interval_rows(found, "auc_roc", zero=True)
            rows = [
                (
                    row["name"],
                    f"{row['examples']:,}",
                    f"{row['users']:,}",
                    *(estimate_text(row[metric], "+.4f") for metric in METRICS),
                    picture,
                )
                for row, picture in zip(found, pictures, strict=True)
            ]
            header = (
                "segment", "examples", "users", "NE (own rate), B - A", "AUC, B - A", "AUC, drawn",
            )  # fmt: skip
            several = len(a.schema.labels) > 1
            caption = f"{segmentation.title}{f', task {label}' if several else ''}"
            children.append(table(header, rows, caption))
    return section("Segments", paragraph("Of the test split."), *children)
