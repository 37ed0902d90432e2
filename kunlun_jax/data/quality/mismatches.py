"""Values that should meet and do not: users, candidates and spellings, told as findings.

Tables that come from different systems name one thing differently: `7` and `7.0`, `A` and `a`. Then
no history meets its candidate, and nothing else shows it.
"""

import pathlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kunlun_jax.data import counter_random
from kunlun_jax.data.own_data.texts import looks_like_nothing, spelling
from kunlun_jax.data.parquet import row_batches
from kunlun_jax.data.schema import OOV_ID, Limits, Schema
from kunlun_jax.data.tables import Shard

# Ids of a vocabulary of which it is counted where they occur.
IDS_LOOKED_AT = 8192
# Values of a vocabulary of which the spellings are compared.
SPELLINGS_LOOKED_AT = 2**20
# So many characters of a value are shown.
SHOWN = 30


def count_meetings(shard: Shard, schema: Schema) -> dict[str, tuple[int, ...]]:
    """Count where ids occur that candidates and histories share.

    Args:
        shard: The shard.
        schema: The schema.

    Returns:
        By "candidate/<feature>" how many examples have each of the ids that are looked at, and by
        "event/<feature>" how many events, of all streams, have it.
    """
    counts = {}
    for feature in schema.sparse:
        columns = [
            (stream.name, event.name)
            for stream in schema.streams
            for event in stream.ids
            if event.vocabulary == feature.vocabulary
        ]
        if feature.name not in schema.candidate or not columns:
            continue
        chosen = _chosen_ids(schema.vocabulary_by_name[feature.vocabulary].num_ids)
        examples = np.zeros(len(chosen), np.int64)
        for part in shard.tables.splits.values():
            real = np.arange(feature.max_values) < part.sparse_lengths[feature.name][:, None]
            examples += _count(part.sparse[feature.name][real], chosen)
        events = np.zeros(len(chosen), np.int64)
        for stream, event in columns:
            events += _count(shard.tables.logs[stream].ids[event], chosen)
        counts[f"candidate/{feature.name}"] = tuple(examples.tolist())
        counts[f"event/{feature.name}"] = tuple(events.tolist())
    return counts


def find_mismatches(
    schema: Schema,
    manifest: dict[str, Any],
    meetings: dict[str, tuple[int, ...]],
    directory: pathlib.Path,
) -> Iterator[str]:
    """Yield a line for everything beyond the schema's limits.

    Args:
        schema: The schema with its limits.
        manifest: Its `counts`, `source_rows`, `vocabularies` and `hashed_vocabularies`.
        meetings: As `count_meetings`, of the whole data set.
        directory: Where the files of the vocabularies are.
    """
    limits = schema.limits
    for stream, rows in manifest.get("source_rows", {}).get("tables", {}).items():
        strangers = rows["left_out"].get("user_without_impressions", 0)
        share = strangers / max(strangers + rows["kept"], 1)
        if share > limits.stranger_share:
            yield (
                f"stream {stream!r}: expected at most {limits.stranger_share:.2%} of events whose "
                f"user has no request, got {share:.2%}; are users spelled alike in both tables?"
            )
    users = manifest.get("source_rows", {}).get("users")  # older data sets do not say
    if users is not None:
        share = users["respelled"] / manifest["counts"]["users"]
        if share > limits.spelling_share:
            yield _respelled("users", share, limits.spelling_share, users["pair"])
    for feature in schema.candidate:
        if f"candidate/{feature}" in meetings:
            examples = np.array(meetings[f"candidate/{feature}"])
            unseen = np.array(meetings[f"event/{feature}"]) == 0
            share = examples[unseen].sum() / max(examples.sum(), 1)
            if share > limits.unseen_share:
                yield (
                    f"candidate {feature!r}: expected at most {limits.unseen_share:.2%} of ids "
                    f"that no event has, got {share:.2%}; are they spelled alike in both tables?"
                )
    for name, entry in manifest.get("vocabularies", {}).items():
        yield from _strange_values(name, directory / entry["name"], schema)
    for name, entry in manifest.get("hashed_vocabularies", {}).items():
        yield from _strange_hashed(name, entry, limits)


