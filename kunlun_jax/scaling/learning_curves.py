"""How NE fell while a study's models trained: what a law of final values cannot show."""

import math
from collections.abc import Sequence
from typing import Any

from kunlun_jax.scaling.markdown import megaflops, table
from kunlun_jax.scaling.records import Record
from kunlun_jax.scaling.results import Results

_KEY = "train/normalized_entropy"
_MOST_COLUMNS = 8


def learning_curve(
    lines: Sequence[dict[str, Any]], batch_size: int
) -> dict[str, list[int] | list[float]]:
    """Return the training NE of every line of a log, for a record.

    Args:
        lines: Lines of metrics.jsonl; each that has a training NE measures the examples since the
            one before, as the model was when it met them.
        batch_size: Examples of a step.

    Returns:
        "examples": seen at the end of each; "normalized_entropy": over each.
    """
    measured = [line for line in lines if _KEY in line]
    return {
        "examples": [line["step"] * batch_size for line in measured],
        "normalized_entropy": [line[_KEY] for line in measured],
    }


def learning_curves(results: Results) -> str | None:
    """Return a table of the runs of one seed, the one of which most have a curve; None: none has.

    Args:
        results: The study: of its subject all sizes are shown, of other families the largest.
    """
    by_seed = {seed: _rows(results, seed) for seed in results.study.seeds}
    seed = max(by_seed, key=lambda seed: len(by_seed[seed]))
    if not by_seed[seed]:
        return None
    curves = [record.content["learning_curve"] for _, record in by_seed[seed]]
    points = sorted(set.intersection(*(set(curve["examples"]) for curve in curves)))
    step = max(1, math.ceil(len(points) / _MOST_COLUMNS))
    points = points[::-1][::step][::-1]  # the last one in any case
    rows = []
    for (name, record), curve in zip(by_seed[seed], curves, strict=True):
        at = dict(zip(curve["examples"], curve["normalized_entropy"], strict=True))
        flops = megaflops(float(record.content["flops"]))
        rows.append((name, flops, *(f"{at[point]:.3f}" for point in points)))
    return (
        "NE of the training examples just before so many were seen, by the model as it was then; "
        f"seed {seed}. All rows meet the same examples, so rows compare, and columns do not.\n\n"
        + table(("family", "FLOPs/example", *(f"{point:,}" for point in points)), rows)
    )


def _rows(results: Results, seed: int) -> list[tuple[str, Record]]:
    study, rows = results.study, []
    for family in study.families:
        is_subject = family.name == study.subject
        for size in (*range(len(family.sizes) - 1), -1) if is_subject else (-1,):
            record = results.runs(family.name, size).get(seed)
            if record is not None and "learning_curve" in record.content:
                rows.append((f"**{family.name}**" if is_subject else family.name, record))
    return rows
