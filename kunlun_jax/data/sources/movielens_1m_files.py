"""Reads MovieLens-1M from GroupLens's files or from RecBole's atomic files.

| | GroupLens | RecBole |
|---|---|---|
| ratings | ratings.dat | ml-1m.inter |
| users | users.dat | ml-1m.user |
| movies | movies.dat | ml-1m.item |
| separator | :: | tab |
| encoding | latin-1 | UTF-8 |
| columns | by position | by a header of name:type |
| genres | separated by bars | separated by spaces |
| year | at the end of the title | its own column |

Users and movies are numbered by their rows in their files, which both formats keep in the same
order, so that both give the same data set.
"""

import dataclasses
import hashlib
import io
import pathlib
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv

RATINGS, USERS, MOVIES = "ratings", "users", "movies"
GROUPLENS = {RATINGS: "ratings.dat", USERS: "users.dat", MOVIES: "movies.dat"}
RECBOLE = {RATINGS: "ml-1m.inter", USERS: "ml-1m.user", MOVIES: "ml-1m.item"}
GROUPLENS_COLUMNS = {
    RATINGS: ("user_id", "item_id", "rating", "timestamp"),
    USERS: ("user_id", "gender", "age", "occupation", "zip_code"),
    MOVIES: ("item_id", "title", "genre"),
}
RECBOLE_COLUMNS = {
    RATINGS: ("user_id", "item_id", "rating", "timestamp"),
    USERS: ("user_id", "gender", "age", "occupation", "zip_code"),
    MOVIES: ("item_id", "release_year", "genre"),
}
# The archive of GroupLens unpacks into this folder.
SUBDIRECTORY = "ml-1m"
UNKNOWN_YEAR = 0


@dataclasses.dataclass(frozen=True)
class Ratings:
    """One row per rating, in the order of the file.

    Attributes:
        user: int32, row of the users.
        movie: int32, row of the movies.
        rating: float32, 1 to 5.
        time: int64, Unix seconds.
    """

    user: np.ndarray
    movie: np.ndarray
    rating: np.ndarray
    time: np.ndarray

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: np.ndarray) -> "Ratings":
        """Return the given rows (indices or a mask)."""
        return Ratings(self.user[rows], self.movie[rows], self.rating[rows], self.time[rows])


@dataclasses.dataclass(frozen=True)
class MovieLens:
    """The three tables.

    Attributes:
        ratings: The ratings.
        users: By "age", "gender", "occupation" and "zip_code", one value per user.
        year: int64, release year per movie, or UNKNOWN_YEAR.
        genre_names: All genres, sorted.
        genres: bool [movies, genres].
        checksums: SHA-256 by file name.
    """

    ratings: Ratings
    users: dict[str, np.ndarray]
    year: np.ndarray
    genre_names: tuple[str, ...]
    genres: np.ndarray
    checksums: dict[str, str]


def read(directory: pathlib.Path) -> MovieLens:
    """Read the files of a directory, or of `ml-1m` in it, in whichever format they are.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is not what its name says.
    """
    paths, is_grouplens = find_files(directory)
    data = {table: path.read_bytes() for table, path in paths.items()}
    read_table = _read_grouplens if is_grouplens else _read_recbole
    tables = {table: read_table(paths[table], table, data[table]) for table in paths}

    ratings, users, movies = tables[RATINGS], tables[USERS], tables[MOVIES]
    separator = "|" if is_grouplens else " "
    genres = [frozenset(text.split(separator)) - {""} for text in movies["genre"].to_pylist()]
    genre_names = tuple(sorted(frozenset().union(*genres)))
    return MovieLens(
        ratings=_ratings(paths[RATINGS], ratings, users["user_id"], movies["item_id"]),
        users={
            "age": _numbers(paths[USERS], users, "age").astype(np.int64),
            "gender": np.asarray(users["gender"].to_pylist(), dtype=str),
            "occupation": _numbers(paths[USERS], users, "occupation").astype(np.int64),
            "zip_code": np.asarray(users["zip_code"].to_pylist(), dtype=str),
        },
        year=_years(movies["title"] if is_grouplens else movies["release_year"]),
        genre_names=genre_names,
        genres=np.asarray([[name in movie for name in genre_names] for movie in genres]),
        checksums={paths[t].name: hashlib.sha256(data[t]).hexdigest() for t in paths},
    )


