"""Where the time of a run goes, and how much of what the devices can do its model uses.

**Goodput** is the share of a run's time by the clock that goes into steps; the rest waits for
input, compiles, evaluates, or saves. **MFU**, model FLOPs utilisation, is what the model computes a
second (three times its forward pass, whatever is computed again) over the ceiling: what the same
devices reach on one large matrix product, measured when the run begins. On a CPU the product's time
is that of the processor, whatever else the machine does meanwhile.
"""

import contextlib
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from pallas_kernels.chunks import num_cores

ACTIVITIES = ("input", "compilation", "evaluation", "checkpoint")
_BACKWARD_AND_FORWARD = 3
_TIMES = 5
_PRODUCT = {"cpu": 1024}  # rows of the product by platform; about 10 ms on two cores
_LARGE_PRODUCT = 8192


def measured_ceiling(dtype: DTypeLike) -> float:
    """Return the floating-point operations a second that all devices reach on large products.

    Args:
        dtype: Of the products' inputs: the model's compute type.
    """
    platform = jax.default_backend()
    size = _PRODUCT.get(platform, _LARGE_PRODUCT)
    device = jax.local_devices()[0]
    # A mesh of this device alone: a run's own may span processes, and one product does not.
    alone = Mesh(np.array([device]), ("alone",))
    with jax.set_mesh(alone):
        matrix = jax.device_put(
            np.ones((size, size), jnp.dtype(dtype)), NamedSharding(alone, PartitionSpec())
        )
        product = jax.jit(jnp.matmul)
        jax.block_until_ready(product(matrix, matrix))
        clock = time.process_time if platform == "cpu" else time.perf_counter
        seconds = []
        for _ in range(_TIMES):
            start = clock()
            jax.block_until_ready(product(matrix, matrix))
            seconds.append(clock() - start)
    # The CPU devices of a process share its cores.
    devices = jax.process_count() * num_cores() if platform == "cpu" else jax.device_count()
    return devices * 2 * size**3 / max(min(seconds), 1e-9)


class Goodput:
    """Watches a training loop: rates since the last lap, shares of the time since it was made."""

    def __init__(self, *, flops_per_example: int, ceiling: float) -> None:
        """Start the clocks.

        Args:
            flops_per_example: Operations of a forward pass.
            ceiling: Operations a second of all devices.
        """
        self._flops, self._ceiling = _BACKWARD_AND_FORWARD * flops_per_example, ceiling
        self._start = time.monotonic()
        self._examples = 0
        self._spent: dict[str, float] = dict.fromkeys(ACTIVITIES, 0.0)
        self.begin_lap()

    @contextlib.contextmanager
    def spending(self, activity: str) -> Iterator[None]:
        """Count the time inside towards an activity.

        Args:
            activity: One of `ACTIVITIES`.
        """
        start = time.monotonic()
        try:
            yield
        finally:
            self._spent[activity] += time.monotonic() - start

    def begin_lap(self) -> None:
        """Forget the time since the last lap."""
        self._lap = time.monotonic(), time.process_time()

    def lap(self, num_examples: int) -> dict[str, float]:
        """Return the rates of a lap, and begin the next one.

        The rate by processor time (of all threads) hardly depends on what else the machine does.

        Args:
            num_examples: Examples trained on in this lap, by all processes.
        """
        self._examples += num_examples
        begun, processor = self._lap
        self.begin_lap()
        rate = num_examples / max(self._lap[0] - begun, 1e-9)
        return {
            "train/examples_per_second": rate,
            "train/examples_per_cpu_second": num_examples / max(self._lap[1] - processor, 1e-9),
            "train/model_gflops_per_second": self._flops * rate / 1e9,
            "train/mfu": self._flops * rate / self._ceiling,
        }

    def shares(self) -> dict[str, float]:
        """Return the share of the time by activity, since the clocks were started.

        "step" is what no other activity took. Steps run while the next batch is made: "input" is
        at most what they wait for it. "compilation" is the first call of the step.
        """
        elapsed = max(time.monotonic() - self._start, 1e-9)
        shares = {name: spent / elapsed for name, spent in self._spent.items()}
        return {"step": max(0.0, 1.0 - sum(shares.values())), **shares}

    def line(self) -> str:
        """Return the shares as a line for people."""
        if not self._examples:
            return "time: no step was taken"
        shares = ", ".join(f"{name} {share:.1%}" for name, share in self.shares().items())
        return f"time: {shares}; ceiling {self._ceiling / 1e9:,.0f} GFLOP/s"
