"""Compiled programs, kept between runs in the user's cache folder."""

import contextlib
import hashlib
import os
import pathlib
import platform
import sys
import time

_KEPT_SECONDS = 30 * 86_400  # since an entry was last read, or was written
_CPU_INFO = pathlib.Path("/proc/cpuinfo")


def use_compilation_cache() -> pathlib.Path | None:
    """Have JAX keep what it compiles, so that a second run of a program begins without compiling.

    JAX's own settings come first: `JAX_COMPILATION_CACHE_DIR` names another directory, and
    `JAX_ENABLE_COMPILATION_CACHE=false` turns the cache off. By default the directory is
    `kunlun_jax/compilations/<processor>` of `XDG_CACHE_HOME`, or of `~/.cache`. It is named by the
    processor's features, because JAX's key does not tell two CPUs apart, and a home directory may
    be shared by machines of several kinds. Entries that nobody used for 30 days are removed.

    Returns:
        The directory; None where JAX's settings decide, or where none can be made.
    """
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return None
    home = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    try:
        directory = home.expanduser() / "kunlun_jax" / "compilations" / _processor()
        directory.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # the latter: a user without a home, as in some containers
        return None
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        return None
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(directory)
    if "jax" in sys.modules:  # which has read its environment
        import jax

        jax.config.update("jax_compilation_cache_dir", str(directory))
    _remove_unused(directory)
    return directory


def _remove_unused(directory: pathlib.Path) -> None:
    for path in directory.iterdir():
        with contextlib.suppress(OSError):  # another process was faster
            status = path.stat()
            if max(status.st_atime, status.st_mtime) < time.time() - _KEPT_SECONDS:
                path.unlink()


def _processor() -> str:
    """Return a short name of the processor's kind and features."""
    try:
        lines = _CPU_INFO.read_text().splitlines()
    except OSError:
        lines = []
    told = {line for line in lines if line.startswith(("model name", "flags", "Features"))}
    kind = "\n".join([platform.machine(), platform.processor(), *sorted(told)])
    return hashlib.sha256(kind.encode()).hexdigest()[:16]
