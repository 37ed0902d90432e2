import json

import numpy as np
import pytest

from kunlun_jax.scaling.analysis import analyze
from tests.scaling.planted import measurements

BAYES = 0.72


def line(eta):
    return lambda flops: 0.85 - eta * np.log(flops / 1e6)


def power(a, b, c):
    return lambda flops: a + b * (flops / 1e6) ** -c


def findings(laws, subject="kunlun", **options):
    return analyze(measurements(laws, **options), subject=subject, confidence=0.95)


@pytest.fixture(scope="module")
def found():
    # A seed of the many whose interval holds the truth; how many do, the test of coverage says.
    laws = {"kunlun": line(0.02), "din": line(0.01), "flat": line(0.0)}
    return findings(laws, num_users=2000, seed=1)


class TestPlantedLine:
    def test_eta_is_within_its_narrow_interval(self, found):
        for family, eta in zip(found.families, (0.02, 0.01, 0.0), strict=True):
            interval = family.laws["log"].parameters["eta"]
            assert interval.contains(eta), family.name
            assert interval.high - interval.low < 0.005

    def test_the_largest_size_is_predicted(self, found):
        for family in found.families[:2]:
            held_out = family.laws["log"].held_out
            assert held_out.within
            # What all runs share is in the prediction, but not in the gap.
            width = held_out.predicted.high - held_out.predicted.low
            assert held_out.gap.high - held_out.gap.low < width

    def test_scaling_efficiency(self, found):
        ratio = found.eta_ratios["din"]
        assert ratio.contains(2.0)
        assert not ratio.contains(1.0)
        assert found.eta_ratios["flat"].high is None
        assert "kunlun" not in found.eta_ratios


class TestPlantedPowerLaw:
    def test_the_planted_bayes_ne_and_exponent_are_within_their_intervals(self):
        wide = (1e5, 1e6, 1e7, 1e8, 1e9)
        laws = {"kunlun": power(BAYES, 0.1, 0.5)}
        found = findings(laws, flops=wide, num_users=2000, seed=1)  # as above
        fitted = found.families[0].laws["power"]
        for name, planted in {"a": BAYES, "b": 0.1, "c": 0.5}.items():
            assert fitted.parameters[name].contains(planted), (name, fitted.parameters[name])
        assert fitted.parameters["a"].high - fitted.parameters["a"].low < 0.03
        assert fitted.held_out.within
        assert fitted.residual < 0.003
        # The line is not the law, and the study says so.
        assert not found.families[0].laws["log"].held_out.within

    def test_a_law_that_breaks_is_not_predicted(self):
        def broken(flops):
            return np.where(flops < 10e6, line(0.02)(flops), 0.9)

        held_out = findings({"kunlun": broken}).families[0].laws
        assert not held_out["log"].held_out.within
        assert not held_out["power"].held_out.within


def test_the_held_out_size_is_not_in_the_fit_that_predicts_it():
    measured = measurements({"kunlun": line(0.02)})
    measured.entropies[:, :, -1] *= 1.5
    options = {"subject": "kunlun", "confidence": 0.95}
    changed = analyze(measured, **options).families[0].laws["log"].held_out
    before = analyze(measurements({"kunlun": line(0.02)}), **options).families[0].laws["log"]
    assert changed.predicted.estimate == before.held_out.predicted.estimate
    assert changed.gap.estimate < before.held_out.gap.estimate - 0.3


def test_findings_are_json(found):
    text = json.dumps(found.to_json(), allow_nan=False)
    assert json.loads(text)["families"][0]["laws"]["log"]["held_out"]["within"] is True
