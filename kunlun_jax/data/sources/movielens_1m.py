"""MovieLens-1M: will this user like this movie (rating >= 4)?

The files may not be redistributed: the user points at their own copy, in GroupLens's or RecBole's
format. Every rating is one example and, for later examples, one event: of stream `like` (>= 4)
or `dislike` (< 4).

Everything about a user and a movie is taken strictly before the request. More than half of the
ratings share their second with the user's previous one; those are unordered, so none of them is
in another's history. Ratings of the validation and test periods count as history too, as
they would when served.

Running means are shrunk towards the training set's mean by `PRIOR_COUNT` ratings. Vocabularies
hold what the training split has seen; everything else is out of vocabulary.
"""

import dataclasses
import pathlib

import numpy as np

from kunlun_jax.data import schema as schemas
from kunlun_jax.data.counting import popularity_columns, with_columns
from kunlun_jax.data.cross import Cross, Popularity
from kunlun_jax.data.sources import movielens_1m_files as files
from kunlun_jax.data.sources.encoding import encode, event_log, events_before
from kunlun_jax.data.sources.movielens_1m_files import MovieLens, Ratings
from kunlun_jax.data.sources.movielens_1m_splits import LIKED, SPLIT_RULES, TRAIN, split_ratings
from kunlun_jax.data.tables import SPLITS, EventLog, Examples, SourceTables

PRIOR_COUNT = 5.0
CANDIDATE = ("movie", "genre_set", "year")
USER_FEATURES = ("age", "gender", "occupation", "zip_prefix")
MAX_LEN = 512

_DENSE = (
    schemas.DenseFeature("movie_count", log1p=True),
    schemas.DenseFeature("movie_like_rate"),
    schemas.DenseFeature("movie_rating"),
    schemas.DenseFeature("user_count", log1p=True),
    schemas.DenseFeature("user_like_rate"),
    schemas.DenseFeature("user_rating"),
)

# A film is rated once, so that no earlier event is of the very film that is offered.
CROSS = tuple(Cross(name, ("genre_set", "year"), windows=(1,)) for name in ("like", "dislike"))
POPULARITY = tuple(Popularity(name, ("movie",), (28,)) for name in ("like", "dislike"))

# Known ids of each split rule, as far as it is written down here.
_SIZES = {
    "user_time": {
        "movie": 3_667, "genre_set": 301, "year": 81, "user": 6_040, "age": 7, "gender": 2,
        "occupation": 21, "zip_prefix": 678, "genres": 18,
    },
}  # fmt: skip
_MAX_GENRES = 6


@dataclasses.dataclass(frozen=True)
class Options:
    """What the data set depends on besides the content of the files.

    Attributes:
        path: Directory of the three files (or with a folder `ml-1m` of them).
        split: "user_time": per user 80/10/10 % by time. "global_time": 80/10/10 % of all
            ratings by time. "rechorus": ReChorus's ML_1MCTR, up to 80 % and 90 % of the range of
            days (of Shanghai), users and movies with at least five likes (repeatedly), and no
            users or movies in validation and test that training has not seen.

    Raises:
        ValueError: On an unknown split.
    """

    path: str
    split: str = "user_time"

    def __post_init__(self) -> None:
        if self.split not in SPLIT_RULES:
            raise ValueError(f"split: expected one of {sorted(SPLIT_RULES)}, got {self.split!r}")


def load(options: Options) -> SourceTables:
    """Read the files and make the data set.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is not what its name says, or a split gets no rating.
    """
    source = files.read(pathlib.Path(options.path))
    ratings, part = split_ratings(source.ratings, options.split)
    for number, name in enumerate(SPLITS):
        if not (part == number).any():
            raise ValueError(f"{options.path}: split {options.split!r} leaves {name} empty")
    train = part == TRAIN
    num_users = len(source.users["age"])
    movie_ids, sizes = _encode_movies(source, ratings, train)
    logs = {
        name: _event_log(num_users, ratings.take(rows), movie_ids)
        for name, rows in {
            "like": ratings.rating >= LIKED,
            "dislike": ratings.rating < LIKED,
        }.items()
    }
    sparse = _user_features(source, ratings, train, sizes)
    sparse |= {name: ids[ratings.movie, None] for name, ids in movie_ids.items()}
    genres, genre_lengths = _genre_lists(source.genres)
    sizes["genres"] = len(source.genre_names)
    sparse["genres"] = genres[ratings.movie]
    examples = Examples(
        users=ratings.user,
        request_times=ratings.time,
        labels=(ratings.rating >= LIKED).astype(np.float32)[:, None],
        weights=np.ones(len(ratings), np.float32),
        dense=_dense_features(ratings, train),
        sparse=sparse,
        sparse_lengths={
            name: genre_lengths[ratings.movie] if name == "genres" else _ones(len(ratings))
            for name in sparse
        },
        ends={name: events_before(log, ratings.user, ratings.time) for name, log in logs.items()},
    )
    schema = _schema(sizes, max_genres=genres.shape[1])
    examples = with_columns(examples, schema, logs, _popularity(schema, ratings))
    return SourceTables(
        schema=schema,
        num_users=num_users,
        logs=logs,
        splits={name: examples.take(part == number) for number, name in enumerate(SPLITS)},
        checksums=source.checksums,
    )


