"""Writes the card of a data set: Markdown with small pictures."""

import datetime
import math
import pathlib
import warnings
from typing import Any

import numpy as np

from kunlun_jax.data.building.standardize import training_moments
from kunlun_jax.data.quality.checks import drift
from kunlun_jax.data.quality.profile import EDGES, Profile, quantile
from kunlun_jax.data.quality.report import Report
from kunlun_jax.data.quality.summary import Summary
from kunlun_jax.data.schema import Schema
from kunlun_jax.data.tables import SPLITS

CARD = "README.md"
QUANTILES = (0.1, 0.5, 0.9)
COLORS = {"train": "#333333", "validation": "#1f77b4", "test": "#d95f02"}
COLUMNS = 4
STEP = EDGES[1] - EDGES[0]


def write_card(report: Report, directory: pathlib.Path) -> pathlib.Path:
    """Write the card and its pictures.

    Without matplotlib there are no pictures, and the card says so.

    Args:
        report: What validation found out.
        directory: Where the card goes; created if it is missing.

    Returns:
        The path of the card.
    """
    directory.mkdir(parents=True, exist_ok=True)
    schema, manifest = report.schema, report.manifest
    lines = [f"# Data set {schema.name}", ""]
    source = manifest["source"]
    lines += [f"Source: `{source['name']}`, version {source['version']}.", "", "## Findings", ""]
    lines += [f"- {line}" for line in report.findings] or ["None."]
    if report.summary is not None and report.profile is not None:
        lines += ["", "## Examples", "", *_splits(schema, report.summary, report.profile)]
        if schema.dense:
            lines += ["", "## Dense features", "", *_dense(schema, report.summary, report.profile)]
        lines += ["", "## Sparse features", "", *_sparse(schema, report.summary, report.profile)]
        if manifest.get("hashed_vocabularies"):
            lines += ["", "## Hashed vocabularies", "", *_hashed(manifest["hashed_vocabularies"])]
        lines += ["", "## Histories", "", *_histories(schema, report.summary, report.profile)]
        lines += ["", *_pictures(schema, report.profile, directory)]
    path = directory / CARD
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _splits(schema: Schema, summary: Summary, profile: Profile) -> list[str]:
    rows = []
    for split in SPLITS:
        count = summary.sums[f"rows/{split}"]
        rates = [_percent(summary.label_rate(split, task)) for task in schema.labels]
        duplicates = int(profile.counts[f"duplicates/{split}"][0])
        first, last = (_day(t) for t in profile.ranges[f"time/{split}"])
        weight = f"{summary.weights[f'all/{split}']:,.10g}"
        rows.append([split, f"{count:,}", *rates, weight, first, last, f"{duplicates:,}"])
    rates = [f"mean of `{task}`" for task in schema.labels]
    users = f"{summary.sums['users']:,} users. Means of labels are weighted."
    header = ["split", "examples", *rates, "weight", "from", "to", "duplicates"]
    return [users, "", *_table(header, rows)]


def _dense(schema: Schema, summary: Summary, profile: Profile) -> list[str]:
    drifts = {split: drift(schema, profile, split) for split in SPLITS[1:]}
    rows = []
    for feature in schema.dense:
        moments = training_moments(summary, feature.name, schema.labels[0])
        ranges = [profile.ranges[f"dense/{split}/{feature.name}"] for split in SPLITS]
        largest = max(max(-low, high) for low, high in ranges)
        rows.append(
            [
                f"`{feature.name}`",
                "yes" if feature.log1p else "",
                _share(moments.missing, moments.count + moments.missing),
                *(_number(v) for v in (moments.mean, moments.std, moments.low, moments.high)),
                _number(largest),
                *(f"{d[feature.name]:.2f}" if feature.name in d else "" for d in drifts.values()),
            ]
        )
    header = ["feature", "log1p", "missing", "mean", "std", "least", "largest"]
    note = (
        "Mean to largest: over training, after log1p where there is one. Deviation: the largest "
        "distance from that mean, in standard deviations, over all splits. Drift: stability index "
        "against training."
    )
    header += ["deviation", *(f"drift {split}" for split in drifts)]
    return [note, "", *_table(header, rows)]


