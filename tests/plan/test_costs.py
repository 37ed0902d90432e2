import pathlib
import re

from kunlun_jax.plan.costs import KERNEL_PRODUCTS

KERNELS = pathlib.Path(__file__).parents[2] / "pallas_kernels"


def test_every_kernel_has_a_count_of_products():
    """A step with a kernel that has none could not be planned."""
    names = {
        name
        for direction in ("forward", "backward")
        for path in KERNELS.glob(f"*/{direction}.py")
        for name in re.findall(rf'"(\w+_{direction}\w*)"', path.read_text())
    }
    assert names == set(KERNEL_PRODUCTS)
