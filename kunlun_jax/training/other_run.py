"""The weights of another run: opened, compared with what a run needs, and moved into its state."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kunlun_jax.config import to_mapping
from kunlun_jax.data.batch import batch_shapes
from kunlun_jax.data.extension import Metadata, require_extension
from kunlun_jax.files import first_difference
from kunlun_jax.models.registry import create_model
from kunlun_jax.shapes import Array
from kunlun_jax.tables.layout import row_of
from kunlun_jax.training import manifest as manifests
from kunlun_jax.training.checkpoint_reader import CheckpointError, CheckpointReader, model_identity
from kunlun_jax.training.finished_run import read_config
from kunlun_jax.training.run import Run
from kunlun_jax.training.run_data import find_metadata
from kunlun_jax.training.step import TrainState, state_shapes
from kunlun_jax.training.workdir import has_report

_IDS = 2**20  # whose rows are moved at once


@dataclasses.dataclass(frozen=True)
class Source:
    """The run whose weights are taken.

    Attributes:
        directory: Its working directory.
        metadata: Its data set, as the run keeps it.
        shapes: Its state: shapes, and how it lies on the devices of the new run.
        settings: Its configuration of the model.
        reader: Its checkpoints.
        step: Step of the best one.
        checksum: Of that one.
    """

    directory: pathlib.Path
    metadata: Metadata
    shapes: TrainState
    settings: dict[str, Any]
    reader: CheckpointReader
    step: int
    checksum: str


def open_source(directory: pathlib.Path, run: Run) -> Source:
    """Open the run whose weights are taken, and refuse one that does not fit; reads no weights.

    Args:
        directory: Its working directory.
        run: The run that takes them.

    Raises:
        CheckpointError: If it is not finished, damaged, or of another model.
        ConfigError: If its configuration is of another version of this program.
        DatasetError: If its data set is not extended by that of the run.
        WorkdirError: If there is no run.
    """
    config = read_config(directory)
    metadata = Metadata.open(find_metadata(directory, config.data.directory))
    dataset = run.data.dataset
    require_extension(metadata, Metadata(dataset.directory, dataset.manifest, dataset.schema))
    names = config.model.name, run.config.model.name
    if names[0] != names[1]:
        raise CheckpointError(f"{directory}: expected a run of model {names[1]}, got {names[0]}")
    if not has_report(directory):
        raise CheckpointError(
            f"{directory}: expected a finished run, got one without a final report; train.py "
            "continues it"
        )
    identity = model_identity(config, metadata.schema)
    reader = CheckpointReader(directory / "checkpoints", identity=identity)
    step = reader.best_step
    if step is None:
        raise CheckpointError(f"{directory}: expected a checkpoint with a validation NE, got none")
    lengths = {stream.name: stream.max_len for stream in config.model.streams}
    shapes = state_shapes(
        create_model(config, metadata.schema),
        config,
        batch_shapes(metadata.schema, lengths, run.config.data.batch_size),
        run.mesh,
        num_steps=run.num_steps,
    )
    settings = to_mapping(config)["model"]
    return Source(directory, metadata, shapes, settings, reader, step, reader.checksum(step))


def take(
    source: Source,
    run: Run,
    fresh: TrainState,
    *,
    keep_optimizer: bool,
    keep_tables: bool = True,
) -> tuple[TrainState, list[str]]:
    """Return a fresh state with the weights of another run in it, and notes of what was taken.

    Args:
        source: The other run.
        run: The run.
        fresh: Its fresh state; its memory is reused.
        keep_optimizer: Whether the optimizers' state is taken too. The learning rate's schedule
            begins anew in any case.
        keep_tables: Whether embedding tables are taken, and their sums if `keep_optimizer`.

    Raises:
        CheckpointError: If arrays that go by one name differ in shape or type; names the first.
        DamagedCheckpointError: If the checkpoint is not what was saved.
    """
    fields = ["params", *(["opt_state"] if keep_optimizer else [])]
    by_table = ["tables", *(["accumulators"] if keep_optimizer else [])] if keep_tables else []
    fields += by_table
    _require_fitting(source, fresh, fields)
    saved = source.reader.restore_part(source.step, {f: getattr(source.shapes, f) for f in fields})
    params, notes = _merged(saved["params"], fresh.params, "parameters")
    rows = {v.name: v.num_rows for v in run.data.schema.vocabularies}
    known = {v.name: v.num_rows for v in source.metadata.schema.vocabularies}
    arrays = {field: dict(getattr(fresh, field)) for field in by_table}
    for name, count in known.items() if keep_tables else ():
        for field, of_all in arrays.items():
            of_all[name] = grown(saved[field][name], of_all[name], known=count, rows=rows[name])
        new = rows[name] - count
        more = f"grown to {rows[name]:,}, the new ones as in a fresh run" if new else "as it was"
        notes.append(f"table {name}: {count:,} rows taken, {more}")
    if not keep_tables:
        notes.append("tables: fresh; no rows were taken")
    opt_state = fresh.opt_state
    if keep_optimizer:
        opt_state, _ = _merged(saved["opt_state"], opt_state, "")
        opt_state = _begun_again(opt_state, fresh.opt_state)
        notes.append("optimizer: moments and sums taken; the schedule begins anew")
    else:
        notes.append("optimizer: fresh; moments and sums were not taken")
    notes += _other_settings(source, run)
    return fresh.replace(  # type: ignore[attr-defined]
        params=params, opt_state=opt_state, **arrays
    ), notes


def _require_fitting(source: Source, fresh: TrainState, fields: list[str]) -> None:
    """Refuse arrays of one name and different shapes; tables may have more rows."""
    for field in fields:
        old, new = (manifests.layout({field: getattr(s, field)}) for s in (source.shapes, fresh))
        if field in ("tables", "accumulators"):
            old, new = ({n: _without_rows(t) for n, t in x.items()} for x in (old, new))
        shared = [name for name in old if name in new]
        if field == "opt_state" and not shared:
            raise CheckpointError(f"{source.directory}: expected the same optimizer, got another")
        for name in shared:
            if old[name] != new[name]:
                raise CheckpointError(
                    f"{source.directory}: {name}: expected {new[name]}, got {old[name]}"
                )


def _without_rows(kind: str) -> str:
    dtype, _, shape = kind.partition("[")
    return f"{dtype}[rows{shape[shape.find(',') :] if ',' in shape else ']'}"


def _merged(saved: Any, fresh: Any, what: str) -> tuple[Any, list[str]]:
    """Return a tree with the leaves of another wherever it has one of that name, and notes."""
    name = functools.partial(jax.tree_util.keystr, simple=True, separator="/")
    found = {name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(saved)}
    names = [name(path) for path, _ in jax.tree_util.tree_leaves_with_path(fresh)]
    merged = jax.tree_util.tree_map_with_path(lambda p, leaf: found.get(name(p), leaf), fresh)
    new = [name for name in names if name not in found]
    left = [name for name in found if name not in names]
    sizes = sum(found[name].size for name in names if name in found)
    notes = [f"{what}: {len(names) - len(new)} arrays of {sizes:,} numbers taken"]
    notes += [f"{what}: {name}: begins fresh, the run has none" for name in new]
    notes += [f"{what}: {name}: not taken, there is no place for it" for name in left]
    return merged, notes


def grown(old: Array, fresh: Array, *, known: int, rows: int) -> Array:
    """Return a fresh table, or its sums, with the rows of known ids taken from another one.

    Args:
        old: [stored rows, W], or [stored rows]; the other one.
        fresh: The fresh one; its memory is reused.
        known: Rows of the vocabulary that the other one has, the OOV row included.
        rows: Rows of the new vocabulary.
    """
    if known == rows:
        return old
    move = jax.jit(
        _move, static_argnames=("known", "rows"), donate_argnums=1, out_shardings=fresh.sharding
    )
    for first in range(0, known, _IDS):
        fresh = move(old, fresh, first, known=known, rows=rows)
    return fresh


def _move(old: Array, fresh: Array, first: Array, *, known: int, rows: int) -> Array:
    # What is past the last known id moves the OOV row once more, which is known too.
    ids = first + jnp.arange(min(_IDS, known), dtype=jnp.int32)
    ids = jnp.where(ids < known, ids, 0)
    taken = old.at[row_of(ids, known)].get(mode="promise_in_bounds")
    return fresh.at[row_of(ids, rows)].set(taken, mode="promise_in_bounds")


def _begun_again(opt_state: Any, fresh: Any) -> Any:
    """Return the optimizer's state with a fresh count of its schedule, but of nothing else."""

    def begins(x: Any) -> bool:
        return isinstance(x, optax.ScaleByScheduleState)

    return jax.tree.map(lambda x, new: new if begins(x) else x, opt_state, fresh, is_leaf=begins)


def _other_settings(source: Source, run: Run) -> list[str]:
    """Say what makes the model another function than it was, whatever its weights."""
    notes = []
    found = first_difference(
        json.loads(json.dumps(source.settings)),
        json.loads(json.dumps(to_mapping(run.config)["model"])),
        "config.model",
    )
    if found:
        notes.append("{}: was {!r}, is {!r}: the model is another function".format(*found))
    difference = first_difference(
        _statistics(source.metadata.schema.to_json()), _statistics(run.data.schema.to_json())
    )
    if difference:
        notes.append("statistics of numbers: refreshed, so inputs are not quite as they were")
    return notes


def _statistics(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "context": schema["dense"],
        **{stream["name"]: stream["dense"] for stream in schema["streams"]},
    }
