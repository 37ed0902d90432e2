"""What a study finds: both laws by family, the largest size predicted, the ratio of the etas."""

import dataclasses
from typing import Any

import numpy as np

from kunlun_jax.scaling.bootstrap import Interval, draw_seeds, interval, ratio
from kunlun_jax.scaling.fit import LogLaw, PowerLaw, fit_log_law, fit_power_law
from kunlun_jax.shapes import Float

LAWS = {"log": fit_log_law, "power": fit_power_law}


@dataclasses.dataclass(frozen=True)
class Measurements:
    """What the runs of a study measured on the test split.

    Attributes:
        families: Names of the families.
        flops: Forward FLOPs per example, by family and size, smallest first.
        entropies: NE of every run, first as measured, then on resamples of the users.
    """

    families: tuple[str, ...]
    flops: Float[np.ndarray, "families sizes"]
    entropies: Float[np.ndarray, "draws families sizes seeds"]


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """The largest size, predicted from the smaller ones.

    Attributes:
        parameters: By name, fitted without it.
        predicted: NE by the law fitted without it.
        gap: Predicted minus measured, users and seeds of both drawn together.
        within: Whether the gap's interval holds zero: the law predicts this size.
    """

    parameters: dict[str, Interval]
    predicted: Interval
    gap: Interval
    within: bool


@dataclasses.dataclass(frozen=True)
class FittedLaw:
    """One law of one family.

    Attributes:
        parameters: By name, fitted to all sizes.
        residual: Root mean square of measured minus fitted, of all sizes.
        held_out: How the law does on the largest size when it has not seen it.
    """

    parameters: dict[str, Interval]
    residual: float
    held_out: HeldOut


@dataclasses.dataclass(frozen=True)
class Family:
    """What was found of one family.

    Attributes:
        name: The family.
        flops: Forward FLOPs per example of its sizes.
        ne: NE of every size, the mean over seeds.
        runs: NE of every size and seed.
        laws: The fitted laws, by the keys of `LAWS`.
    """

    name: str
    flops: list[float]
    ne: list[Interval]
    runs: list[list[float]]
    laws: dict[str, FittedLaw]


@dataclasses.dataclass(frozen=True)
class Findings:
    """What a study finds.

    Attributes:
        subject: The family that is compared with the others.
        confidence: Of every interval.
        families: One by one.
        eta_ratios: Eta of the subject over eta of every other family (docs/model.md#scaling-law).
    """

    subject: str
    confidence: float
    families: tuple[Family, ...]
    eta_ratios: dict[str, Interval]

    def to_json(self) -> dict[str, Any]:
        """Return nested plain values."""
        return dataclasses.asdict(self)


def analyze(measured: Measurements, *, subject: str, confidence: float) -> Findings:
    """Fit, predict and compare.

    Args:
        measured: What the runs measured.
        subject: The family that is compared with the others.
        confidence: Of every interval.
    """
    draws = draw_seeds(measured.entropies)
    families = []
    etas: dict[str, np.ndarray] = {}
    for index, name in enumerate(measured.families):
        flops, ne = measured.flops[index], draws[:, index]
        etas[name] = fit_log_law(flops, ne).eta
        families.append(
            Family(
                name=name,
                flops=flops.tolist(),
                ne=[interval(column, confidence) for column in ne.T],
                runs=measured.entropies[0, index].tolist(),
                laws={law: _fit(law, flops, ne, confidence) for law in LAWS},
            )
        )
    ratios = {
        name: interval(ratio(etas[subject], eta), confidence)
        for name, eta in etas.items()
        if name != subject
    }
    return Findings(subject, confidence, tuple(families), ratios)


def _fit(law: str, flops: np.ndarray, ne: np.ndarray, confidence: float) -> FittedLaw:
    whole: LogLaw | PowerLaw = LAWS[law](flops, ne)
    part: LogLaw | PowerLaw = LAWS[law](flops[:-1], ne[:, :-1])
    fitted = np.array([whole.predict(size)[0] for size in flops])
    predicted = part.predict(flops[-1])
    gap = interval(predicted - ne[:, -1], confidence)
    return FittedLaw(
        parameters=_parameters(whole, confidence),
        residual=float(np.sqrt(np.mean((fitted - ne[0]) ** 2))),
        held_out=HeldOut(
            parameters=_parameters(part, confidence),
            predicted=interval(predicted, confidence),
            gap=gap,
            within=gap.contains(0.0),
        ),
    )


def _parameters(law: LogLaw | PowerLaw, confidence: float) -> dict[str, Interval]:
    return {
        field.name: interval(getattr(law, field.name), confidence)
        for field in dataclasses.fields(law)
    }
