"""Mesh and sharding rules: the only place that knows the names of mesh axes.

Parameters carry logical axis names (`layers/parameters.py`); `RULES` map them to axes of the mesh:

    data, fsdp   both split the batch; fsdp splits dense parameters and their optimizer state too
    tensor       heads and the widths of MLPs
    expert       Wukong experts
    all four     the rows of embedding tables

A dimension that a mesh axis does not divide stays whole on every device of that axis.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen import spmd
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from kunlun_jax.config import ConfigError, ExperimentConfig, MeshConfig
from kunlun_jax.config.parsing import require
from kunlun_jax.shapes import Array

AnyMesh = Mesh | AbstractMesh
AXES = ("data", "fsdp", "tensor", "expert")
_BATCH_AXES = ("data", "fsdp")
# If two dimensions want the same mesh axis, the one whose rule comes first gets it.
RULES: tuple[tuple[str, str | tuple[str, ...]], ...] = (
    ("batch", _BATCH_AXES),
    ("vocab", AXES),
    ("expert", "expert"),
    ("heads", "tensor"),
    ("mlp", "tensor"),
    ("embed", "fsdp"),
    ("stream", "fsdp"),
)

LogicalAxes = tuple[str | None, ...]
# Axes of what the attention operations take.
ROWS: LogicalAxes = ("batch", None, "heads", None)
WHOLE_ROWS: LogicalAxes = ("batch", None, None, None)
EXAMPLES: LogicalAxes = ("batch",)
NUMBERS: LogicalAxes = ("batch", None)
HEADS: LogicalAxes = ("heads",)
SEEDS: LogicalAxes = (None, "heads", None)
REPLICATED: LogicalAxes = (None,)
# Axes of an embedding table.
TABLE: LogicalAxes = ("vocab", "embed")


def make_mesh(config: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """Return the mesh that a configuration describes.

    Args:
        config: Sizes of the axes; one of them may be -1, which takes what is left.
        devices: The devices; all of this process group's by default.

    Raises:
        ConfigError: If the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    grid = np.asarray(devices).reshape(_axis_sizes(config, len(devices)))
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def abstract_mesh(config: MeshConfig, num_devices: int) -> AbstractMesh:
    """Return the mesh of devices that are not there, for shapes alone.

    Args:
        config: As for `make_mesh`.
        num_devices: How many there would be.

    Raises:
        ConfigError: As `make_mesh`.
    """
    sizes = _axis_sizes(config, num_devices)
    return AbstractMesh(tuple(sizes), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _axis_sizes(config: MeshConfig, num_devices: int) -> list[int]:
    sizes = [getattr(config, name) for name in AXES]
    given = int(np.prod([size for size in sizes if size > 0]))
    if sizes.count(-1) == 1 and num_devices % given == 0:
        sizes[sizes.index(-1)] = num_devices // given
    if -1 in sizes or int(np.prod(sizes)) != num_devices:
        wanted = " * ".join(f"{name} {getattr(config, name)}" for name in AXES)
        raise ConfigError(
            f"config.mesh: expected sizes that multiply to the {num_devices} devices (one of them "
            f"may be -1), got {wanted}"
        )
    return sizes


def check_divisible(config: ExperimentConfig, mesh: AnyMesh) -> None:
    """Check that a mesh divides what it is to split evenly.

    Args:
        config: The experiment.
        mesh: The mesh.

    Raises:
        ConfigError: If batches, heads or experts do not divide.
    """
    groups = mesh.shape["data"] * mesh.shape["fsdp"]
    wanted = [
        ("data.batch_size", config.data.batch_size, groups, "mesh.data * mesh.fsdp"),
        ("data.eval_batch_size", config.data.eval_batch_size, groups, "mesh.data * mesh.fsdp"),
        ("data.batch_size", config.data.batch_size, config.data.parts, "data.parts"),
        ("data.eval_batch_size", config.data.eval_batch_size, config.data.parts, "data.parts"),
    ]
    for stream in config.model.streams:
        name = f"model.streams.{stream.name}.num_heads"
        wanted.append((name, stream.num_heads, mesh.shape["tensor"], "mesh.tensor"))
    experts = config.model.wukong.num_experts
    wanted.append(("model.wukong.num_experts", experts, mesh.shape["expert"], "mesh.expert"))
    for name, value, divisor, source in wanted:
        if value % divisor:
            raise ConfigError(
                f"config.{name}: expected a multiple of {divisor} ({source}), got {value}"
            )


def spec_of(axes: LogicalAxes, shape: Sequence[int], sizes: Mapping[str, int]) -> PartitionSpec:
    """Return how an array is split.

    Args:
        axes: Logical name of every dimension.
        shape: Its shape.
        sizes: Size of every mesh axis.
    """
    wanted = spmd.logical_to_mesh_axes(axes, RULES) or PartitionSpec()
    split: list[str | tuple[str, ...] | None] = []
    for size, names in zip(shape, wanted, strict=True):
        group = (names,) if isinstance(names, str) else tuple(names or ())
        count = int(np.prod([sizes[name] for name in group]))
        split.append(names if size % count == 0 else None)
    return PartitionSpec(*split)


def shardings_of(boxed: Any, mesh: AnyMesh) -> Any:
    """Return the shardings of variables whose leaves carry logical axis names.

    Args:
        boxed: What `jax.eval_shape` of a module's `init` returns.
        mesh: The mesh.
    """

    def sharding(leaf: Any) -> NamedSharding:
        if not isinstance(leaf, nn.LogicallyPartitioned):
            return replicated(mesh)
        return NamedSharding(mesh, spec_of(leaf.names, leaf.value.shape, mesh.shape))

    return jax.tree.map(sharding, boxed, is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned))


