r"""The families of complete_journey_cross.py at half, twice and four times its learning rate.

    python -m kunlun_jax.scaling --study=configs/scaling/complete_journey_rates.py \
        --records=benchmarks/results/runs/complete_journey_rates

A comparison at one rate for all may favour the family that the rate suits. Everything else is as
in that study, of which the records at its own rate are: they are the same runs.
"""

from ml_collections import ConfigDict

from kunlun_jax.configs.scaling import complete_journey, complete_journey_cross
from kunlun_jax.scaling.study import RATE

FACTORS = {"": 1.0, "_half_rate": 0.5, "_double_rate": 2.0, "_fourfold_rate": 4.0}


def get_config() -> ConfigDict:
    """Return seven families of one size at four rates, one seed; 131,000 examples a run."""
    config = complete_journey_cross.get_config()
    rate = config.experiment.optimizer.learning_rate
    families = {
        name + suffix: ({**family.sizes[-1], **({RATE: factor * rate} if suffix else {})},)
        for suffix, factor in FACTORS.items()
        for name, family in config.families.items()
    }
    study = complete_journey.study(
        "Complete Journey, with cross features, at other rates", families, config.experiment, {}
    )
    study.seeds = (0,)
    study.subject = "kunlun_double_rate"  # Kunlun's best on validation
    return study
