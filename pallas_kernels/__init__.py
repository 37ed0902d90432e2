"""The three attention operations of Kunlun, each behind one public function.

    from pallas_kernels.gdpa import gdpa
    from pallas_kernels.window_attention import window_attention
    from pallas_kernels.seed_attention import seed_attention

This package knows arrays only: it imports nothing of `kunlun_jax`, Flax or the configurations.
"""

from pallas_kernels.activations import ACTIVATIONS

__all__ = ["ACTIVATIONS"]
