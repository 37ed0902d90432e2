import dataclasses

import pytest

from kunlun_jax.layers.comp_skip import stream_schedule
from tests import factories


def schedule(num_layers=4, *, words=(), model_layers=4, **changes):
    """Write a stream's schedule as one string a layer: f(fn), a(ttention), p(ooling)."""
    stream = dataclasses.replace(factories.BUY, num_layers=num_layers, schedule=words)
    model = factories.config(streams=(stream,), num_layers=model_layers, **changes)
    return [
        "f" * step.pffn + "a" * step.attention + "p" * step.pooling
        for step in stream_schedule(stream, model)
    ]


KEPT = {"final_pooling": True}
DROPPED = {"final_pooling": False}
EARLIER = {"final_pooling": False, "pool_from": "events"}


@pytest.mark.parametrize(
    ("num_layers", "changes", "expected"),
    [
        (4, {"pooling": KEPT}, ["fp", "a", "fp", "a"]),
        (3, {"pooling": KEPT}, ["fp", "a", "fp", ""]),
        (1, {"pooling": KEPT}, ["fp", "", "", ""]),
        (4, {"pooling": KEPT, "comp_skip": False}, ["fap"] * 4),
        (2, {"pooling": KEPT, "comp_skip": False}, ["fap", "fap", "", ""]),
        # What no pooling reads is not built: the attention after the last one.
        (4, {"pooling": DROPPED}, ["fp", "a", "fp", ""]),
        (2, {"pooling": DROPPED}, ["fp", "", "", ""]),
        (4, {"pooling": DROPPED, "comp_skip": False}, ["fap", "fap", "fap", "fp"]),
        # The PFFN beside the last pooling neither, where that reads what goes into the PFFN.
        (4, {"pooling": EARLIER}, ["fp", "a", "p", ""]),
        (2, {"pooling": EARLIER}, ["p", "", "", ""]),
        (4, {"pooling": EARLIER, "comp_skip": False}, ["fap", "fap", "fap", "p"]),
    ],
)
def test_schedule(num_layers, changes, expected):
    assert schedule(num_layers, **changes) == expected


def test_a_written_schedule_wins_over_comp_skip():
    words = ("pooling attention", "", "pffn attention")
    assert schedule(3, words=words) == ["ap", "", "fa", ""]
    assert schedule(3, words=words, pooling=DROPPED) == ["p", "", "", ""]
    assert schedule(2, words=("pooling pffn", "pooling")) == ["fp", "p", "", ""]
