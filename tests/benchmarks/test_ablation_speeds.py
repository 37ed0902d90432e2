import numpy as np
import pytest

from benchmarks import ablation_speeds
from benchmarks.step_times import in_turns
from configs.scaling import complete_journey
from kunlun_jax.scaling.study import study_config


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
    assert ablation_speeds.gains(times) == {"wall": [1.0] * 3, "processor": [1.0] * 3}


def test_a_gain_is_the_median_of_the_rounds_and_their_middle_half():
    times = np.ones((5, 2, 2))
    times[:, 0, 1] = [0.5, 0.8, 1.0, 1.2, 9.0]
    gain = ablation_speeds.gains(times)
    assert gain["processor"] == pytest.approx([-0.2, 0.0, 0.2])
    assert gain["wall"] == [0.0] * 3


def test_a_cell_is_the_median_and_the_middle_half_of_processor_time():
    gain = {"wall": [0.0, 0.0, 0.0], "processor": [-0.352, -0.3, 0.01]}
    cells = ablation_speeds.speeds({"ablations": {"window": {"gain": gain}}})
    assert cells == {"window": "-30.0% [-35.2%, +1.0%]"}


def test_every_ablation_meets_the_largest_subject_of_its_seed():
    study = study_config(complete_journey.get_config().to_dict())
    runs = ablation_speeds.largest_runs(study)
    assert runs["kunlun"].config.model.dim == 24
    for ablation in study.ablations:
        run = runs[ablation.name]
        assert (run.seed, run.config.model.dim) == (0, 24)
        assert run.config.model != runs["kunlun"].config.model
