"""Which implementation of an operation runs."""

import jax
import jax.numpy as jnp
from jaxtyping import DTypeLike

IMPLEMENTATIONS = ("triton", "triton_interpret", "xla")
MAX_HEAD_DIM = 256
_DTYPES = ("float32", "bfloat16", "float16")
_MIN_CAPABILITY = 8.0


def best_implementation() -> tuple[str, str]:
    """Return the implementation that this process's default device gets, and the reason.

    "triton" on an NVIDIA GPU from compute capability 8.0 (Ampere) on, else "xla".
    """
    device = jax.devices()[0]
    if device.platform != "gpu":
        return "xla", f"the default device is a {device.platform.upper()}, not a GPU"
    capability = str(getattr(device, "compute_capability", ""))
    try:
        supported = float(capability) >= _MIN_CAPABILITY
    except ValueError:
        return "xla", f"{device.device_kind} is not an NVIDIA GPU"
    if not supported:
        return "xla", f"{device.device_kind} has compute capability {capability}, below 8.0"
    return "triton", f"{device.device_kind}, compute capability {capability}"


def resolve_implementation(implementation: str | None, *, dtype: DTypeLike, head_dim: int) -> str:
    """Return the implementation that runs: the one named, or the best that applies for None.

    Args:
        implementation: one of `IMPLEMENTATIONS`, or None.
        dtype: of the inputs.
        head_dim: H of the inputs.

    Raises:
        ValueError: another name; or a kernel asked for by name that does not take the dtype or the
            head dim. One asked for by name never falls back.
    """
    if implementation not in (None, *IMPLEMENTATIONS):
        raise ValueError(
            f"implementation: expected None or one of {', '.join(IMPLEMENTATIONS)} (one asked for "
            f"by name never falls back), got {implementation!r}"
        )
    if implementation == "xla":
        return "xla"
    applies = jnp.dtype(dtype).name in _DTYPES and head_dim <= MAX_HEAD_DIM
    if implementation is None:
        return best_implementation()[0] if applies else "xla"
    if not applies:
        raise ValueError(
            f"implementation {implementation!r}: expected a dtype of {', '.join(_DTYPES)} and H <= "
            f"{MAX_HEAD_DIM}, got {jnp.dtype(dtype).name} and H = {head_dim}"
        )
    return implementation