def _popularity(schema: schemas.Schema, ratings: Ratings) -> np.ndarray:
    """Return the columns that the schema declares, of films that are in no vocabulary too."""
    columns = []
    for declared in schema.popularity:
        liked = ratings.rating >= LIKED
        events = ratings.take(liked if declared.stream == "like" else ~liked)
        keys = {"movie": (events.movie, ratings.movie)}
        columns.append(popularity_columns(declared, events.time, keys, ratings.time))
    return np.concatenate(columns, axis=1)


def totals_before(
    key: np.ndarray, time: np.ndarray, values: tuple[np.ndarray, ...]
) -> list[np.ndarray]:
    """Sum, for each row, every column over the rows of the same key strictly before its time."""
    order = np.lexsort((time, key))
    key, time = key[order], time[order]
    new_key = np.append(True, key[1:] != key[:-1])
    new_moment = new_key | np.append(True, time[1:] != time[:-1])
    rows = np.arange(len(key))
    key_start = np.maximum.accumulate(np.where(new_key, rows, 0))
    moment_start = np.maximum.accumulate(np.where(new_moment, rows, 0))
    results = []
    for column in values:
        before = np.append(0.0, np.cumsum(column[order], dtype=np.float64))
        total = np.empty(len(key))
        total[order] = before[moment_start] - before[key_start]
        results.append(total)
    return results


def _dense_features(ratings: Ratings, train: np.ndarray) -> np.ndarray:
    """Count, like rate and mean rating so far, of the movie and of the user."""
    liked = (ratings.rating >= LIKED).astype(np.float64)
    columns = []
    for key in (ratings.movie, ratings.user):
        values = (np.ones(len(ratings)), liked, ratings.rating)
        count, likes, total = totals_before(key, ratings.time, values)
        columns.append(count)
        for value, observed in ((likes, liked), (total, ratings.rating)):
            prior = observed[train].mean(dtype=np.float64)
            columns.append((value + PRIOR_COUNT * prior) / (count + PRIOR_COUNT))
    return np.stack(columns, axis=1).astype(np.float32)


def _encode_movies(
    source: MovieLens, ratings: Ratings, train: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Ids of every movie for each feature of CANDIDATE, and the vocabulary sizes."""
    _, genre_set = np.unique(source.genres, axis=0, return_inverse=True)
    raw = {
        "movie": np.arange(len(source.year)),
        "genre_set": genre_set.reshape(-1),
        "year": source.year,
    }
    seen = np.zeros(len(source.year), bool)
    seen[ratings.movie[train]] = True
    encoded = {name: encode(values, seen) for name, values in raw.items()}
    return {n: ids for n, (ids, _) in encoded.items()}, {n: s for n, (_, s) in encoded.items()}


def _user_features(
    source: MovieLens, ratings: Ratings, train: np.ndarray, sizes: dict[str, int]
) -> dict[str, np.ndarray]:
    """By feature, int32 [ratings, 1]; adds the vocabulary sizes."""
    raw = {
        "user": np.arange(len(source.users["age"])),
        **{name: source.users[name] for name in ("age", "gender", "occupation")},
        "zip_prefix": source.users["zip_code"].astype("U3"),
    }
    seen = np.zeros(len(raw["user"]), bool)
    seen[ratings.user[train]] = True
    result = {}
    for name, values in raw.items():
        ids, sizes[name] = encode(values, seen)
        result[name] = ids[ratings.user, None]
    return result


def _genre_lists(genres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn membership [movies, genres] into lists of ids with zeros behind, and lengths."""
    lengths = genres.sum(axis=1).astype(np.int32)
    width = max(int(lengths.max(initial=0)), 1)
    first = np.argsort(~genres, axis=1, kind="stable")[:, :width]
    real = np.arange(first.shape[1]) < lengths[:, None]
    return np.where(real, first + 1, 0).astype(np.int32), lengths


def _event_log(num_users: int, events: Ratings, movie_ids: dict[str, np.ndarray]) -> EventLog:
    ids = {name: movie_ids[name][events.movie] for name in CANDIDATE}
    return event_log(num_users, events.user, events.time, ids, [events.rating])


def _ones(count: int) -> np.ndarray:
    return np.ones(count, np.int32)


def known_schema(options: Options) -> schemas.Schema | None:
    """Return the schema of a split rule's data set, without reading any data; None if unknown."""
    sizes = _SIZES.get(options.split)
    return _schema(sizes, max_genres=_MAX_GENRES) if sizes else None


def _schema(sizes: dict[str, int], *, max_genres: int) -> schemas.Schema:
    single = ("user", *USER_FEATURES, *CANDIDATE)
    streams = tuple(
        schemas.EventStream(
            name,
            ids=tuple(schemas.EventId(feature, feature) for feature in CANDIDATE),
            dense=(schemas.DenseFeature("rating"),),
            max_len=MAX_LEN,
        )
        for name in ("like", "dislike")
    )
    return schemas.Schema(
        name="movielens_1m",
        vocabularies=tuple(schemas.Vocabulary(name, size) for name, size in sizes.items()),
        dense=(*_DENSE, *schemas.derived_features((*CROSS, *POPULARITY))),
        sparse=(
            *(schemas.SparseFeature(name, name) for name in single),
            schemas.SparseFeature("genres", "genres", max_values=max_genres, combiner="mean"),
        ),
        candidate=CANDIDATE,
        streams=streams,
        labels=("like",),
        cross=CROSS,
        popularity=POPULARITY,
    )
