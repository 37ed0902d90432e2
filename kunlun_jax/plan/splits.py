"""How the results of an operation are split over the mesh, given how its inputs are.

A split names, for every dimension of an array, the mesh axes that divide it. The rules are those
of XLA's partitioner for the operations that a step consists of, forward only: what is known of the
inputs decides. A sum over a dimension that is split leaves a part on every device, and what adds
the parts up is an all-reduce.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

Split = tuple[tuple[str, ...], ...]


class Array(NamedTuple):
    """Shape and split of an input.

    Attributes:
        shape: As the program has it: of the whole array, or inside `shard_map` of a device's share.
        split: Mesh axes by dimension.
    """

    shape: tuple[int, ...]
    split: Split


class Result(NamedTuple):
    """What a rule says.

    Attributes:
        split: Of the result.
        summed_over: Axes over which every device has a part of the sum.
        gathered: By number of an input, the split that it has to be brought to first.
    """

    split: Split
    summed_over: tuple[str, ...] = ()
    gathered: Mapping[int, Split] = {}


def unsplit(rank: int) -> Split:
    """Return the split of an array that every device has whole."""
    return ((),) * rank


def of_spec(spec: Any, rank: int) -> Split:
    """Return the split that a `PartitionSpec` stands for."""
    named = [() if e is None else (e,) if isinstance(e, str) else tuple(e) for e in spec]
    return (*named, *unsplit(rank - len(named)))


def share(shape: Sequence[int], split: Split, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Return the shape of a device's share of an array.

    Args:
        shape: Of the array.
        split: Its split.
        sizes: Devices by axis.
    """
    return tuple(
        -(-size // math.prod(sizes[axis] for axis in axes))
        for size, axes in zip(shape, split, strict=True)
    )


def result_of(
    primitive: str, parameters: Mapping[str, Any], inputs: Sequence[Array], shape: tuple[int, ...]
) -> Result:
    """Return how a result of an operation is split.

    Args:
        primitive: Name of the operation in JAX.
        parameters: Its parameters.
        inputs: Its inputs.
        shape: Shape of the result.
    """
    rule = _RULES.get(primitive)
    if rule is None and primitive.startswith(("reduce", "arg")):
        rule = _reduce
    return (rule or _same_dimensions)(parameters, inputs, shape)


def _same_dimensions(
    parameters: Mapping[str, Any], inputs: Sequence[Array], shape: tuple[int, ...]
) -> Result:
    """Keep the split of every dimension that some input of the same rank has in that size."""
    split: list[tuple[str, ...]] = [()] * len(shape)
    used: set[str] = set()
    for array in inputs:
        if len(array.shape) != len(shape):
            continue
        for dim, axes in enumerate(array.split):
            fits = array.shape[dim] == shape[dim] and not used & set(axes)
            if axes and not split[dim] and fits:
                split[dim] = axes
                used |= set(axes)
    return Result(tuple(split))


def _broadcast(
    parameters: Mapping[str, Any], inputs: Sequence[Array], shape: tuple[int, ...]
) -> Result:
    split = list(unsplit(len(shape)))
    array = inputs[0]
    for dim, target in enumerate(parameters["broadcast_dimensions"]):
        if array.shape[dim] == shape[target]:
            split[target] = array.split[dim]
    return Result(tuple(split))


def _transpose(
    parameters: Mapping[str, Any], inputs: Sequence[Array], shape: tuple[int, ...]
) -> Result:
    return Result(tuple(inputs[0].split[dim] for dim in parameters["permutation"]))


def _reduce(
    parameters: Mapping[str, Any], inputs: Sequence[Array], shape: tuple[int, ...]
) -> Result:
    axes = parameters.get("axes", parameters.get("dimensions", ()))
    split = inputs[0].split
    kept = tuple(names for dim, names in enumerate(split) if dim not in axes)
    return Result(kept, tuple(name for dim in axes for name in split[dim]))


def _squeeze(
    parameters: Mapping[str, Any], inputs: Sequence[Array], shape: tuple[int, ...]
) -> Result:
    return Result(_reduce(parameters, inputs, shape).split)


def _reshape(
    parameters: Mapping[str, Any], inputs: Sequence[Array], shape: tuple[int, ...]
) -> Result:
    """Match groups of dimensions of equal size; the first of a group carries its split."""
    old, split = inputs[0].shape, inputs[0].split
    result = list(unsplit(len(shape)))
    i = j = 0
    while i < len(old) and j < len(shape):
        begin, target, left, right = i, j, old[i], shape[j]
        while left != right:
            if left < right:
                i += 1
                left *= old[i]
            else:
                j += 1
                right *= shape[j]
        result[target] = next((axes for axes in split[begin : i + 1] if axes), ())
        i, j = i + 1, j + 1
    return Result(tuple(result))


def _dot(parameters: Mapping[str, Any], inputs: Sequence[Array], shape: tuple[int, ...]) -> Result:
    """Batch, rows and columns keep their split; a contracted dimension leaves partial sums.

    Where both inputs want one axis for different dimensions, the smaller one is gathered.
    """
    (contracted_l, contracted_r), (batch_l, batch_r) = parameters["dimension_numbers"]
    left, right = inputs
    same = {*zip(batch_l, batch_r, strict=True), *zip(contracted_l, contracted_r, strict=True)}
    splits = [list(left.split), list(right.split)]
    small = 0 if math.prod(left.shape) < math.prod(right.shape) else 1
    partner = {pair[small]: pair[1 - small] for pair in same}
    wanted = {
        axis: dim for dim, axes in enumerate(splits[1 - small]) for axis in axes
    }  # by axis, the dimension of the larger input
    for dim, axes in enumerate(splits[small]):
        kept = tuple(
            axis for axis in axes if axis not in wanted or partner.get(dim) == wanted[axis]
        )
        splits[small][dim] = kept
    gathered = {}
    if tuple(splits[small]) != inputs[small].split:
        gathered[small] = tuple(splits[small])
    batch = [splits[0][i] or splits[1][j] for i, j in zip(batch_l, batch_r, strict=True)]
    rows = [x for i, x in enumerate(splits[0]) if i not in (*batch_l, *contracted_l)]
    columns = [x for j, x in enumerate(splits[1]) if j not in (*batch_r, *contracted_r)]
    summed = [splits[0][i] or splits[1][j] for i, j in zip(contracted_l, contracted_r, strict=True)]
    return Result((*batch, *rows, *columns), tuple(a for axes in summed for a in axes), gathered)


def _gather(
    parameters: Mapping[str, Any], inputs: Sequence[Array], shape: tuple[int, ...]
) -> Result:
    dims = iter(inputs[1].split[:-1])
    offsets = parameters["dimension_numbers"].offset_dims
    return Result(tuple(() if i in offsets else next(dims) for i in range(len(shape))))


def _scatter(
    parameters: Mapping[str, Any], inputs: Sequence[Array], shape: tuple[int, ...]
) -> Result:
    numbers = parameters["dimension_numbers"]
    split = list(inputs[0].split)
    pairs = zip(numbers.operand_batching_dims, numbers.scatter_indices_batching_dims, strict=True)
    for dim, index in pairs:
        split[dim] = inputs[1].split[index]
    known = {axis for axes in split for axis in axes}
    parts = {axis for axes in inputs[1].split for axis in axes} - known
    return Result(tuple(split), tuple(sorted(parts)))


def _stack(
    parameters: Mapping[str, Any], inputs: Sequence[Array], shape: tuple[int, ...]
) -> Result:
    axis = parameters["axis"]
    split = _same_dimensions(parameters, inputs, inputs[0].shape).split
    return Result((*split[:axis], (), *split[axis:]))


def _unstack(
    parameters: Mapping[str, Any], inputs: Sequence[Array], shape: tuple[int, ...]
) -> Result:
    split = list(inputs[0].split)
    del split[parameters["axis"]]
    return Result(tuple(split))


def _constraint(
    parameters: Mapping[str, Any], inputs: Sequence[Array], shape: tuple[int, ...]
) -> Result:
    """Bring an array to the split that the program asks for."""
    split = of_spec(parameters["sharding"].spec, len(shape))
    lost = {axis for axes in inputs[0].split for axis in axes} - {a for axes in split for a in axes}
    return Result(split, gathered={0: split} if lost else {})


def _whole(
    parameters: Mapping[str, Any], inputs: Sequence[Array], shape: tuple[int, ...]
) -> Result:
    return Result(unsplit(len(shape)))


_RULES: dict[str, Callable[[Mapping[str, Any], Sequence[Array], tuple[int, ...]], Result]] = {
    "broadcast_in_dim": _broadcast,
    "transpose": _transpose,
    "squeeze": _squeeze,
    "reshape": _reshape,
    "dot_general": _dot,
    "gather": _gather,
    "scatter": _scatter,
    "scatter-add": _scatter,
    "stack": _stack,
    "unstack": _unstack,
    "sharding_constraint": _constraint,
    "iota": _whole,
}