def name_ids(
    schema: Schema, manifest: dict[str, Any], directory: pathlib.Path
) -> Callable[[str, int], str]:
    """Return a function that gives the text of a feature's id, where a file has it."""
    vocabularies = {feature.name: feature.vocabulary for feature in schema.sparse}

    def name_of(feature: str, number: int) -> str:
        if number == OOV_ID:
            return "out of vocabulary"
        entry = manifest.get("vocabularies", {}).get(vocabularies[feature])
        first = 1
        if entry is not None:
            for batch in row_batches(directory / entry["name"], columns=["value"]):
                if number < first + len(batch):
                    return shown(batch["value"][number - first].as_py())
                first += len(batch)
        return f"of id {number}"

    return name_of


def shown(value: str) -> str:
    """Return a value as messages quote it, cut off where it is long."""
    return repr(value if len(value) <= SHOWN else f"{value[:SHOWN]}...")


def _chosen_ids(num_ids: int) -> np.ndarray:
    """Return int64 [n], ids in ascending order, the same ones every time."""
    if num_ids <= IDS_LOOKED_AT:
        return np.arange(1, num_ids + 1)
    drawn = counter_random.integers(num_ids, 0, "ids looked at", np.arange(IDS_LOOKED_AT))
    return np.unique(drawn) + 1


def _count(ids: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Count each of the chosen ids; of a pair of hashes, the first is the id."""
    ids = ids & 0xFFFFFFFF if ids.dtype == np.int64 else ids
    ids = ids[ids != OOV_ID]
    positions = np.minimum(np.searchsorted(chosen, ids), len(chosen) - 1)
    return np.bincount(positions[chosen[positions] == ids], minlength=len(chosen))


def _strange_values(name: str, path: pathlib.Path, schema: Schema) -> Iterator[str]:
    """Yield a line for values that look like nothing, and one for those of two spellings."""
    seen, empty, example, kept = 0, 0, "", []
    modulus = -(-pq.read_metadata(path.absolute()).num_rows // SPELLINGS_LOOKED_AT)
    for batch in row_batches(path, columns=["value", "count"]):
        values, counts = batch["value"], batch["count"].to_numpy()
        nothing = np.asarray(looks_like_nothing(values))
        seen, empty = seen + counts.sum(), empty + counts[nothing].sum()
        if nothing.any() and not example:
            example = shown(values[int(np.argmax(nothing))].as_py())
        table = pa.table({"value": values, "spelling": spelling(values)})
        kept.append(_sampled(table, modulus))
    share, limit = float(empty) / max(float(seen), 1.0), schema.limits.nothing_share
    if share > limit:
        yield _nothing(name, share, limit, example)
    table = pa.concat_tables(kept) if kept else pa.table({"value": [], "spelling": []})
    groups = table.group_by("spelling").aggregate(
        [("value", "count"), ("value", "min"), ("value", "max")]
    )
    several = groups.filter(np.asarray(groups["value_count"]) > 1).sort_by("spelling")
    twins = sum(several["value_count"].to_pylist())
    share, limit = twins / max(table.num_rows, 1), schema.limits.spelling_share
    if share > limit:
        pair = (several["value_min"][0].as_py(), several["value_max"][0].as_py())
        yield _respelled(f"vocabulary {name!r}", share, limit, pair)


def _strange_hashed(name: str, entry: dict[str, Any], limits: Limits) -> Iterator[str]:
    """Yield the same lines, by what the build has counted."""
    nothing, total = entry.get("nothing", []), max(entry["values"], 1)
    if len(nothing) / total > limits.nothing_share:
        yield _nothing(name, len(nothing) / total, limits.nothing_share, shown(nothing[0]))
    share = entry.get("respelled", 0) / total
    if share > limits.spelling_share:
        yield _respelled(f"vocabulary {name!r}", share, limits.spelling_share, entry["pair"])


def _nothing(name: str, share: float, limit: float, example: str) -> str:
    return (
        f"vocabulary {name!r}: expected at most {limit:.2%} of values that look like nothing, "
        f"got {share:.2%}, such as {example}; the schema's `missing` makes them missing"
    )


def _respelled(where: str, share: float, limit: float, pair: Sequence[str]) -> str:
    return (
        f"{where}: expected at most {limit:.2%} of values that equal another but "
        f"for '.0', blanks, case or leading zeros, got {share:.2%}, such as {shown(pair[0])} "
        f"and {shown(pair[1])}"
    )


def _sampled(table: pa.Table, modulus: int) -> pa.Table:
    """Return the rows of one in `modulus` spellings."""
    if modulus <= 1:
        return table
    texts = table["spelling"].to_pylist()
    return table.filter(np.array([zlib.crc32(text.encode()) % modulus == 0 for text in texts]))
