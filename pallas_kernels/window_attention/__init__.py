"""Sliding-window self-attention with rotary temporal embedding."""

from pallas_kernels.window_attention.api import window_attention

__all__ = ["window_attention"]
