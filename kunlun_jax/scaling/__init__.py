"""Scaling studies: runs of many sizes, and the laws that fit them (docs/model.md#scaling-law)."""

from kunlun_jax.scaling.analysis import Findings, Measurements, analyze
from kunlun_jax.scaling.fit import LogLaw, PowerLaw, fit_log_law, fit_power_law
from kunlun_jax.scaling.results import Results, collect
from kunlun_jax.scaling.runs import carry_out
from kunlun_jax.scaling.study import StudyConfig, study_config

__all__ = [
    "Findings",
    "LogLaw",
    "Measurements",
    "PowerLaw",
    "Results",
    "StudyConfig",
    "analyze",
    "carry_out",
    "collect",
    "fit_log_law",
    "fit_power_law",
    "study_config",
]
