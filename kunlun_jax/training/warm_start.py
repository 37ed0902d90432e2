"""A run that begins with the weights of another: of the same data set, or of one that it extends.

    python train.py --config=... --workdir=runs/tuesday --init_from=runs/monday

Dense parameters and rows of known ids come from the best checkpoint of the other run; rows of new
ids, and whatever else is new, begin as they would in a fresh run. Tables may begin afresh as a
whole: embeddings of rare ids remember the examples of a first pass, so that a second one overfits
unless they are learned again (MEDA, arXiv:2305.19531). `init.json` in the working directory says
what was taken.
"""

import dataclasses
import json
import pathlib
from typing import Any

from kunlun_jax.data.manifest import identity_of
from kunlun_jax.files import publish
from kunlun_jax.hosts.processes import is_first, together
from kunlun_jax.training.other_run import open_source, take
from kunlun_jax.training.run import Run, fresh_state
from kunlun_jax.training.step import TrainState
from kunlun_jax.training.workdir import WorkdirError, has_record, read_note

INIT_FILE = "init.json"
OPTIMIZERS = ("fresh", "keep")
TABLES = ("keep", "fresh")


@dataclasses.dataclass(frozen=True)
class WarmStart:
    """How the state of a run begins.

    Attributes:
        run: Directory of the run whose weights it takes; None: none.
        optimizer: "fresh", or "keep": Adagrad's sums and AdamW's moments are taken too.
        tables: "keep", or "fresh": embedding tables and their sums begin as in a fresh run.
        checksum: That of the checkpoint that a start which has recorded something began from.
    """

    run: pathlib.Path | None
    optimizer: str
    tables: str = "keep"
    checksum: str = ""

    @classmethod
    def of(
        cls, workdir: pathlib.Path, run: str | None, optimizer: str, tables: str = "keep"
    ) -> "WarmStart":
        """Return what the flags say, or what an earlier start of the run has recorded.

        Args:
            workdir: The working directory.
            run: The other run's; None: whatever was recorded.
            optimizer: As of the attribute.
            tables: Likewise.

        Raises:
            WorkdirError: If the run of the directory began in another way.
        """
        given = None if run is None else pathlib.Path(run).absolute()
        recorded = _recorded(workdir) if has_record(workdir) else None
        if recorded is None:
            if given is not None and has_record(workdir):
                raise WorkdirError(
                    f"{workdir}: holds a run that began without --init_from; choose another "
                    "--workdir"
                )
            return cls(given, optimizer, tables)
        # Earlier versions took tables always, and did not say so.
        began = recorded["run"], recorded["optimizer"], recorded.get("tables", "keep")
        if given is not None and began != (str(given), optimizer, tables):
            flags = "--init_from={} --init_optimizer={} --init_tables={}"
            raise WorkdirError(
                f"{workdir}: holds a run that began with {flags.format(*began)}, "
                f"got {given} {optimizer} {tables}; choose another --workdir"
            )
        return cls(pathlib.Path(began[0]), *began[1:], recorded["checksum"])

    def state(self, run: Run) -> TrainState:
        """Return the initial state of a run.

        Args:
            run: The run, without a checkpoint.

        Raises:
            CheckpointError: If the other run is not finished, is damaged or of other shapes.
            ConfigError: If its configuration is of another version.
            DatasetError: If the run's data set is neither its data set nor an extension of it.
            WorkdirError: If there is no other run.
        """
        state = fresh_state(run)
        if self.run is None:
            with together():
                if is_first():
                    (run.workdir / INIT_FILE).unlink(missing_ok=True)
            return state
        source = open_source(self.run, run)
        if self.checksum not in ("", source.checksum):
            raise WorkdirError(
                f"{run.workdir}: began from another checkpoint of {self.run} than its best one now"
            )
        state, notes = take(
            source,
            run,
            state,
            keep_optimizer=self.optimizer == "keep",
            keep_tables=self.tables == "keep",
        )
        record = {
            "run": str(self.run),
            "optimizer": self.optimizer,
            "tables": self.tables,
            "step": source.step,
            "checksum": source.checksum,
            "dataset": identity_of(source.metadata.manifest),
            "notes": notes,
        }
        with together():
            if is_first():
                publish(run.workdir / INIT_FILE, json.dumps(record, indent=1) + "\n")
        return state


def described(workdir: pathlib.Path) -> str:
    """Return what a run took of another one, as text; empty if it began afresh.

    Args:
        workdir: The working directory.

    Raises:
        WorkdirError: If `init.json` is damaged.
    """
    recorded = _recorded(workdir)
    if recorded is None:
        return ""
    first = f"began with step {recorded['step']} of {recorded['run']}"
    return "\n".join([first, *(f"  {note}" for note in recorded["notes"])])


def _recorded(workdir: pathlib.Path) -> dict[str, Any] | None:
    return read_note(
        workdir / INIT_FILE, {"run", "optimizer", "step", "checksum", "dataset", "notes"}
    )
