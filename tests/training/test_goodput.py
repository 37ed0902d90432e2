"""Shares of the time and utilisation, on a clock that the test sets."""

import jax
import jax.numpy as jnp
import pytest

from kunlun_jax.training import goodput
from kunlun_jax.training.goodput import ACTIVITIES, Goodput, measured_ceiling


class Clock:
    def __init__(self):
        self.seconds, self.processor = 100.0, 7.0

    def monotonic(self):
        return self.seconds

    def process_time(self):
        return self.processor


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(goodput, "time", clock)
    return clock


def test_a_lap_tells_rates_and_utilisation(clock):
    watch = Goodput(flops_per_example=2_000_000, ceiling=5e9)
    clock.seconds += 4.0
    clock.processor += 8.0
    assert watch.lap(1000) == pytest.approx(
        {
            "train/examples_per_second": 250.0,
            "train/examples_per_cpu_second": 125.0,
            "train/model_gflops_per_second": 250.0 * 6e6 / 1e9,  # forward and backward: 3 x 2e6
            "train/mfu": 0.3,
        }
    )
    clock.seconds += 50.0
    watch.begin_lap()  # an evaluation is in no rate
    clock.seconds += 1.0
    assert watch.lap(10)["train/examples_per_second"] == pytest.approx(10.0)


def test_shares_are_of_the_whole_time(clock):
    watch = Goodput(flops_per_example=1, ceiling=1.0)
    for seconds, activity in zip((1.0, 2.0, 3.0, 4.0), ACTIVITIES, strict=True):
        with watch.spending(activity):
            clock.seconds += seconds
    with pytest.raises(KeyError), watch.spending("input"):
        clock.seconds += 5.0
        raise KeyError  # a failure takes time, too
    clock.seconds += 5.0
    expected = {
        "step": 0.25, "input": 0.3, "compilation": 0.1, "evaluation": 0.15, "checkpoint": 0.2,
    }  # fmt: skip
    assert watch.shares() == pytest.approx(expected)
    assert watch.line() == "time: no step was taken"
    watch.lap(1)
    assert watch.line().startswith("time: step 25.0%, input 30.0%, compilation 10.0%, ")


def test_the_ceiling_is_that_of_the_fastest_product(clock, monkeypatch):
    products = [2.0, 1.0, 0.5, 3.0, 1.0]
    ticks = iter(
        [tick for i, seconds in enumerate(products) for tick in (10 * i, 10 * i + seconds)]
    )
    monkeypatch.setattr(clock, "process_time", lambda: next(ticks), raising=False)
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")  # a product of 1,024 rows
    monkeypatch.setattr(goodput, "num_cores", lambda: 3)
    assert measured_ceiling(jnp.float32) == pytest.approx(3 * 2 * 1024**3 / 0.5)
