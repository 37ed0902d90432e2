import dataclasses

import numpy as np
import pytest

from kunlun_jax.data.quality.consistency import validate_tables
from kunlun_jax.data.schema import OOV_ID
from kunlun_jax.data.sources import movielens_1m, movielens_1m_files
from kunlun_jax.data.sources.movielens_1m import Options
from tests.data.comparing import assert_equal
from tests.data.cross_oracle import cross_feature, expected_counts

DAY = 86400
# (id, title, year, genres) and (id, gender, age, occupation, zip code).
MOVIES = [
    ("1", "Toy Story", 1995, ["Animation", "Children's", "Comedy"]),
    ("3", "Misérables, Les", 1995, ["Drama", "Musical"]),
    ("7", "2001: A Space Odyssey", 1968, ["Drama", "Sci-Fi"]),
    ("8", "Laura", 1944, ["Drama", "Musical"]),
    ("9", "Never rated", 1950, ["Western"]),
]
USERS = [
    ("1", "F", 1, 10, "48067"),
    ("2", "M", 56, 16, "00231-1234"),
    ("5", "M", 25, 15, "48099"),
]


def random_ratings(size=90, seed=0):
    """Lines (user, movie, rating, time) in no order, many of them in the same second."""
    random = np.random.default_rng(seed)
    users, movies = [u[0] for u in USERS], [m[0] for m in MOVIES[:-1]]
    times = 978300000 + DAY * random.integers(0, 20, size) + random.integers(0, 2, size)
    return [
        (users[random.integers(3)], movies[random.integers(4)], random.integers(1, 6), time)
        for time in times
    ]


def write_grouplens(directory, ratings):
    directory.mkdir(parents=True, exist_ok=True)
    lines = {
        "ratings.dat": ["::".join(map(str, row)) for row in ratings],
        "users.dat": ["::".join(map(str, row)) for row in USERS],
        "movies.dat": [f"{m}::{title} ({year})::{'|'.join(g)}" for m, title, year, g in MOVIES],
    }
    for name, rows in lines.items():
        (directory / name).write_text("\n".join(rows) + "\n", encoding="latin-1")
    return Options(str(directory))


def write_recbole(directory, ratings):
    """As RecBole publishes it: other columns' order, identifiers of its own, floats, CRLF."""
    directory.mkdir(parents=True, exist_ok=True)
    title = {m[0]: f"{m[1]} ({m[2]})" for m in MOVIES}
    lines = {
        "ml-1m.inter": [
            "user_id:token\titem_id:token\trating:float\ttimestamp:float",
            *(f"1m_{u}\t{title[m]}\t{float(r)}\t{t}" for u, m, r, t in ratings),
        ],
        "ml-1m.user": [
            "user_id:token\tage:float\tgender:token\toccupation:float\tzip_code:token",
            *(f"1m_{u}\t{age}.0\t{gender}\t{job}\t{code}" for u, gender, age, job, code in USERS),
        ],
        "ml-1m.item": [
            "item_id:token\tmovie_title:token_seq\trelease_year:float\tgenre:token_seq",
            *(f"{title[m]}\t{name}\t{year}\t{' '.join(g)}" for m, name, year, g in MOVIES),
        ],
    }
    for name, rows in lines.items():
        (directory / name).write_bytes("".join(row + "\r\n" for row in rows).encode())
    return Options(str(directory))


@pytest.fixture
def lines():
    return random_ratings()


@pytest.fixture
def tables(tmp_path, lines):
    return movielens_1m.load(write_grouplens(tmp_path, lines))


