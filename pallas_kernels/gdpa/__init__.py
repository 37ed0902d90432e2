"""GDPA: generalised dot-product attention."""

from pallas_kernels.gdpa.api import gdpa

__all__ = ["gdpa"]