def find_files(directory: pathlib.Path) -> tuple[dict[str, pathlib.Path], bool]:
    """Find the three files of one format.

    Returns:
        The paths by table, and whether they are GroupLens's.

    Raises:
        FileNotFoundError: If neither format is complete.
    """
    for folder in (directory, directory / SUBDIRECTORY):
        for names in (GROUPLENS, RECBOLE):
            paths = {table: folder / name for table, name in names.items()}
            if all(path.is_file() for path in paths.values()):
                return paths, names is GROUPLENS
    expected = " or ".join(", ".join(names.values()) for names in (GROUPLENS, RECBOLE))
    found = sorted({*GROUPLENS.values(), *RECBOLE.values()} & _names_in(directory))
    got = ", ".join(found) or ("none of them" if directory.is_dir() else "no such directory")
    raise FileNotFoundError(f"MovieLens-1M: expected {expected} in {directory}, got {got}")


def _names_in(directory: pathlib.Path) -> set[str]:
    folders = [f for f in (directory, directory / SUBDIRECTORY) if f.is_dir()]
    return {path.name for folder in folders for path in folder.iterdir()}


def _read_grouplens(path: pathlib.Path, table: str, data: bytes) -> pa.Table:
    if b"::" not in data or b"\t" in data:
        raise ValueError(f"{path}: expected fields separated by '::', as in MovieLens-1M")
    names = list(GROUPLENS_COLUMNS[table])
    options = pyarrow.csv.ReadOptions(column_names=names, encoding="latin-1")
    return _parse(path, data.replace(b"::", b"\t"), options, names)


def _read_recbole(path: pathlib.Path, table: str, data: bytes) -> pa.Table:
    header = data.partition(b"\n")[0].decode(errors="replace").strip()
    names = [field.partition(":")[0] for field in header.split("\t")]
    missing = [name for name in RECBOLE_COLUMNS[table] if name not in names]
    if missing:
        raise ValueError(f"{path}: expected tab-separated columns {missing}, got header {header!r}")
    options = pyarrow.csv.ReadOptions(column_names=names, skip_rows=1)
    return _parse(path, data, options, names)


def _parse(
    path: pathlib.Path, data: bytes, options: pyarrow.csv.ReadOptions, names: list[str]
) -> pa.Table:
    """Parse tab-separated text, every column as strings."""
    try:
        return pyarrow.csv.read_csv(
            io.BytesIO(data),
            read_options=options,
            parse_options=pyarrow.csv.ParseOptions(delimiter="\t", quote_char=False),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={name: pa.string() for name in names}, strings_can_be_null=False
            ),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {str(error).splitlines()[0]}") from error


def _ratings(
    path: pathlib.Path, table: pa.Table, users: pa.ChunkedArray, movies: pa.ChunkedArray
) -> Ratings:
    rating = _numbers(path, table, "rating").astype(np.float32)
    if not ((rating >= 1) & (rating <= 5)).all():
        raise ValueError(
            f"{path}: expected ratings from 1 to 5, got {rating.min()}..{rating.max()}"
        )
    return Ratings(
        user=_rows_of(path, table["user_id"], users, "user"),
        movie=_rows_of(path, table["item_id"], movies, "movie"),
        rating=rating,
        time=_numbers(path, table, "timestamp").astype(np.int64),
    )


def _rows_of(
    path: pathlib.Path, values: pa.ChunkedArray, known: pa.ChunkedArray, kind: str
) -> np.ndarray:
    """Return, for each value, its row in the file that lists them all."""
    rows = pyarrow.compute.call_function(
        "index_in", [values], pyarrow.compute.SetLookupOptions(known.combine_chunks())
    )
    if rows.null_count:
        unknown = values.filter(rows.is_null())[0].as_py()
        raise ValueError(
            f"{path}: {rows.null_count} ratings of a {kind} that is not in the {kind}s' file, "
            f"first: {unknown!r}"
        )
    return rows.to_numpy()


def _numbers(path: pathlib.Path, table: pa.Table, name: str) -> np.ndarray:
    try:
        return table[name].cast(pa.float64()).to_numpy()
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: column {name}: {str(error).splitlines()[0]}") from error


def _years(texts: pa.ChunkedArray) -> np.ndarray:
    """Take the year from "1995", "1995.0" or "Toy Story (1995)"."""
    found = [re.search(r"\(?(\d{4})(?:\.0)?\)?\s*$", text) for text in texts.to_pylist()]
    return np.asarray([int(year[1]) if year else UNKNOWN_YEAR for year in found], dtype=np.int64)