class TestLoad:
    @pytest.mark.parametrize("split", ["user_time", "global_time", "rechorus"])
    def test_both_formats_give_the_same_tables(self, tmp_path, lines, split):
        options = [write_grouplens(tmp_path / "g", lines), write_recbole(tmp_path / "r", lines)]
        options = [dataclasses.replace(o, split=split) for o in options]
        grouplens, recbole = (movielens_1m.load(o) for o in options)
        assert_equal(grouplens, recbole, ignored="checksums")
        validate_tables(grouplens)
        assert set(grouplens.checksums) == {"ratings.dat", "users.dat", "movies.dat"}
        assert set(recbole.checksums) == {"ml-1m.inter", "ml-1m.user", "ml-1m.item"}

    def test_finds_the_unpacked_archive(self, tmp_path, lines):
        write_grouplens(tmp_path / "ml-1m", lines)
        assert movielens_1m.load(Options(str(tmp_path))).num_users == 3

    def test_every_rating_is_an_example(self, tables, lines):
        assert sum(len(examples) for examples in tables.splits.values()) == len(lines)
        assert sum(len(log.times) for log in tables.logs.values()) == len(lines)

    def test_history_and_running_features_against_a_loop(self, tables, lines):
        """Examples are recognised by user, time and movie."""
        movie_id = _ids_of_movies(tables)
        train_rows = _rows(tables, lines, "train")
        like_rate = np.mean([row[2] >= 4 for row in train_rows])
        rating = np.mean([row[2] for row in train_rows])
        for split, examples in tables.splits.items():
            rows = _rows(tables, lines, split)
            for i, (user, movie, _, time) in enumerate(rows):
                mine = [r for r in lines if r[0] == user and r[3] < time]
                others = [r for r in lines if r[1] == movie and r[3] < time]
                assert examples.ends["like"][i] == sum(r[2] >= 4 for r in mine)
                assert examples.ends["dislike"][i] == sum(r[2] < 4 for r in mine)
                assert examples.sparse["movie"][i] == movie_id[movie]
                expected = []
                for group in (others, mine):
                    expected += [
                        len(group),
                        (sum(r[2] >= 4 for r in group) + 5 * like_rate) / (len(group) + 5),
                        (sum(r[2] for r in group) + 5 * rating) / (len(group) + 5),
                    ]
                np.testing.assert_allclose(examples.dense[i, :6], expected, rtol=1e-6)

    def test_cross_features(self, tables, lines):
        popular = [column for one in tables.schema.popularity for column in one.columns]
        events = {
            name: [(u, t, {"movie": m}) for u, m, r, t in lines if (r >= 4) == (name == "like")]
            for name in tables.logs
        }
        for split, examples in tables.splits.items():
            expected = expected_counts(tables.schema, tables.logs, examples)
            columns = examples.dense[:, 6 : -len(popular)]
            np.testing.assert_array_equal(columns, expected)
            for i, (user, movie, _, time) in enumerate(_rows(tables, lines, split)):
                request = user, time, {"movie": movie}
                expected = [cross_feature(c, events[c.stream], request) for c in popular]
                assert examples.dense[i, -len(popular) :].tolist() == expected

    def test_logs_hold_each_users_events_in_order(self, tables, lines):
        movie_id = _ids_of_movies(tables)
        for name, wanted in (("like", (4, 5)), ("dislike", (1, 2, 3))):
            log = tables.logs[name]
            for index, user in enumerate(u[0] for u in USERS):
                mine = [r for r in lines if r[0] == user and r[2] in wanted]
                mine.sort(key=lambda r: r[3])
                part = slice(log.offsets[index], log.offsets[index + 1])
                np.testing.assert_array_equal(log.times[part], [r[3] for r in mine])
                np.testing.assert_array_equal(
                    log.ids["movie"][part], [movie_id[r[1]] for r in mine]
                )
                np.testing.assert_array_equal(log.dense[part, 0], [r[2] for r in mine])

    def test_features_of_movies_and_users(self, tables):
        train = tables.splits["train"]
        ids = _ids_of_movies(tables)

        def of_movie(name, movie):
            return train.sparse[name][train.sparse["movie"][:, 0] == ids[movie]][0]

        assert (
            of_movie("genre_set", "3") == of_movie("genre_set", "8") != of_movie("genre_set", "7")
        )
        assert of_movie("year", "1") == of_movie("year", "3") != of_movie("year", "8")
        names = ("Animation", "Children's", "Comedy", "Drama", "Musical", "Sci-Fi", "Western")
        comedy, drama = names.index("Comedy") + 1, names.index("Drama") + 1
        assert of_movie("genres", "1").tolist() == [1, 2, comedy]
        assert of_movie("genres", "7").tolist() == [drama, names.index("Sci-Fi") + 1, 0]
        lengths = train.sparse_lengths["genres"]
        assert (lengths == (train.sparse["genres"] > 0).sum(axis=1)).all()
        # Zip codes 48067 and 48099 share their prefix.
        prefix = [train.sparse["zip_prefix"][train.users == user][0, 0] for user in range(3)]
        assert prefix[0] == prefix[2] != prefix[1]

    def test_what_training_has_not_seen_is_out_of_vocabulary(self, tmp_path):
        """Movie 8 appears for the first time in the last rating."""
        lines = [("1", "1", 4, 1000 + i) for i in range(9)] + [("1", "8", 4, 2000)]
        tables = movielens_1m.load(write_grouplens(tmp_path, lines))
        test = tables.splits["test"]
        assert test.sparse["movie"].tolist() == [[OOV_ID]]
        assert test.sparse["year"].tolist() == [[OOV_ID]]
        assert test.sparse["genres"].tolist() == [[4, 5, 0]]

    def test_shared_vocabularies_of_candidate_and_events(self, tables):
        events = tables.schema.stream_by_name["like"].ids
        assert tuple(feature.name for feature in events) == tables.schema.candidate
        sparse = {feature.name: feature.vocabulary for feature in tables.schema.sparse}
        assert all(sparse[feature.name] == feature.vocabulary for feature in events)


