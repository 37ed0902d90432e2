"""A step as a flat list of operations on a device's share of the arrays."""

import dataclasses

# Names of JAX's collectives and of XLA's.
COLLECTIVES = {
    "psum": "all-reduce",
    "pmax": "all-reduce",
    "pmin": "all-reduce",
    "all_gather": "all-gather",
    "all_to_all": "all-to-all",
    "reduce_scatter": "reduce-scatter",
}


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation on a device.

    Attributes:
        primitive: Its name in JAX; "all-gather" where the partitioner brings parts together.
        inputs: Numbers of the arrays it reads.
        outputs: Numbers of the arrays it makes.
        scope: The modules it stands in, outermost first, as in "jvp(Kunlun)/layer_0/click_pffn".
        flops: Floating-point operations of its matrix products on one device.
        axes: Mesh axes over which a collective goes.
        body: What a loop repeats.
        trips: How often; the rounds of an exchange of rows are taken as one.
        shapes: Shapes of the inputs of a kernel, on one device.
    """

    primitive: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    scope: str = ""
    flops: float = 0.0
    axes: tuple[str, ...] = ()
    body: "Program | None" = None
    trips: int = 1
    shapes: tuple[tuple[int, ...], ...] = ()


@dataclasses.dataclass
class Program:
    """Operations in order, and the arrays between them.

    Attributes:
        bytes: Bytes of every array on one device, by number.
        operations: In the order of the trace.
        inputs: Numbers of the arrays that it is given.
        outputs: Numbers of those that it returns.
    """

    bytes: list[int] = dataclasses.field(default_factory=list)
    operations: list[Operation] = dataclasses.field(default_factory=list)
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
