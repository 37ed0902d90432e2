"""What a report says of a run, gathered while the run is open: plain data and predictions."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from kunlun_jax.config import ExperimentConfig, experiment_config, to_mapping
from kunlun_jax.configs import base
from kunlun_jax.data import Dataset, Schema
from kunlun_jax.environment import environment
from kunlun_jax.files import publish
from kunlun_jax.metrics.scores import Scores
from kunlun_jax.report.segments import Segmentation, segmentations
from kunlun_jax.training.run import Run
from kunlun_jax.training.summary import Table, cut_histories, model_tables, padding_table
from kunlun_jax.training.workdir import BEST_STEP, METRICS_FILE, WorkdirError

ENVIRONMENT_FILE = "environment.json"
IMPORTANCE_FILE = "why.json"
SPLIT = "test"
_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy")
_ABSENT = "–"


@dataclasses.dataclass(frozen=True)
class Facts:
    """Everything that a report shows of one run.

    Attributes:
        workdir: The working directory.
        settings: The configuration, by dotted name.
        base: Likewise, that of configs/base.py.
        records: Lines of metrics.jsonl; what was no number is NaN.
        schema: Of the data set.
        label_rates: Weighted mean training label of every task.
        identity: What the data set contains (`Dataset.identity`).
        model: Tables of parameters and FLOPs.
        padding: Table of padding by stream.
        warnings: What the start of the run warned of.
        card: Tables of the data set, by caption.
        findings: What the build of the data set found wrong.
        environment: Where the run ended; None: an earlier version, which did not keep it.
        importance: What `kunlun-jax why` has found, if it has.
        scores: Predictions of the test split by the best checkpoint.
        segmentations: Of the test split.
    """

    workdir: str
    settings: Mapping[str, Any]
    base: Mapping[str, Any]
    records: list[dict[str, float]]
    schema: Schema
    label_rates: list[float]
    identity: str
    model: tuple[Table, ...]
    padding: Table
    warnings: list[str]
    card: Mapping[str, Table]
    findings: list[str]
    environment: Mapping[str, Any] | None
    importance: Mapping[str, Any] | None
    scores: Scores
    segmentations: list[Segmentation]

    @property
    def final(self) -> dict[str, float]:
        """The last record: the metrics of the best checkpoint."""
        return self.records[-1]

    def column(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Return steps and values of a metric over the run, without the final report.

        Args:
            key: Such as "val/auc_roc".
        """
        found = [r for r in self.records if key in r and BEST_STEP not in r]
        return np.array([r["step"] for r in found]), np.array([r[key] for r in found])


def gather(run: Run, scores: Scores) -> Facts:
    """Return what a report says of a finished run.

    Args:
        run: The run, with its final record written.
        scores: Predictions of the test split by its best checkpoint.

    Raises:
        OSError: If its record cannot be read.
        WorkdirError: If it has no final record.
    """
    config, data = run.config, run.data
    dataset, max_lens = data.dataset, data.max_lens
    return Facts(
        workdir=str(run.workdir),
        settings=_flat(to_mapping(config)),
        base=_flat(to_mapping(_base())),
        records=_records(run.workdir / METRICS_FILE),
        schema=data.schema,
        label_rates=data.label_rates,
        identity=dataset.identity,
        model=model_tables(config.model, data.schema, run.state_shapes),
        padding=padding_table(dataset, max_lens),
        warnings=cut_histories(dataset, max_lens),
        card=_card(dataset, max_lens),
        findings=list(dataset.manifest.get("findings", [])),
        environment=_read(run.workdir / ENVIRONMENT_FILE),
        importance=_read(run.workdir / IMPORTANCE_FILE, "inputs", "intact", "step", "task"),
        scores=scores,
        segmentations=segmentations(dataset, list(max_lens), SPLIT),
    )


def keep_environment(workdir: pathlib.Path) -> None:
    """Write where a run ends: commit, machine, devices and versions.

    Args:
        workdir: The working directory.

    Raises:
        OSError: If it cannot be written.
    """
    kinds = sorted({device.device_kind for device in jax.devices()})
    content = environment(_LIBRARIES) | {
        "devices": f"{jax.device_count()} x {', '.join(kinds)}",
        "num_processes": jax.process_count(),
    }
    publish(workdir / ENVIRONMENT_FILE, json.dumps(content, indent=1) + "\n")


def _base() -> ExperimentConfig:
    return experiment_config(base.get_config())


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{name}.")
        else:
            found[name] = list(value) if isinstance(value, tuple) else value
    return found


def _records(path: pathlib.Path) -> list[dict[str, float]]:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    if not found or BEST_STEP not in found[-1]:
        raise WorkdirError(f"{path}: expected the metrics of the best checkpoint in the last line")
    return [
        {key: math.nan if value is None else float(value) for key, value in record.items()}
        for record in found
    ]


def _read(path: pathlib.Path, *keys: str) -> dict[str, Any] | None:
    """Return what a file holds, with some keys; None where there is none."""
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise WorkdirError(f"{path}: not JSON: {error}") from error
    if not isinstance(found, dict) or not found.keys() >= set(keys):
        raise WorkdirError(f"{path}: expected a mapping with {list(keys)}, got {found!r:.60}")
    return found


def _card(dataset: Dataset, max_lens: Mapping[str, int]) -> dict[str, Table]:
    """Return tables of a data set, of what is known without reading all of it."""
    schema, manifest = dataset.schema, dataset.manifest
    source = manifest["source"]
    tables = {
        "Data set": Table(
            ("", "value"),
            [
                ("name", schema.name),
                ("source", f"{source['name']}, version {source['version']}"),
                ("content (SHA-256)", dataset.identity),
                ("users", f"{dataset.num_users:,}"),
                ("context features", f"{len(schema.dense) + len(schema.sparse)}"),
            ],
        ),
        "Examples": Table(
            ("split", "examples", "weight", *(f"mean of {task}" for task in schema.labels)),
            [
                (
                    split,
                    f"{manifest['counts']['rows'][split]:,}",
                    f"{dataset.statistics['weights'][split]['weight']:,.10g}",
                    *(_percent(rates[task]) for task in schema.labels),
                )
                for split, rates in dataset.label_rates.items()
            ],
        ),
        "Histories of the training examples": Table(
            ("stream", "events", "offered at most", "the model takes", "half have at most",
             "90% have at most"),
            [_history(dataset, stream.name, max_lens) for stream in schema.streams],
        ),
        "Vocabularies": Table(
            ("vocabulary", "known ids", "hashes"),
            [(v.name, f"{v.num_ids:,}", f"{v.hashes}") for v in schema.vocabularies],
        ),
    }  # fmt: skip
    shares = manifest.get("oov_shares")
    if shares:
        names = [f.name for f in schema.sparse]
        rows = [(name, *(_percent(of.get(name)) for of in shares.values())) for name in names]
        tables["Values out of vocabulary"] = Table(("feature", *shares), rows)
    return tables


def _history(dataset: Dataset, name: str, max_lens: Mapping[str, int]) -> tuple[str, ...]:
    examples = dataset.training_histories(name)
    shares = np.cumsum(examples) / max(int(examples.sum()), 1)
    quantiles = [str(int(np.searchsorted(shares, q - 1e-12))) for q in (0.5, 0.9)]
    taken = f"{max_lens[name]:,}" if name in max_lens else "not read"
    events = f"{dataset.manifest['counts']['events'][name]:,}"
    return name, events, f"{dataset.schema.stream_by_name[name].max_len:,}", taken, *quantiles


def _percent(share: float | None) -> str:
    return _ABSENT if share is None else f"{share:.2%}"