class TestErrors:
    def test_unknown_split(self):
        with pytest.raises(ValueError, match=r"split: expected one of .*'user_time'.*got 'random'"):
            Options("anywhere", split="random")

    def test_no_directory(self, tmp_path):
        path = tmp_path / "absent"
        with pytest.raises(FileNotFoundError, match=rf"ratings.dat.*{path}.*no such directory"):
            movielens_1m.load(Options(str(path)))

    def test_missing_file(self, tmp_path, lines):
        options = write_grouplens(tmp_path, lines)
        (tmp_path / "users.dat").unlink()
        with pytest.raises(FileNotFoundError, match=r"got movies.dat, ratings.dat$"):
            movielens_1m.load(options)

    @pytest.mark.parametrize("writer", [write_grouplens, write_recbole])
    @pytest.mark.parametrize(
        ("row", "message"),
        [
            (("1", "1", 6, 1000), "expected ratings from 1 to 5, got .*6"),
            (("1", "1", 4, "noon"), "column timestamp: .*noon"),
        ],
    )
    def test_foreign_values(self, tmp_path, lines, writer, row, message):
        options = writer(tmp_path, [*lines, row])
        with pytest.raises(ValueError, match=rf"{tmp_path}.*(ratings.dat|inter): {message}"):
            movielens_1m.load(options)

    def test_unknown_movie(self, tmp_path, lines):
        options = write_grouplens(tmp_path, [*lines, ("1", "77", 4, 1000)])
        with pytest.raises(ValueError, match=r"1 ratings of a movie that is not in .*'77'"):
            movielens_1m.load(options)

    def test_missing_column(self, tmp_path, lines):
        options = write_recbole(tmp_path, lines)
        path = tmp_path / "ml-1m.item"
        path.write_text(path.read_text().replace("genre:token_seq", "class:token_seq", 1))
        with pytest.raises(ValueError, match=r"ml-1m.item: expected .* columns \['genre'\]"):
            movielens_1m.load(options)

    def test_other_separator(self, tmp_path, lines):
        options = write_grouplens(tmp_path, lines)
        path = tmp_path / "ratings.dat"
        path.write_text(path.read_text().replace("::", ","))
        with pytest.raises(ValueError, match=r"ratings.dat: expected fields separated by '::'"):
            movielens_1m.load(options)

    def test_ragged_line(self, tmp_path, lines):
        options = write_grouplens(tmp_path, lines)
        with (tmp_path / "ratings.dat").open("a") as file:
            file.write("1::2::3\n")
        with pytest.raises(ValueError, match=r"ratings.dat: .*Expected 4 columns, got 3"):
            movielens_1m.load(options)

    def test_empty_split(self, tmp_path):
        options = write_grouplens(tmp_path, [("1", "1", 4, 1000)])
        with pytest.raises(ValueError, match=r"split 'user_time' leaves .* empty"):
            movielens_1m.load(options)

    def test_core_without_ratings(self, tmp_path):
        options = write_grouplens(tmp_path, [("1", "1", 4, 1000)])
        with pytest.raises(ValueError, match="split 'rechorus' leaves train empty"):
            movielens_1m.load(dataclasses.replace(options, split="rechorus"))

    def test_year_that_is_not_known(self, tmp_path, lines):
        options = write_grouplens(tmp_path, lines)
        path = tmp_path / "movies.dat"
        path.write_text(path.read_text("latin-1").replace("Laura (1944)", "Laura"), "latin-1")
        source = movielens_1m_files.read(tmp_path)
        assert source.year.tolist() == [1995, 1995, 1968, movielens_1m_files.UNKNOWN_YEAR, 1950]
        assert movielens_1m.load(options).num_users == 3


def _ids_of_movies(tables):
    """Ids are numbered by the movies' rows in their file; all rated ones are in training."""
    assert tables.schema.vocabulary_by_name["movie"].num_ids == 4
    return {movie[0]: row + 1 for row, movie in enumerate(MOVIES[:-1])}


def _rows(tables, lines, split):
    """The lines of a split's examples: per user, the given share of lines by (time, file order)."""
    chosen = []
    for position, line in enumerate(lines):
        mine = [(r[3], i) for i, r in enumerate(lines) if r[0] == line[0]]
        rank = sorted(mine).index((line[3], position))
        cuts = [int(0.8 * len(mine) + 0.5), int(0.9 * len(mine) + 0.5)]
        if ("train", "validation", "test")[sum(rank >= cut for cut in cuts)] == split:
            chosen.append((line[3], position, line))
    return [line for _, _, line in sorted(chosen, key=lambda item: item[:2])]
