"""The files of checkpoints: one step at a time, compared with its checksums."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import orbax.checkpoint as ocp

from kunlun_jax.hosts.processes import several, together
from kunlun_jax.training import manifest as manifests
from kunlun_jax.training.manifest import ManifestError


class CheckpointError(ValueError):
    """A checkpoint that does not fit the run that wants it, or cannot be read or written."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint that is not what was saved: incomplete, unreadable, or of other bits."""


class CheckpointFiles:
    """Reads the checkpoints of one run, whatever they are of.

    Attributes:
        directory: Where they lie.
    """

    def __init__(
        self, directory: pathlib.Path, options: ocp.CheckpointManagerOptions | None = None
    ) -> None:
        """Open the directory.

        Args:
            directory: Where they lie.
            options: Of what also writes; by default nothing is written, neither what is missing
                nor over what is half done.

        Raises:
            OSError: If the directory cannot be read.
        """
        self.directory = directory.absolute()
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=options or ocp.CheckpointManagerOptions(read_only=True),
        )
        self._reader = self._open_reader()

    def _open_reader(self) -> ocp.CheckpointManager:
        """Return what restores: of several processes, each has its own, which waits for no other.

        One that finds damage would leave the others waiting for it.
        """
        if not several():
            return self._manager
        this = jax.process_index()
        return ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                read_only=True,
                multiprocessing_options=ocp.options.MultiprocessingOptions(
                    primary_host=this, active_processes={this}
                ),
            ),
        )

    def _manifest(self, step: int) -> dict[str, Any]:
        with self._damage(step):
            found = self._reader.restore(
                step,
                args=ocp.args.Composite(manifest=ocp.args.JsonRestore()),  # type: ignore[call-arg]
            )["manifest"]
            return manifests.verify_manifest(found)

    def _verified(self, step: int, args: Any, manifest: dict[str, Any]) -> Any:
        """Return what is read of a step's state, once every leaf has its checksum."""
        with self._damage(step):
            restored = self._reader.restore(step, args=ocp.args.Composite(state=args))["state"]
        with self._damage(step):
            manifests.verify_leaves(restored, manifest)
        return restored

    @contextlib.contextmanager
    def _damage(self, step: int) -> Iterator[None]:
        """Turn what the storage library makes of damaged files, errors of any type, into one.

        What is damage to one process is to all of them.
        """
        try:
            with together():
                yield
        except (FileNotFoundError, NotADirectoryError, ManifestError) as error:
            raise self._damaged(step, error) from error
        except OSError:
            raise  # no access or no device: nothing is known about the checkpoint
        except Exception as error:
            raise self._damaged(step, error) from error

    def _damaged(self, step: int, error: Exception) -> DamagedCheckpointError:
        return DamagedCheckpointError(f"{self.directory / str(step)}: {short_message(error)}")

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Name the directory in the storage library's errors, which come as many types."""
        try:
            yield
        except CheckpointError:
            raise
        except (KeyError, OSError, RuntimeError, ValueError) as error:
            raise CheckpointError(f"{self.directory}: {what}: {short_message(error)}") from error


def short_message(error: Exception) -> str:
    """Return the message of an error; of a KeyError the key alone would say little."""
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    text = " ".join(str(message).split()) or type(error).__name__
    # Long ones repeat paths in the middle; the system's own word comes last.
    return text if len(text) <= 300 else f"{text[:150]} ... {text[-145:]}"
