"""The trained model, evaluated with parts of its histories taken away."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from kunlun_jax.audit.perturbations import Perturbation, perturbations
from kunlun_jax.data import Batch
from kunlun_jax.metrics.comparison import METRICS, Measurement, difference, measure
from kunlun_jax.metrics.user_bootstrap import UserBootstrap
from kunlun_jax.training.results import predict
from kunlun_jax.training.run import Run
from kunlun_jax.training.step import TrainState

INTACT = "intact"


@dataclasses.dataclass(frozen=True)
class AuditOptions:
    """How a model is audited.

    Attributes:
        task: Column of the labels.
        max_examples: Of the test split, drawn by the run's data seed; 0: all.
        num_resamples: Resamples of the users.
        seed: Seed of the perturbations and of the resamples.
    """

    task: int
    max_examples: int
    num_resamples: int
    seed: int


def audit_model(
    run: Run,
    state: TrainState,
    options: AuditOptions,
    *,
    changes: Mapping[str, Perturbation] | None = None,
    report: Callable[[dict[str, Any]], None] = lambda row: None,
) -> list[dict[str, Any]]:
    """Evaluate a model on the test split, intact and perturbed in every way.

    Args:
        run: The run.
        state: Its parameters and tables.
        options: How.
        changes: What is done to the batches, by name; None: `perturbations` of the model's streams.
        report: Called with every row as soon as there is one.

    Returns:
        The intact model's row first, with the numbers of examples and users; then, by perturbation,
        the metrics and their differences to the intact model with intervals.

    Raises:
        ComparisonError: If a prediction is not finite, or the examples do not suffice.
    """
    if changes is None:
        changes = perturbations([stream.name for stream in run.config.model.streams])
    rate = run.data.label_rates[options.task]
    bootstrap: UserBootstrap | None = None
    intact: Measurement | None = None
    rows = []
    for number, (name, perturb) in enumerate([(INTACT, None), *changes.items()]):

        def change(batch: Batch, index: int, perturb=perturb, number=number) -> Batch:
            return perturb(batch, (options.seed, number, index)) if perturb else batch

        scores = predict(run, state, "test", perturb=change, max_examples=options.max_examples)
        if bootstrap is None:
            bootstrap = UserBootstrap(
                scores.user_ids, num_resamples=options.num_resamples, seed=options.seed
            )
        measured = measure(scores, bootstrap, label_rate=rate, task=options.task)
        row: dict[str, Any] = {"name": name, **{m: getattr(measured, m) for m in METRICS}}
        if intact is None:
            intact = measured
            row |= {"num_examples": len(scores), "num_users": bootstrap.num_users}
        else:
            found = difference(intact, measured)
            row["difference"] = {m: dataclasses.asdict(x) for m, x in found.items()}
        rows.append(row)
        report(row)
    return rows
