import dataclasses
import functools
import importlib
import pathlib
import re

import jax
import jax.numpy as jnp
import pytest

from kunlun_jax.flops import (
    flops_by_module,
    flops_by_stream,
    is_layer,
    operations_by_scope,
)
from kunlun_jax.layers import Head, WeightGeneration
from kunlun_jax.layers.causal_blocks import causal_blocks
from kunlun_jax.layers.event_encoder import EventEncoder
from kunlun_jax.layers.hstu import HSTUBlock
from kunlun_jax.layers.model_products import causal_pairs
from kunlun_jax.layers.target_attention import TargetAttention
from kunlun_jax.layers.wukong import WukongExperts
from kunlun_jax.models.stream_layers import StreamLayers
from kunlun_jax.models.tokenformer import TokenFormerBlock
from kunlun_jax.plan.schemas import schema_of
from kunlun_jax.scaling.records import read_records
from kunlun_jax.scaling.study import planned_runs, study_config
from pallas_kernels import chunks
from pallas_kernels.costs import attended_pairs
from tests import factories
from tests.models.variants import PEERS, VARIANTS

ROOT = pathlib.Path(__file__).parents[1]
SCHEMA = factories.SCHEMA
FLOAT32 = jnp.dtype("float32")


STUDIES = (
    "complete_journey",
    "complete_journey_cross",
    "complete_journey_rates",
    "movielens_1m",
    "movielens_1m_rechorus",
    "synthetic",
)


@pytest.mark.parametrize("name", [*VARIANTS, *PEERS])
def test_every_module_with_parameters_is_told(name):
    model = {**VARIANTS, **PEERS}[name]
    module, batch = factories.recommender(model), factories.batch()
    params = jax.eval_shape(module.init, jax.random.key(0), batch)["params"]
    paths = {"context"}
    for part, below in params.items():
        paths |= {f"{part}/{each}" for each in below} if is_layer(part) else {part}
    counts = flops_by_module(model, SCHEMA)
    assert set(counts) == paths
    assert all(counts[path] > 0 for path in paths - {"embedding", "merged", "context"})


def test_the_implementation_of_the_kernels_changes_nothing():
    model = VARIANTS["uneven_widths"]
    interpreted = dataclasses.replace(model, kernels="triton_interpret")
    assert flops_by_module(interpreted, SCHEMA) == flops_by_module(model, SCHEMA)


def counts_of_records(name, wanted):
    """Return (run, operations counted, operations that its record holds)."""
    config = importlib.import_module(f"configs.scaling.{name}").get_config().to_dict()
    # Of another split of the same data set, which nobody knows without its ratings.
    file = ROOT / "configs" / "scaling" / f"{name.removesuffix('_rechorus')}.py"
    other = importlib.import_module(f"configs.scaling.{file.stem}").get_config().to_dict()
    schema = schema_of(planned_runs(study_config(other))[0].config.data, file)
    records = read_records(ROOT / "benchmarks" / "results" / "runs" / name)
    for run in planned_runs(study_config(config)):
        if run.name in records and wanted(run):
            counted = sum(flops_by_module(run.config.model, schema).values())
            yield run.name, counted, records[run.name].content["flops"]


@pytest.mark.parametrize("name", STUDIES)
def test_families_count_what_their_committed_records_hold(name):
    """The records hold formulas by hand, of an earlier version."""
    found = list(counts_of_records(name, lambda run: re.fullmatch(r"[a-z]+_seed0", run.name)))
    assert len(found) >= 2
    assert [x for x in found if x[1] != x[2]] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_all_committed_records_hold_what_is_counted(name):
    found = list(counts_of_records(name, lambda run: True))
    assert len(found) == len(read_records(ROOT / "benchmarks" / "results" / "runs" / name))
    assert [x for x in found if x[1] != x[2]] == []


def test_loops_count_as_often_as_they_run_and_what_shapes_do_not_tell_is_refused():
    weights = jnp.zeros((8, 8))

    def scanned(x):
        return jax.lax.scan(lambda x, _: (x @ weights, None), x, length=5)[0]

    x = jnp.zeros((3, 8))
    assert total(jax.make_jaxpr(scanned)(x)) == 5 * 2 * 3 * 8 * 8
    assert total(jax.make_jaxpr(jax.checkpoint(jax.jit(scanned)))(x)) == 5 * 2 * 3 * 8 * 8
    endless = jax.make_jaxpr(lambda x: jax.lax.while_loop(jnp.any, scanned, x))(x)
    with pytest.raises(NotImplementedError, match="got while"):
        total(endless)


