"""Leaks that show in the sums of a data set: features that give the label away."""

from kunlun_jax.data.schema import Schema, SchemaError
from kunlun_jax.data.standardize import training_moments
from kunlun_jax.data.summary import Summary

# Of each label; with fewer examples, chance may part them.
LEAST_EXAMPLES = 20


def refuse_leaks(schema: Schema, summary: Summary) -> None:
    """Refuse a data set whose training examples give their label away.

    Raises:
        SchemaError: Names the feature or the stream.
    """
    found = find_leaks(schema, summary)
    if found:
        raise SchemaError(found[0])


def find_leaks(schema: Schema, summary: Summary) -> list[str]:
    """Return a line for every dense feature and stream that gives a label away."""
    found = []
    for task in schema.labels:
        positives = summary.sums[f"positives/train/{task}"]
        if min(positives, summary.sums["rows/train"] - positives) < LEAST_EXAMPLES:
            continue
        found += [_separated(f.name, task, summary) for f in schema.dense]
        found += [_echoed(s.name, task, schema, summary) for s in schema.streams]
    return [line for line in found if line]


def _separated(feature: str, task: str, summary: Summary) -> str:
    negative, positive = (summary.moments[f"dense/{feature}/{task}/{label}"] for label in (0, 1))
    if not training_moments(summary, feature, task).count:
        return ""
    place = f"split 'train': column {feature!r}: leak of label {task!r}: "
    if not negative.count or not positive.count:
        alone = "positive" if positive.count else "negative"
        other = positive if positive.count else negative
        return f"{place}only {alone} examples have a value" if not other.missing else ""
    if negative.high < positive.low or positive.high < negative.low:
        return (
            f"{place}expected overlapping values, got {negative.low:g} .. {negative.high:g} with "
            f"label 0 and {positive.low:g} .. {positive.high:g} with label 1 (after log1p, if any)"
        )
    return ""


def _echoed(stream: str, task: str, schema: Schema, summary: Summary) -> str:
    sums, key = summary.sums, f"echo/{stream}/{task}"
    rows = [sums.get(f"{key}/{label}/rows", 0) for label in (0, 1)]
    if min(rows) < LEAST_EXAMPLES:
        return ""
    negative, positive = (sums[f"{key}/{label}"] / rows[label] for label in (0, 1))
    if positive - negative <= schema.limits.echo:
        return ""
    return (
        f"stream {stream!r}: leak of label {task!r}: expected the outcome of a request after it, "
        f"got the candidate as the newest event before the request in {positive:.0%} of the "
        f"positive and {negative:.0%} of the negative training examples; are the events' times too "
        "early?"
    )