def replicated(mesh: AnyMesh) -> NamedSharding:
    """Return the sharding of what every device has whole."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: AnyMesh) -> NamedSharding:
    """Return the sharding of every array of a batch: examples over data and fsdp."""
    return NamedSharding(mesh, spmd.logical_to_mesh_axes(("batch",), RULES) or PartitionSpec())


def parts_held(mesh: Mesh, num_parts: int) -> tuple[int, ...]:
    """Return the parts of the data that this process's devices see.

    A batch has a slice of every part, one behind the other. Processes that share the devices of
    one copy of the model may have the same.

    Args:
        mesh: The devices of all processes.
        num_parts: Parts.

    Raises:
        ConfigError: If a process would get a piece of a part.
    """
    groups = mesh.shape["data"] * mesh.shape["fsdp"]
    by_process: dict[int, set[int]] = {}
    for device, (index,) in batch_sharding(mesh).devices_indices_map((groups,)).items():
        by_process.setdefault(device.process_index, set()).update(range(groups)[index])
    return _whole_parts(by_process, groups, num_parts)[jax.process_index()]


def _whole_parts(
    by_process: Mapping[int, set[int]], groups: int, num_parts: int
) -> dict[int, tuple[int, ...]]:
    """Return the parts of every process, from which of equal groups of a batch it has."""
    edges = {g for own in by_process.values() for g in own ^ {other + 1 for other in own}}
    least = groups // math.gcd(groups, *edges)
    require(
        num_parts % least == 0,
        "config.data.parts",
        f"a multiple of {least}, so that each process has whole parts",
        num_parts,
    )
    return {
        process: tuple(p for p in range(num_parts) if p * groups // num_parts in own)
        for process, own in by_process.items()
    }


def every_device(mesh: Mesh) -> NamedSharding:
    """Return the sharding of an array with one part for every device."""
    return NamedSharding(mesh, PartitionSpec(AXES))


class BatchShare:
    """What of every batch this process's devices hold.

    Attributes:
        indices: Where in a batch their examples stand, ascending; None where there is one process,
            which has them all.
    """

    def __init__(self, mesh: Mesh, batch_size: int) -> None:
        """Find the examples of this process.

        Args:
            mesh: The devices.
            batch_size: Examples of a batch, over all processes.
        """
        self._sharding, self._batch_size = batch_sharding(mesh), batch_size
        self.indices: np.ndarray | None = None
        if jax.process_count() > 1:
            shards = self._sharding.addressable_devices_indices_map((batch_size,)).values()
            held = np.zeros(batch_size, bool)
            for index in shards:
                assert index is not None
                held[index] = True
            self.indices = np.flatnonzero(held)

    def put(self, batch: Any) -> Any:
        """Put this process's examples on its devices.

        Args:
            batch: Pytree of arrays whose first dimension are the examples at `indices`.

        Returns:
            Arrays of the whole batch; where there is one process, the batch as it is, because a
            jitted step distributes it.
        """
        indices = self.indices
        if indices is None:
            return batch

        def put(array: np.ndarray) -> Array:
            def part(index: Any) -> np.ndarray:
                first, last, _ = index[0].indices(self._batch_size)
                begin = int(np.searchsorted(indices, first))
                return array[begin : begin + last - first]

            shape = (self._batch_size, *array.shape[1:])
            return jax.make_array_from_callback(shape, self._sharding, part)

        return jax.tree.map(put, batch)


def is_split(shape: Sequence[int], axes: LogicalAxes, mesh: Any) -> bool:
    """Return whether the first dimension of an array is split over devices.

    Args:
        shape: Its shape.
        axes: Logical name of every dimension.
        mesh: The mesh.
    """
    return spec_of(axes, shape, mesh.shape)[0] is not None


def active_mesh() -> Any:
    """Return the mesh that `jax.set_mesh` made known, or None where there is one device only."""
    mesh = jax.sharding.get_abstract_mesh()
    return None if mesh.empty or mesh.size == 1 else mesh


def speaks_for_its_examples() -> Array:
    """Return, inside `on_every_device`, whether this device is the first with its examples."""
    first = jnp.asarray(True)
    for name in AXES:
        if name not in _BATCH_AXES:
            first &= jax.lax.axis_index(name) == 0
    return first


def on_every_device(
    function: Callable[..., Any], in_axes: Sequence[LogicalAxes], out_axes: Sequence[LogicalAxes]
) -> Callable[..., Any]:
    """Return a function that every device of the mesh runs on its own share.

    Args:
        function: Of positional arguments; may use collectives over `AXES`.
        in_axes: Logical axes of each argument, the same for all arrays in it. Must divide.
        out_axes: Logical axes of each result, likewise.
    """
    in_specs, out_specs = (
        tuple(spmd.logical_to_mesh_axes(names, RULES) or PartitionSpec() for names in axes)
        for axes in (in_axes, out_axes)
    )
    return jax.shard_map(function, in_specs=in_specs, out_specs=out_specs, check_vma=False)


def on_each_shard(
    function: Callable[..., Array],
    arrays: Mapping[str, tuple[Array, LogicalAxes]],
    out_axes: LogicalAxes,
) -> Array:
    """Run a function of examples and heads on every device's own share of them.

    A kernel is opaque to the partitioner, which would gather its inputs on every device; no
    example and no head needs another, so each device can work on its own. Without a mesh, or on a
    mesh of one device, this is a plain call.

    Args:
        function: Takes the arrays by name.
        arrays: By name, each with its logical axes.
        out_axes: Logical axes of the result.
    """
    mesh = active_mesh()
    values = {name: array for name, (array, _) in arrays.items()}
    if mesh is None:
        return function(**values)
    specs = {name: spec_of(axes, array.shape, mesh.shape) for name, (array, axes) in arrays.items()}
    dims = {
        name: size
        for array, axes in arrays.values()
        for name, size in zip(axes, array.shape, strict=True)
    }
    out_spec = spec_of(out_axes, [dims[name] if name else 1 for name in out_axes], mesh.shape)
    # The kernels do not say how their results vary over the mesh, so this cannot be checked.
    mapped = jax.shard_map(
        lambda values: function(**values),
        mesh=mesh,
        in_specs=(specs,),
        out_specs=out_spec,
        check_vma=False,
    )
    return mapped(values)
