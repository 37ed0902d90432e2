"""Files as relations of DuckDB: the columns that they hold, and nothing that their paths say."""

import dataclasses
import pathlib

from kunlun_jax.data.own_data.columns import quoted
from kunlun_jax.data.own_data.engine import Engine
from kunlun_jax.data.own_data.formats import known_format
from kunlun_jax.data.own_data.headers import column_names, duration_types
from kunlun_jax.data.own_data.messages import named
from kunlun_jax.data.own_data.texts import literal

# The type of a Parquet column of which no value is there.
NOTHING = '"NULL"'


@dataclasses.dataclass(frozen=True)
class Layout:
    """The columns of files that are alike.

    Attributes:
        separator: Of CSV and TSV; empty: Parquet.
        names: What the columns are called; those without a name are left out.
        kinds: Their SQL types.
        engine_names: What DuckDB calls all columns, in their order, also those without a name.
        places: Of the columns with a name, where they are among all.
    """

    separator: str
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    engine_names: tuple[str, ...]
    places: tuple[int, ...]

    @property
    def is_parquet(self) -> bool:
        """Whether the files are Parquet."""
        return not self.separator

    @property
    def types(self) -> dict[str, str]:
        """SQL type by column; a column of nothing is text."""
        kinds = ("VARCHAR" if kind == NOTHING else kind for kind in self.kinds)
        return dict(zip(self.names, kinds, strict=True))

    def sql(self, engine: Engine, files: list[pathlib.Path]) -> str:
        """Return a relation of the rows of files."""
        columns = []
        for name, kind, place in zip(self.names, self.kinds, self.places, strict=True):
            column = quoted(self.engine_names[place])
            typed = f"CAST({column} AS VARCHAR)" if kind == NOTHING else column
            columns.append(f"{typed} AS {quoted(name)}")
        by_compression: dict[str, list[pathlib.Path]] = {}
        for path in files:
            by_compression.setdefault(known_format(path).compression, []).append(path)
        parts = [
            f"SELECT {', '.join(columns)} FROM {self._read(engine, compression, found)}"
            for compression, found in by_compression.items()
        ]
        return f"({' UNION ALL '.join(parts)})"

    def _read(self, engine: Engine, compression: str, files: list[pathlib.Path]) -> str:
        paths = ", ".join(engine.path(path) for path in files)
        if self.is_parquet:
            return f"read_parquet([{paths}], hive_partitioning=false, union_by_name=false)"
        # Nothing is guessed: every column is text, and the dialect is fixed.
        columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in self.engine_names)
        return (
            f"read_csv([{paths}], columns={{{columns}}}, auto_detect=false, header=true, "
            f"delim={literal(self.separator)}, quote='\"', escape='\"', "
            f"compression='{compression or 'none'}', hive_partitioning=false)"
        )


def layout_of(engine: Engine, path: pathlib.Path) -> Layout:
    """Look at the columns of a file; rows are not read.

    Raises:
        SchemaError: As `column_names`, or if it is not what its name says.
    """
    names = column_names(path)
    with named(path):
        kind = known_format(path)
        if kind.is_parquet:
            relation = f"read_parquet([{engine.path(path)}], hive_partitioning=false)"
            rows = engine.execute(f"DESCRIBE SELECT * FROM {relation}")
            found = [(str(name), str(sql)) for name, sql, *_ in rows]
            for place, sql in duration_types(path).items():
                found[place] = (found[place][0], sql)
        else:
            found = [(f"c{i}", "VARCHAR") for i in range(len(names))]
    places = tuple(place for place, name in enumerate(names) if name)
    return Layout(
        kind.separator,
        tuple(names[place] for place in places),
        tuple(found[place][1] for place in places),
        tuple(name for name, _ in found),
        places,
    )
