"""When to stop early: a signal or a deadline, on one process or on several at the same step."""

import collections
import contextlib
import signal
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from kunlun_jax.hosts.processes import several
from kunlun_jax.shapes import Array
from kunlun_jax.sharding import every_device, replicated

_DELAY = 4


class StopSignal(contextlib.AbstractContextManager):
    """Remembers a first SIGTERM or SIGINT, so that the loop can save before it ends.

    A second one has its usual effect at once, and so has any outside of the `with` block.

    Attributes:
        received: Whether one came.
    """

    def __init__(self) -> None:
        self.received = False
        self._previous = {
            signum: signal.signal(signum, self._remember)
            for signum in (signal.SIGTERM, signal.SIGINT)
        }

    def __exit__(self, *details: object) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)

    def _remember(self, signum: int, frame: Any) -> None:
        del frame
        self.received = True
        signal.signal(signum, signal.SIG_DFL)


class Agreement:
    """Lets all processes stop behind the same step, whichever of them has a reason to.

    Every process puts its own wish to its devices behind every step, where a reduction that waits
    in line with the steps makes one of all. The answer is read four steps later: nobody waits for
    it, and the host runs at most four steps ahead of the devices. One process agrees with itself at
    once.
    """

    def __init__(self, mesh: Mesh) -> None:
        """Put both answers on the devices.

        Args:
            mesh: The devices.
        """
        self._pending: collections.deque[Array] = collections.deque()
        if several():
            self._wishes = [
                jax.make_array_from_callback(
                    (mesh.size,), every_device(mesh), lambda _, wish=wish: np.asarray([wish])
                )
                for wish in (False, True)
            ]
            self._any = jax.jit(jnp.any, out_shardings=replicated(mesh))

    def reached(self, wish: bool) -> bool:
        """Return whether all stop now; every process asks behind every step.

        Args:
            wish: Whether this process has a reason to stop.
        """
        if not several():
            return wish
        self._pending.append(self._any(self._wishes[wish]))
        return len(self._pending) > _DELAY and bool(self._pending.popleft())
