"""The query that counts popularity against its definition, over weeks and values of any size."""

import numpy as np
import pytest

from kunlun_jax.data.own_data.popularity import PopularityGroup

duckdb = pytest.importorskip("duckdb")

DAY = 86400
WINDOWS = (1, 7, 28)
GROUP = PopularityGroup(0, "view", "e0", "i0", WINDOWS, ("p0", "p1", "p2"))


@pytest.mark.parametrize("origin", [0, 1_700_000_000])
def test_counts_are_those_of_the_definition(origin):
    rng = np.random.default_rng(0)
    # Whole quarters of a day, so that events fall into an offer's second and on a window's start.
    event_times = origin + rng.integers(-160, 160, 400) * (DAY // 4)
    values = rng.choice(["often", "seldom", None], 400, p=[0.8, 0.15, 0.05])
    offered = [(v, origin + t * (DAY // 4)) for v in ("often", "never") for t in range(-50, 180, 7)]
    connection = duckdb.connect()
    connection.execute("CREATE TABLE view (e0 VARCHAR, time BIGINT)")
    events = list(zip(values, event_times.tolist(), strict=True))
    connection.executemany("INSERT INTO view VALUES (?, ?)", events)
    connection.execute("CREATE TABLE impressions (i0 VARCHAR, time BIGINT)")
    connection.executemany("INSERT INTO impressions VALUES (?, ?)", [*offered, *offered, (None, 0)])
    found = connection.execute(GROUP.counts("view", "impressions")).fetchall()
    assert sorted((value, moment) for value, moment, *_ in found) == sorted(offered)
    for value, moment, *counts in found:
        ages = moment - event_times[values == value]
        assert counts == [((ages > 0) & (ages <= days * DAY)).sum() for days in WINDOWS]
