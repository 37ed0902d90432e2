import jax
import pytest

from pallas_kernels import tile_choices

SMALL = [{"head_dim": 256, "itemsize": size, "tile": [16, 16, 4, 1]} for size in (2, 4)]


@pytest.fixture(autouse=True)
def full_precision():
    """Multiply float32 without TF32, where there is a GPU."""
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture(autouse=True)
def small_tiles(request, monkeypatch):
    """Cut the contract's short sequences into several tiles, in interpret mode."""
    arguments = getattr(request.node, "callspec", None)
    if arguments and arguments.params.get("implementation") == "triton_interpret":
        kernels = tile_choices.table()["default"]
        monkeypatch.setattr(
            tile_choices, "table", lambda: {"default": dict.fromkeys(kernels, SMALL)}
        )
