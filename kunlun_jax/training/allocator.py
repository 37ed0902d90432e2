"""Keep freed memory: what glibc should do for a training step on a CPU."""

import ctypes
import sys

# From <malloc.h>.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8
_PAD_BYTES = 256 * 2**20


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed blocks for the next step instead of returning them to the system.

    XLA's CPU backend allocates a step's temporaries afresh every step. By default glibc maps and
    unmaps each large block, and the kernel then zeroes every page of it again: a hundred thousand
    page faults a step, up to half of the processor time. `benchmarks/allocator.py` measures it.

    Must run before JAX is imported: threads that exist by then have arenas of their own, and glibc
    maps every large block of those. Process-wide, so it is called by programs, never by a library.

    Returns:
        Whether it took effect; False where JAX was there first, or the C library is not glibc.
    """
    if not sys.platform.startswith("linux") or "jax" in sys.modules:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = (
        (_M_ARENA_MAX, 1),
        (_M_MMAP_MAX, 0),
        (_M_TRIM_THRESHOLD, -1),  # never
        (_M_TOP_PAD, _PAD_BYTES),
    )
    return all(mallopt(option, value) for option, value in settings)
