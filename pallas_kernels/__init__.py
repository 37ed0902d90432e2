"""The three attention operations of Kunlun, each behind one public function.

    from pallas_kernels.gdpa import gdpa
    from pallas_kernels.window_attention import window_attention
    from pallas_kernels.seed_attention import seed_attention

Each has three implementations, `IMPLEMENTATIONS`: "triton", the kernels; "triton_interpret", the
same kernels run by JAX, on any machine; and "xla", the reference that defines the operation. One
that is asked for by name never falls back.

This package knows arrays only: it imports nothing of `kunlun_jax`, Flax or the configurations.
"""

from pallas_kernels.activations import ACTIVATIONS
from pallas_kernels.implementation import IMPLEMENTATIONS

__all__ = ["ACTIVATIONS", "IMPLEMENTATIONS"]
