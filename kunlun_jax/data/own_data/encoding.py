"""Ids in place of the values of typed tables, by DuckDB."""

import pathlib
from collections.abc import Callable

from kunlun_jax.data.own_data import columns, vocabularies
from kunlun_jax.data.own_data.staging import Staging
from kunlun_jax.data.own_data.table_schema import IMPRESSIONS, Built
from kunlun_jax.data.schema import OOV_ID, EventId, SparseFeature

VocabularyFile = Callable[[str], pathlib.Path]


def count_popularity(staging: Staging) -> None:
    """Count what is offered in the events of everybody, unless that is done."""
    impressions = staging.known_rows(IMPRESSIONS)
    for group in staging.popularity:
        events = staging.relation(staging.typed(group.stream).name)
        staging.engine.copy(group.counts(events, impressions), staging.scratch / group.file)


def encode(staging: Staging, table: str, vocabulary_file: VocabularyFile, more: str = "") -> None:
    """Write a table with ids, the impressions also with popularity, one folder per shard.

    Args:
        staging: Typed tables, and popularity.
        table: Which table.
        vocabulary_file: Returns the file of a vocabulary that is built, by its name.
        more: Further columns.
    """
    replaced, columns_of_ids, joins = ["unit"], [], []
    for name, alias, feature in vocabularies.id_columns(staging.schema):
        if name != table:
            continue
        relation = _lookup(staging, table, alias, feature, vocabulary_file)
        if relation is None:
            kind = staging.schema.vocabulary(feature.vocabulary)
            known = vocabularies.hashed_sql(alias, kind)
        else:
            known = f"v_{alias}.id"
            joins.append(f"LEFT JOIN {relation} AS v_{alias} ON t.{alias} = v_{alias}.value")
            if not columns.is_list(feature):
                known = f"CASE WHEN t.{alias} IS NOT NULL THEN coalesce({known}, {OOV_ID}) END"
        replaced.append(alias)
        columns_of_ids.append(f"{known} AS {alias}")
    for group in staging.popularity if table == IMPRESSIONS else ():
        joins.append(group.join(staging.relation(group.file)))
        more += "".join(f", CAST(coalesce({p}, 0) AS FLOAT) AS {p}" for p in group.names)
    select = ", ".join([f"t.* EXCLUDE ({', '.join(replaced)})", *columns_of_ids])
    staging.engine.copy(
        f"SELECT {select}{more} FROM {staging.known_rows(table)} AS t {' '.join(joins)}",
        staging.scratch / f"staged-{staging.tables.index(table)}",
        partition_by="shard",
    )


def _lookup(
    staging: Staging,
    table: str,
    alias: str,
    feature: SparseFeature | EventId,
    vocabulary_file: VocabularyFile,
) -> str | None:
    """Return a relation (value, id) for a column, None if its ids are computed."""
    kind = staging.schema.vocabulary(feature.vocabulary)
    values = ""
    if isinstance(kind, Built):
        values = staging.relation(vocabulary_file(feature.vocabulary).absolute())
    if not columns.is_list(feature):
        return values or None
    # Every different list is encoded once, and then looked up as a whole.
    if isinstance(kind, Built):
        known = f"coalesce(v.id, {OOV_ID})"
        join = f"LEFT JOIN {values} AS v ON one = v.value"
    else:
        known, join = vocabularies.hashed_sql("one", kind), ""
    cells = f"SELECT DISTINCT {alias} AS cell FROM {staging.known_rows(table)}"
    parts = f"string_split(cell, {columns.UNIT_SEPARATOR})"
    name = f"lists-{alias}.parquet"
    staging.engine.copy(
        f"SELECT cell AS value, list({known} ORDER BY place) AS id FROM "
        f"(SELECT cell, unnest({parts}) AS one, generate_subscripts({parts}, 1) AS place "
        f"FROM ({cells}) WHERE cell IS NOT NULL) {join} GROUP BY cell",
        staging.scratch / name,
    )
    return staging.relation(name)