def _sparse(schema: Schema, summary: Summary, profile: Profile) -> list[str]:
    drifts = {split: drift(schema, profile, split) for split in SPLITS[1:]}
    rows = []
    for feature in schema.sparse:
        histogram = profile.counts[f"sparse/train/{feature.name}"]
        size = schema.vocabulary_by_name[feature.vocabulary].num_ids
        sums, name = summary.sums, feature.name
        oov = [_share(sums[f"oov/{s}/{name}"], sums[f"values/{s}/{name}"]) for s in SPLITS]
        missing = _share(int(histogram[-1]), sums["rows/train"])
        drifted = [f"{drifts[split][feature.name]:.2f}" for split in drifts]
        rows.append([f"`{name}`", f"{size:,}", missing, *oov, *drifted])
    header = ["feature", "known ids", "missing in train", *(f"OOV {s}" for s in SPLITS)]
    return _table([*header, *(f"drift {split}" for split in drifts)], rows)


def _hashed(vocabularies: dict[str, dict[str, Any]]) -> list[str]:
    note = (
        "Collisions: the share of the values, of all splits, that look like another one, because "
        "all their ids are the same."
    )
    rows = [
        [
            f"`{name}`",
            f"{entry['values']:,}",
            f"{entry['num_ids']:,}",
            f"{entry['hashes']}",
            f"{entry['collision_rate']:.3%}",
            f"{entry['expected_collision_rate']:.3%}",
        ]
        for name, entry in vocabularies.items()
    ]
    header = ["vocabulary", "values", "ids", "hashes", "collisions", "expected"]
    return [note, "", *_table(header, rows)]


def _histories(schema: Schema, summary: Summary, profile: Profile) -> list[str]:
    rows = []
    for stream in schema.streams:
        histogram = profile.counts[f"length/train/{stream.name}"]
        lengths = [f"{quantile(histogram, share):,}" for share in QUANTILES]
        events = f"{summary.sums[f'events/{stream.name}']:,}"
        empty = _share(int(histogram[0]), int(histogram.sum()))
        full = _share(int(histogram[-1]), int(histogram.sum()))
        rows.append([f"`{stream.name}`", events, empty, *lengths, f"{stream.max_len:,}", full])
    quantiles = [f"{share:.0%} have at most" for share in QUANTILES]
    header = ["stream", "events", "empty in train", *quantiles, "offered at most", "full in train"]
    return _table(header, rows)


def _pictures(schema: Schema, profile: Profile, directory: pathlib.Path) -> list[str]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return ["No pictures: they need matplotlib (`pip install 'kunlun_jax[plot]'`)."]
    panels = [("dense", f.name, f"{f.name} (standardised)") for f in schema.dense]
    panels += [("length", s.name, f"{s.name}: at least n events") for s in schema.streams]
    num_columns = min(COLUMNS, len(panels))
    num_rows = -(-len(panels) // num_columns)
    figure = Figure(figsize=(3.2 * num_columns, 2.2 * num_rows + 0.4), layout="constrained")
    grid = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
    for axes, (kind, name, title) in zip(grid, panels, strict=False):
        for split in SPLITS:
            counts = profile.counts[f"{kind}/{split}/{name}"]
            style = {"color": COLORS[split], "label": split, "linewidth": 1.2}
            if kind == "dense":
                edges = np.array([EDGES[0] - STEP, *EDGES, EDGES[-1] + STEP])
                axes.stairs(counts[:-1] / max(counts[:-1].sum(), 1), edges, **style)
            else:
                at_least = np.cumsum(counts[::-1])[::-1] / max(counts.sum(), 1)
                axes.plot(np.flatnonzero(at_least), at_least[at_least > 0], **style)
        axes.set_title(title, fontsize=9, parse_math=False)  # a "$" of a name is a "$"
        axes.set_ylim(bottom=0)
        axes.tick_params(labelsize=7)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=3, fontsize=8, frameon=False)
    figure.supylabel("share of examples", fontsize=8)
    with warnings.catch_warnings():  # a name may be in letters that the font does not have
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(directory / "distributions.png", dpi=110)
    text = (
        "Shares of examples: by the value of a dense feature (what lies beyond an edge is in the "
        "last bin), and with at least n events in a history."
    )
    return [text, "", "![Distributions by split](distributions.png)"]


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    body = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return ["| " + " | ".join(header) + " |", "|" + "---|" * len(header), *body]


def _share(part: int, whole: int) -> str:
    return _percent(part / whole if whole else None)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else ""


def _day(seconds: float) -> str:
    if not math.isfinite(seconds):
        return ""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d")
