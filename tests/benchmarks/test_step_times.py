import numpy as np
import pytest

from benchmarks.step_times import gains, in_turns


class Metronome:
    """Stands for a contestant; the machine is slower in every round than in the one before."""

    def __init__(self, seconds):
        self.seconds, self.steps = seconds, []

    def seconds_per_step(self, num_steps):
        self.steps.append(num_steps)
        elapsed = self.seconds * len(self.steps)
        return elapsed, 2 * elapsed


def test_a_slow_machine_cancels_and_what_compiles_is_not_counted():
    subject, other = Metronome(1.0), Metronome(0.5)
    times = in_turns([subject, other], rounds=5, steps=3)
    assert subject.steps == other.steps == [1, 3, 3, 3, 3, 3]
    np.testing.assert_allclose(times[:, 0], [[n, 2 * n] for n in range(2, 7)])
    assert gains(times) == {"wall": [1.0] * 3, "processor": [1.0] * 3}


def test_a_gain_is_the_median_of_the_rounds_and_their_middle_half():
    times = np.ones((5, 2, 2))
    times[:, 0, 1] = [0.5, 0.8, 1.0, 1.2, 9.0]
    gain = gains(times)
    assert gain["processor"] == pytest.approx([-0.2, 0.0, 0.2])
    assert gain["wall"] == [0.0] * 3