def total(jaxpr):
    return sum(count for _, count in operations_by_scope(jaxpr))


def large(**changes):
    """Return a configuration in which products dominate; nothing of it is ever allocated."""
    stream = dataclasses.replace(
        factories.BUY, model_dim=512, num_heads=4, n_kv=256, n_tokens=32, n_seeds=64,
        num_layers=1, window=200, max_len=200, mlp_dim=512,
    )  # fmt: skip
    parts = {
        "wukong": {"num_experts": 4, "fm_rank": 64, "mlp_dim": 512, **changes.pop("wukong", {})},
        "pooling": {"rank": 8, **changes.pop("pooling", {})},
    }
    return factories.config(
        streams=(stream,), dim=384, num_layers=1, n_sum=32, comp_skip=False, head_dims=(512,),
        **parts, **changes,
    )  # fmt: skip


def example(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct((64, *shape), dtype)


EVENTS = example(200, 512)
LENGTHS = example(dtype=jnp.int32)


def module_under_test(path, model):
    """Return a module of the large configuration, and shapes of what goes in."""
    (stream,) = model.streams
    described = SCHEMA.stream_by_name["buy"]
    history = jax.eval_shape(lambda: factories.batch(size=64, max_lens={"buy": 200, "view": 1}))
    tables = {v.name: jax.ShapeDtypeStruct((v.num_rows, 384), FLOAT32) for v in SCHEMA.vocabularies}
    summary, tokens = example(32, 384), example(factories.NUM_CONTEXT_TOKENS, 384)
    return {
        "buy_encoder": lambda: (
            EventEncoder(described, SCHEMA.shared_ids["buy"], stream, model),
            (factories.embeddings(tables), history.streams["buy"]),
        ),
        "layer_0/weight_generation": lambda: (WeightGeneration(model), (tokens,)),
        "layer_0/buy_pffn": lambda: (
            StreamLayers(stream, model).pffn(),
            (EVENTS, summary, LENGTHS),
        ),
        "layer_0/buy_attention": lambda: (
            StreamLayers(stream, model).attention(),
            (EVENTS, example(200, dtype=jnp.int32), LENGTHS),
        ),
        "layer_0/buy_pooling": lambda: (
            StreamLayers(stream, model).pooling(),
            (EVENTS, LENGTHS),
        ),
        "layer_0/interaction": lambda: (
            WukongExperts(model, 64),
            (example(factories.NUM_CONTEXT_TOKENS + 32, 384),),
        ),
        "head": lambda: (Head((512,), 2, FLOAT32), (example(96, 384),)),
    }[path]()


@pytest.fixture(autouse=True)
def _whole_batches(monkeypatch):
    """Let no attention loop over the batch: XLA counts the body of a loop once."""
    monkeypatch.setattr(chunks, "examples_in_chunk", lambda batch, _: batch)


def measured_by_xla(module, args):
    """Return the operations an example that XLA counts in a compiled module."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), *args)
    compiled = factories.jit(module.apply).lower(shapes, *args).compile()
    return compiled.cost_analysis()["flops"] / 64


@pytest.mark.parametrize(
    ("path", "changes"),
    [
        ("buy_encoder", {}),
        ("layer_0/weight_generation", {}),
        ("layer_0/buy_pffn", {}),
        ("layer_0/buy_pffn", {"gdpa": {"pffn": "mlp"}}),
        ("layer_0/buy_pffn", {"gdpa": {"pffn": "linear"}}),
        ("layer_0/buy_attention", {}),
        ("layer_0/buy_pooling", {}),
        ("layer_0/buy_pooling", {"pooling": {"pooling": "pma"}}),
        ("layer_0/buy_pooling", {"pooling": {"use_sum_kron": False}}),
        ("layer_0/interaction", {}),
        ("layer_0/interaction", {"wukong": {"partition": "full"}}),
        ("head", {}),
    ],
)
def test_every_module_agrees_with_the_cost_analysis_of_xla(path, changes):
    model = large(**changes)
    measured = measured_by_xla(*module_under_test(path, model))
    assert measured == pytest.approx(flops_by_module(model, SCHEMA)[path], rel=0.05)


def test_target_attention_agrees_with_the_cost_analysis_of_xla():
    model = large(name="din", din={"attention_dims": (256, 64)})
    args = (example(384), example(200, 384), LENGTHS)
    measured = measured_by_xla(TargetAttention((256, 64), FLOAT32), args)
    assert measured == pytest.approx(flops_by_module(model, SCHEMA)["buy_attention"], rel=0.05)


def test_causal_blocks_agree_with_the_cost_analysis_of_xla_but_for_masked_pairs():
    heads = {"num_heads": 4}
    model = large(hstu=heads, tokenformer={**heads, "windows": (20,), "ffn_dim": 512})
    num_static, behaviours = factories.NUM_CONTEXT_TOKENS - 1, 201
    length = num_static + behaviours
    block = functools.partial(TokenFormerBlock, model.tokenformer)
    hstu = HSTUBlock(model.hstu, length, FLOAT32)
    angles = jax.ShapeDtypeStruct((length, 384 // 4 // 2), FLOAT32)
    sliding = jax.ShapeDtypeStruct((behaviours, 384 // 4 // 2), FLOAT32)
    cases = {
        ("hstu", "block_0"): (hstu, length, None, example(length, dtype=jnp.int32)),
        ("tokenformer", "block_0"): (block(), length, None, angles),
        ("tokenformer", "block_1"): (block(window=20), behaviours, 20, sliding),
    }
    for (name, path), (module, tokens, window, places) in cases.items():
        computed = sum(block.seen.size for block in causal_blocks(tokens, window))
        masked = computed - causal_pairs(tokens, window)
        analytic = flops_by_module(dataclasses.replace(model, name=name), SCHEMA)[path]
        measured = measured_by_xla(module, (example(tokens, 384), places))
        assert measured == pytest.approx(analytic + 4 * 384 * masked, rel=0.05), path


def test_a_narrow_window_costs_little_more_than_its_pairs():
    """Cost grows with T w: the band of the reference has about twice the useful pairs."""
    pairs, executed = [], []
    for num_events in (320, 640):
        stream = dataclasses.replace(factories.BUY, window=16, max_len=num_events)
        model = factories.config(streams=(stream,))
        module = StreamLayers(stream, model).attention()
        ages = jax.ShapeDtypeStruct((1, num_events), jnp.int32)
        args = (
            jax.ShapeDtypeStruct((1, num_events, 8), FLOAT32),
            ages,
            jax.ShapeDtypeStruct((1,), jnp.int32),
        )
        shapes = jax.eval_shape(module.init, jax.random.key(0), *args)
        multiplied = total(jax.make_jaxpr(module.apply)(shapes, *args))
        executed.append(multiplied - 8 * num_events * 8**2)  # without the four projections
        pairs.append(4 * 8 * attended_pairs(num_events, 16))
        analytic = flops_by_module(model, SCHEMA)["layer_1/buy_attention"]
        assert analytic == 8 * num_events * 8**2 + pairs[-1]
    assert pairs[0] <= executed[0] <= 2.1 * pairs[0]
    assert executed[1] == 2 * executed[0]


@pytest.mark.parametrize("num_tokens", [1, 2, 7])
@pytest.mark.parametrize("window", [None, 0, 3, 50])
def test_causal_pairs(num_tokens, window):
    reach = num_tokens if window is None else window
    pairs = [(t, s) for t in range(num_tokens) for s in range(t + 1) if t - s <= reach]
    assert causal_pairs(num_tokens, window) == len(pairs)


def test_streams_get_their_own_modules_even_if_a_name_begins_another():
    streams = tuple(
        dataclasses.replace(factories.VIEW, name=name, num_layers=1) for name in ("buy", "buy_more")
    )
    events = tuple(dataclasses.replace(SCHEMA.stream_by_name["view"], name=s.name) for s in streams)
    model = factories.config(streams=streams, num_layers=1, wukong={"num_experts": 1})
    schema = dataclasses.replace(SCHEMA, streams=events)
    by_stream, by_module = flops_by_stream(model, schema), flops_by_module(model, schema)
    assert by_stream["buy"] == by_stream["buy_more"]
    shared = {"context", "layer_0/weight_generation", "layer_0/interaction", "head"}
    assert sum(by_stream.values()) == sum(v for k, v in by_module.items() if k not in shared)


def test_comp_skip_saves_operations():
    every = dataclasses.replace(factories.config(), comp_skip=False)
    saved = sum(flops_by_module(factories.config(), SCHEMA).values())
    assert saved < 0.8 * sum(flops_by_module(every, SCHEMA).values())
