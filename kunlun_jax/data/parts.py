"""Parts of a data set: its shards dealt to several, so that no process has to hold the whole.

Part p of V has the shards p, p + V, p + 2 V, ... in the order of dataset.json. What nobody can say
without the whole, such as label rates, is summed over the parts' facts, a few numbers a part.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from kunlun_jax.data.columns.mapped import MappedColumns
from kunlun_jax.data.format import DatasetError
from kunlun_jax.data.manifest import added

Facts = dict[str, Any]  # JSON: counts, and the statistics of `MappedColumns`


def facts_of(columns: MappedColumns) -> Facts:
    """Return what the other processes need to know of a part."""
    return {"counts": columns.counts, **columns.statistics}


def statistics_of(facts: Sequence[Facts]) -> dict[str, Any]:
    """Return the statistics of a data set (`MappedColumns.statistics`) from those of all parts.

    Args:
        facts: Of every part, in their order, so that sums are the same everywhere.
    """
    weights = {}
    for split in facts[0]["weights"]:
        found = [part["weights"][split] for part in facts]
        positives = zip(*(part["positives"] for part in found), strict=True)
        weights[split] = {
            "weight": math.fsum(part["weight"] for part in found),
            "positives": [math.fsum(column) for column in positives],
        }
    histories = {}
    for stream in facts[0]["histories"]:
        lengths = zip(*(part["histories"][stream] for part in facts), strict=True)
        histories[stream] = [sum(column) for column in lengths]
    return {"weights": weights, "histories": histories}


def require_shards(manifest: Mapping[str, Any], num_parts: int, directory: object) -> None:
    """Refuse more parts than there are shards; one part may have none.

    Args:
        manifest: The content of dataset.json.
        num_parts: Parts.
        directory: Of the data set, for the message.

    Raises:
        DatasetError: If there are fewer shards.
    """
    if len(manifest["files"]) < num_parts > 1:
        raise DatasetError(
            f"{directory}: expected a shard for each of the {num_parts} parts of "
            f"config.data.parts, got {len(manifest['files'])} shards"
        )


def require_counts(facts: Sequence[Facts], counts: Mapping[str, Any], place: object) -> None:
    """Compare what all parts hold together with the counts of dataset.json.

    Args:
        facts: Of every part.
        counts: Those counts.
        place: dataset.json, for the message.

    Raises:
        DatasetError: If they differ.
    """
    found = functools.reduce(added, (part["counts"] for part in facts))
    if found != {key: counts[key] for key in found}:
        raise DatasetError(f"{place}: counts: expected {dict(counts)}, the parts hold {found}")


def shares(total: int, counts: Sequence[int]) -> list[int]:
    """Divide a number of examples among parts in proportion to what they hold.

    Args:
        total: The number, at most the sum of the counts.
        counts: What each part holds.

    Returns:
        What each part gives, at most what it holds; they sum to the total.
    """
    held, given, result = 0, 0, []
    for count in counts:
        held += count
        now = total * held // max(sum(counts), 1)
        result.append(now - given)
        given = now
    return result
