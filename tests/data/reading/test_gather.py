import hypothesis.extra.numpy as arrays
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kunlun_jax.data.reading.gather import matching


@settings(deadline=None)
@given(st.data(), st.integers(1, 3), st.integers(0, 4), st.integers(1, 3), st.booleans())
def test_an_event_matches_where_its_known_id_is_among_the_candidates(data, b, t, v, pairs):
    few, pair = st.integers(0, 3), (2,) if pairs else ()
    events, candidate = (
        data.draw(arrays.arrays(np.int32, (b, n, *pair), elements=few)) for n in (t, v)
    )
    if pairs:  # a value has two ids from 1 on; what is unknown has two zeros
        events, candidate = (
            np.where(x.min(axis=2, keepdims=True), x, 0) for x in (events, candidate)
        )
    expected = [
        [any(np.any(e) and np.array_equal(e, c) for c in candidates) for e in row]
        for row, candidates in zip(events, candidate, strict=True)
    ]
    found = matching(events, candidate)
    assert found.dtype == bool
    assert found.tolist() == expected
