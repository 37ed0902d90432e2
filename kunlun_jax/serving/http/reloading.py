"""Watches the checkpoints of a run, and hands a newer best one to the scorer."""

import os
import pathlib
import threading
from collections.abc import Callable

from kunlun_jax.serving.http.metrics import Metrics
from kunlun_jax.serving.http.scorer import Scorer
from kunlun_jax.serving.trained import Trained, open_newer


class Watcher:
    """Looks every few seconds, in a thread of its own, where checkpoints are read and verified.

    One that is damaged or of another run is reported in one line, once, and the one in use stays.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        trained: Trained,
        scorer: Scorer,
        metrics: Metrics,
        report: Callable[[str], None],
    ) -> None:
        """Look at nothing yet.

        Args:
            workdir: Of the run.
            trained: The checkpoint in use.
            scorer: Takes a newer one.
            metrics: Counts them.
            report: Takes a line.
        """
        self._workdir, self._trained, self._scorer = workdir, trained, scorer
        self._checkpoints = workdir / "checkpoints"
        self._metrics, self._report = metrics, report
        self._seen: dict[str, tuple[int, int]] | None = None
        self._reported: set[str] = set()
        self._stop = threading.Event()
        metrics.step.set(trained.step)

    def start(self, seconds: float) -> None:
        """Look every so many seconds, until `close`."""

        def run() -> None:
            while not self._stop.wait(seconds):
                self.look()

        threading.Thread(target=run, name="watcher", daemon=True).start()

    def close(self) -> None:
        """Look no more."""
        self._stop.set()

    def look(self) -> None:
        """Take the best checkpoint if it is another one; read nothing if there is none new."""
        try:
            # A checkpoint gets its name when it is complete.
            found = {entry.name: entry.stat() for entry in os.scandir(self._checkpoints)}
            seen = {name: (stat.st_ino, stat.st_ctime_ns) for name, stat in found.items()}
            if seen == self._seen:
                return
            self._seen = seen
            newer = open_newer(self._workdir, self._trained, self._refuse)
            if newer is None:
                return
            self._scorer.renew(newer).result()
        except Exception as error:
            if isinstance(error, OSError):
                self._seen = None  # nothing is known about it: it is tried again
            self._refuse(str(error))
            return
        self._report(f"checkpoint of step {newer.step} in use, after that of {self._trained.step}")
        self._trained = newer
        self._metrics.step.set(newer.step)
        self._metrics.reloads.labels("taken").inc()

    def _refuse(self, message: str) -> None:
        if message not in self._reported:
            self._reported.add(message)
            self._metrics.reloads.labels("refused").inc()
            text = " ".join(message.split())
            self._report(f"warning: {text}; step {self._trained.step} stays in use")
