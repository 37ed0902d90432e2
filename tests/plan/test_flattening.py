"""Small functions whose bytes, operations and exchanges are known by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from kunlun_jax.config import MeshConfig
from kunlun_jax.plan.flattening import flatten
from kunlun_jax.plan.memory import usage
from kunlun_jax.plan.program import COLLECTIVES
from kunlun_jax.plan.splits import of_spec
from kunlun_jax.sharding import abstract_mesh

SHARDED = P(("data", "fsdp"))


def analyse(function, arguments, specs=None, **mesh):
    """Trace a function of arrays of such shapes; return program and usage."""
    mesh = abstract_mesh(MeshConfig(**{"data": 1, **mesh}), 8 if mesh else 1)
    shapes = [jax.ShapeDtypeStruct(*a) if len(a) == 2 else a for a in arguments]
    with jax.sharding.use_abstract_mesh(mesh):
        jaxpr = jax.make_jaxpr(function)(*shapes)
    specs = specs or [P()] * len(shapes)
    splits = [of_spec(spec, len(x.shape)) for spec, x in zip(specs, shapes, strict=True)]
    program = flatten(jaxpr, splits, dict(mesh.shape))
    return program, usage(program)


def sent(found):
    return [
        (COLLECTIVES.get(k.operation.primitive, k.operation.primitive), k.operation.axes)
        for k in found.kernels
        if k.operation.axes
    ]


X, W = ((64, 32), jnp.float32), ((32, 16), jnp.float32)


def test_a_product_over_the_batch_counts_a_device_s_share():
    program, found = analyse(jnp.dot, (X, W), (SHARDED, P()), fsdp=8)
    [kernel] = found.kernels
    assert kernel.operation.flops == 2 * 8 * 32 * 16
    assert kernel.bytes == 4 * (8 * 32 + 32 * 16 + 8 * 16)
    assert program.bytes[program.outputs[0]] == 4 * 8 * 16
    assert sent(found) == []


def test_a_gradient_of_a_shared_weight_is_all_reduced():
    def gradient(x, w):
        return jax.grad(lambda w: jnp.sum(jnp.tanh(x @ w)))(w)

    program, found = analyse(gradient, (X, W), (SHARDED, P()), fsdp=8)
    assert ("all-reduce", ("fsdp",)) in sent(found)
    assert program.bytes[program.outputs[0]] == 4 * 32 * 16


def test_a_split_weight_is_gathered_where_the_batch_has_its_axis():
    _, found = analyse(jnp.dot, (X, W), (SHARDED, P("fsdp")), fsdp=8)
    assert sent(found) == [("all-gather", ("fsdp",))]


def test_a_weight_that_is_split_over_tensor_splits_the_hidden_width():
    def mlp(x, w, v):
        return jnp.tanh(x @ w) @ v

    arrays = (X, ((32, 48), jnp.float32), ((48, 32), jnp.float32))
    specs = (SHARDED, P(None, "tensor"), P("tensor", None))
    program, found = analyse(mlp, arrays, specs, fsdp=4, tensor=2)
    products = [k.operation for k in found.kernels if k.operation.flops]
    assert [p.flops for p in products] == [2 * 16 * 32 * 24] * 2
    assert sent(found) == [("all-reduce", ("tensor",))]
    assert program.bytes[program.outputs[0]] == 4 * 16 * 32


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.reshape(8, 8, 32),
        lambda x: x.reshape(64, 4, 8).transpose(0, 2, 1),
        lambda x: jnp.stack([x, x], axis=1),
        lambda x: jnp.concatenate([x, x], axis=1),
        lambda x: jnp.split(x, 2, axis=1)[0],
        lambda x: jnp.sort(x, axis=1),
        lambda x: x[:, None] + jnp.arange(5)[:, None],
        lambda x: jnp.take_along_axis(x, jnp.argsort(x, axis=1), axis=1, mode="clip"),
    ],
)
def test_the_batch_stays_split(function):
    program, found = analyse(function, (X,), (SHARDED,), fsdp=8)
    whole = jax.eval_shape(function, jax.ShapeDtypeStruct(*X))
    assert program.bytes[program.outputs[0]] == 4 * whole.size // 8
    assert sent(found) == []


def test_what_happens_inside_shard_map_is_counted_as_it_stands():
    def summed(x):
        inner = jax.shard_map(
            lambda x: jax.lax.psum(jnp.sum(x, axis=0), "fsdp"),
            in_specs=P("fsdp"), out_specs=P(), check_vma=False,
        )  # fmt: skip
        return inner(x)

    program, found = analyse(summed, (X,), (SHARDED,), fsdp=8)
    assert sent(found) == [("all-reduce", ("fsdp",))]
    assert program.bytes[program.outputs[0]] == 4 * 32


def test_an_axis_of_one_device_exchanges_nothing():
    def summed(x):
        inner = jax.shard_map(
            lambda x: jax.lax.psum(x, "tensor"), in_specs=SHARDED, out_specs=SHARDED,
            check_vma=False,
        )  # fmt: skip
        return inner(x) @ jnp.ones((32, 2))

    assert sent(analyse(summed, (X,), (SHARDED,), fsdp=8)[1]) == []
