"""What is wrong with a data set that does not contradict itself: drift, gaps, dead features."""

import math
from collections.abc import Iterator

from kunlun_jax.data.building.standardize import training_moments
from kunlun_jax.data.quality.profile import Profile, stability_index
from kunlun_jax.data.quality.summary import Summary
from kunlun_jax.data.schema import Schema
from kunlun_jax.data.tables import SPLITS


def find_excesses(schema: Schema, summary: Summary, profile: Profile, now: float) -> Iterator[str]:
    """Yield a line for everything beyond the schema's limits.

    Args:
        schema: The schema with its limits.
        summary: Of the whole data set.
        profile: Of the whole data set.
        now: Unix seconds; nothing should be later.
    """
    for column, (_, latest) in profile.ranges.items():
        if column.startswith("time/") and latest > now:
            yield f"{column.removeprefix('time/')}: expected no time after now, got {latest:.0f}"
    low, high = schema.limits.label_rate
    for task in schema.labels:
        rate = summary.label_rate("train", task)
        if rate is not None and not low <= rate <= high:
            yield f"train: label {task!r}: expected a mean of {low:g} .. {high:g}, got {rate:g}"
    for split in SPLITS:
        yield from _split_excesses(split, schema, summary, profile)
    derived = {column.name for column in schema.derived}
    for feature in schema.dense:
        moments = training_moments(summary, feature.name, schema.labels[0])
        # A computed column says nothing about its table where there is nothing to count.
        if moments.count and moments.low == moments.high and feature.name not in derived:
            value = moments.mean
            yield f"train: column {feature.name!r}: expected different values, all are {value:g}"
    for stream in schema.streams:
        if not profile.counts[f"length/train/{stream.name}"][1:].any():
            yield (
                f"stream {stream.name!r}: expected events before training requests, got none; do "
                "events and requests name the same users and have the same clock?"
            )


def drift(schema: Schema, profile: Profile, split: str) -> dict[str, float]:
    """Return, by feature, how far a split is from training (see `stability_index`).

    Not of the lengths of histories, nor of counts and ages over all of one: where splits follow
    each other in time, these grow.
    """
    growing = {column.name for column in schema.derived if not column.days}
    kinds = {f.name: "dense" for f in schema.dense if f.name not in growing} | {
        f.name: "sparse" for f in schema.sparse
    }
    return {
        name: stability_index(
            profile.counts[f"{kind}/train/{name}"], profile.counts[f"{kind}/{split}/{name}"]
        )
        for name, kind in kinds.items()
    }


def _split_excesses(
    split: str, schema: Schema, summary: Summary, profile: Profile
) -> Iterator[str]:
    limits, sums = schema.limits, summary.sums
    rows = sums[f"rows/{split}"]
    if not rows:
        yield f"{split}: expected examples, got none"
        return
    if not summary.weights[f"all/{split}"]:
        yield f"{split}: expected examples with a weight above 0, got none of {rows}"
    ages = {column.name for column in schema.derived if column.kind == "age"}  # missing: no event
    share = profile.counts[f"duplicates/{split}"][0] / rows
    if share > limits.duplicate_share:
        yield _beyond(split, "examples that repeat another", share, limits.duplicate_share)
    for kind, features in (("dense", schema.dense), ("sparse", schema.sparse)):
        for feature in features:
            share = profile.counts[f"{kind}/{split}/{feature.name}"][-1] / rows
            if share > limits.missing_share and feature.name not in ages:
                subject = f"{split}: column {feature.name!r}"
                yield _beyond(subject, "examples without a value", share, limits.missing_share)
    for feature in schema.sparse:
        values = sums[f"values/{split}/{feature.name}"]
        share = sums[f"oov/{split}/{feature.name}"] / max(values, 1)
        if share > limits.oov_share:
            subject = f"{split}: column {feature.name!r}"
            yield _beyond(subject, "ids out of vocabulary", share, limits.oov_share)
    for feature in schema.dense:
        low, high = profile.ranges[f"dense/{split}/{feature.name}"]
        largest = max(-low, high)
        if math.isfinite(largest) and largest > limits.deviations:
            yield (
                f"{split}: column {feature.name!r}: expected values within {limits.deviations:g} "
                f"standard deviations of training's mean, got {largest:.4g}"
            )
    # A window of 28 days holds fewer events in the first weeks of a log than later, so that
    # computed columns drift wherever events begin with the examples. The card shows by how much.
    computed = {column.name for column in schema.derived}
    if split != "train":
        for name, value in drift(schema, profile, split).items():
            if value > limits.drift and name not in computed:
                yield (
                    f"{split}: column {name!r}: expected a distribution near training's, a "
                    f"stability index of at most {limits.drift:g}, got {value:.2f}"
                )


def _beyond(subject: str, what: str, share: float, limit: float) -> str:
    return f"{subject}: expected at most {limit:.2%} of {what}, got {share:.2%}"
