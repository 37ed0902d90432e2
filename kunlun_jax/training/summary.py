"""Tables for people: what a model is made of, and what a run reached."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from kunlun_jax.config import ModelConfig
from kunlun_jax.data.dataset import Dataset
from kunlun_jax.data.reading.pipeline import BatchSource
from kunlun_jax.data.schema import Schema
from kunlun_jax.flops import flops_by_module, flops_by_stream, is_layer
from kunlun_jax.metrics.tasks import by_task, headline
from kunlun_jax.training.step import TrainState
from pallas_kernels.implementation import best_implementation

MOST_EVENTS_CUT = 0.1
REPORTED = ("normalized_entropy", "auc_roc", "gauc", "log_loss", "calibration", "ece")


class Table(NamedTuple):
    """A table, before it is laid out.

    Attributes:
        header: Names of the columns.
        rows: Cells, of which the first one names the row.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]


def format_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return rows as aligned text, the first column to the left and the others to the right."""
    cells = [[str(c) for c in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]

    def line(row: list[str]) -> str:
        rest = [c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)]
        return "  ".join([row[0].ljust(widths[0]), *rest])

    return "\n".join([line(cells[0]), "  ".join("-" * w for w in widths), *map(line, cells[1:])])


def kernels_line(model: ModelConfig) -> str:
    """Say which implementation of the attention operations runs, and why.

    Args:
        model: The model.
    """
    if model.kernels != "auto":
        return f"attention kernels: {model.kernels} (config.model.kernels)"
    name, reason = best_implementation()
    return f"attention kernels: {name} ({reason})"


def model_summary(model: ModelConfig, schema: Schema, state: TrainState) -> str:
    """Return parameters and forward FLOPs by module and by event stream, as text.

    Arguments are those of `model_tables`.
    """
    return "\n\n".join(format_table(*table) for table in model_tables(model, schema, state))


def model_tables(model: ModelConfig, schema: Schema, state: TrainState) -> tuple[Table, ...]:
    """Return parameters and forward FLOPs: by module, of the tables, and by event stream.

    Args:
        model: The model.
        schema: The data set's schema.
        state: A state, for the parameter counts.
    """
    parameters = {path: _count(_subtree(state.params, path)) for path in _modules(state.params)}
    flops = flops_by_module(model, schema)
    total = sum(flops.values())
    rows = [
        (path, f"{parameters.get(path, 0):,}", f"{flops[path]:,}", f"{flops[path] / total:.1%}")
        for path in flops
    ]
    rows.append(("all dense modules", f"{_count(state.params):,}", f"{total:,}", "100.0%"))
    tables = [
        (f"table {name}", f"{table.shape[0]:,}", f"{table.shape[1]}", f"{table.size:,}")
        for name, table in state.tables.items()
    ]
    tables.append(("all tables", "", "", f"{_count(state.tables):,}"))
    by_stream = flops_by_stream(model, schema)
    settings = ("max_len", "model_dim", "num_heads", "n_kv", "window", "n_tokens", "num_layers")
    if model.name != "kunlun":  # the streams of a peer differ in nothing else
        settings = ("max_len",)
    streams = [
        (
            stream.name,
            *(getattr(stream, name) for name in settings),
            f"{by_stream[stream.name]:,}",
            f"{by_stream[stream.name] / total:.1%}",
        )
        for stream in model.streams
    ]
    return (
        Table(("module", "parameters", "FLOPs/example", "share"), rows),
        Table(("embedding", "rows", "width", "parameters"), tables),
        Table(("stream", *settings, "FLOPs/example", "share"), streams),
    )


def data_summary(dataset: Dataset, max_lens: Mapping[str, int], batches: BatchSource) -> str:
    """Return `padding_table` as text, and what else of the data deserves a line.

    Args:
        dataset: The data set.
        max_lens: Most recent events that the model takes, by stream.
        batches: Those of training.
    """
    lines = [*filled_parts(dataset, batches), *cut_histories(dataset, max_lens)]
    return "\n\n".join([format_table(*padding_table(dataset, max_lens)), *lines])


def padding_table(dataset: Dataset, max_lens: Mapping[str, int]) -> Table:
    """Return what share of a training batch's events is padding, by stream.

    Args:
        dataset: The data set.
        max_lens: Most recent events that the model takes, by stream.
    """
    rows = []
    for name, max_len in max_lens.items():
        examples = dataset.training_histories(name)
        taken = int(examples @ np.minimum(np.arange(len(examples)), max_len))
        total = max(int(examples.sum()) * max_len, 1)
        empty = examples[0] / max(examples.sum(), 1)
        rows.append((name, max_len, f"{1 - taken / total:.1%}", f"{empty:.1%}"))
    return Table(("stream", "events", "padding", "empty histories"), rows)


def filled_parts(dataset: Dataset, batches: BatchSource) -> list[str]:
    """Return what the parts of a data set hold, if they are several, as a line.

    Args:
        dataset: The data set.
        batches: Those of training.
    """
    if dataset.num_parts == 1:
        return []
    counts = dataset.examples_by_part("train")
    filled = 1.0 - batches.num_examples / batches.epoch_size
    return [
        f"{dataset.num_parts} parts of {min(counts):,} to {max(counts):,} training examples: "
        f"{filled:.1%} of the places of a batch stay empty"
    ]


def cut_histories(dataset: Dataset, max_lens: Mapping[str, int]) -> list[str]:
    """Return a warning for every stream of which a model leaves out many events.

    Args:
        dataset: The data set.
        max_lens: Most recent events that the model takes, by stream.
    """
    lines = []
    for stream in dataset.schema.streams:
        if stream.name not in max_lens:
            continue
        examples = dataset.training_histories(stream.name)
        lengths = np.arange(len(examples))
        offered = int(examples @ lengths)
        taken = int(examples @ np.minimum(lengths, max_lens[stream.name]))
        lost = 1.0 - taken / max(offered, 1)
        if lost > MOST_EVENTS_CUT:
            lines.append(
                f"warning: stream {stream.name}: max_len {max_lens[stream.name]} leaves out "
                f"{lost:.0%} of the events that training is offered; "
                f"--config.model.streams.{stream.name}.max_len={stream.max_len} takes all"
            )
    return lines


def result_summary(
    step: int,
    metrics: Mapping[str, Mapping[str, float]],
    *,
    tasks: Sequence[str] = ("",),
    task_weights: Sequence[float] | None = None,
) -> str:
    """Return the metrics of a checkpoint: one row a split, or one for every task of a split.

    Args:
        step: Step of the checkpoint.
        metrics: Metrics by split.
        tasks: Names of the tasks, where there are several.
        task_weights: Of the tasks, in the mean that made this checkpoint the best; None: all the
            same.
    """
    best = f"best checkpoint: step {step}"
    by_split = {split: by_task(values, tasks) for split, values in metrics.items()}
    first = by_split[next(iter(metrics))][tasks[0]]
    keys = [key for key in first if key in REPORTED]
    if len(tasks) == 1:
        rows = [(s, *_cells(values[tasks[0]], keys)) for s, values in by_split.items()]
        return f"{best}\n\n{format_table(('split', *keys), rows)}"
    best += f", of the lowest {headline(tasks, task_weights)}, on the validation split"
    rows = []
    for split, values in by_split.items():
        rows += [(f"{split}, {task}", *_cells(values[task], keys)) for task in tasks]
        rows.append((f"{split}, mean", *_cells(metrics[split], keys)))
    return f"{best}\n\n{format_table(('split, task', *keys), rows)}"


def _cells(values: Mapping[str, float], keys: Sequence[str]) -> list[str]:
    return [f"{values[key]:.5f}" if key in values else "" for key in keys]


def _modules(params: Mapping[str, Any]) -> list[str]:
    paths = []
    for name, child in params.items():
        nested = [f"{name}/{key}" for key in child] if is_layer(name) else [name]
        paths.extend(nested)
    return paths


def _subtree(params: Mapping[str, Any], path: str) -> Any:
    node: Any = params
    for key in path.split("/"):
        node = node[key]
    return node


def _count(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
