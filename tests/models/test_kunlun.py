import dataclasses

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import factories, oracles
from tests.models.variants import VARIANTS
from tests.pallas_kernels.lowering import lower_for_cuda, triton_kernels

SCHEMA = factories.SCHEMA
LENGTHS = {"buy": [10, 4, 0, 0], "view": [7, 1, 2, 0]}
BATCH = factories.batch(lengths=LENGTHS, seed=1)
DEFAULT = factories.config()


def expected_logits(params, tables, model, batch, b):
    """Run the whole model on one example in NumPy, with sequences of their true length."""
    sparse = {k: np.asarray(v.ids[b, : v.lengths[b]]) for k, v in batch.sparse.items()}
    dense = np.asarray(batch.dense[b], np.float64)
    tables = oracles.projected(params, tables)
    tokens = oracles.context_tokens(params["context"], tables, SCHEMA, dense, sparse)
    events, ages, pooled = {}, {}, {}
    for stream in model.streams:
        history, length = batch.streams[stream.name], int(batch.streams[stream.name].lengths[b])
        ages[stream.name] = np.asarray(history.ages[b, :length], np.float64)
        shared = SCHEMA.shared_ids[stream.name] if model.match_attributes else ()
        events[stream.name] = oracles.event_encoder(
            params[f"{stream.name}_encoder"],
            tables,
            [
                (f.vocabulary, np.asarray(history.ids[f.name][b, :length]))
                for f in SCHEMA.stream_by_name[stream.name].ids
            ],
            np.asarray(history.dense[b, :length], np.float64),
            ages[stream.name],
            [np.asarray(history.matches[name][b, :length]) for name in shared],
            model=model,
            model_dim=stream.model_dim,
        )
    context_tokens = tokens
    for index in range(model.num_layers):
        p = params[f"layer_{index}"]
        summary = None
        if "weight_generation" in p:
            summary = oracles.weight_generation(p["weight_generation"], tokens)
        updated = dict(events)
        for stream in model.streams:
            name, runs = stream.name, index < stream.num_layers
            even, odd = index % 2 == 0 or not model.comp_skip, index % 2 or not model.comp_skip
            if runs and even:
                updated[name] = oracles.pffn(
                    p[f"{name}_pffn"], events[name], summary, stream, model
                )
                source = {"pffn": updated, "events": events}[model.pooling.pool_from]
                pooled[name] = oracles.seed_pooling(
                    p[f"{name}_pooling"], source[name], stream, model
                )
            if runs and odd:
                updated[name] = oracles.window_attention(
                    p[f"{name}_attention"], updated[name], ages[name], stream, model
                )
        context = summary if model.interaction_input == "summary" else tokens
        all_tokens = np.concatenate([context, *(pooled[s.name] for s in model.streams)])
        num_outputs = model.n_sum + model.num_pooled_tokens
        tokens = oracles.interaction(p["interaction"], all_tokens, num_outputs, model)
        events = updated
    final = [
        oracles.seed_pooling(params[f"{s.name}_final_pooling"], events[s.name], s, model)
        for s in model.streams
    ]
    context = context_tokens if model.head_context else None
    return oracles.head(params["head"], np.concatenate([tokens, *final]), context)


@pytest.mark.parametrize(
    "name", ["four_layers", "mlp_and_pma", "earlier_wiring", "uneven_widths", "head_of_the_trunk"]
)
def test_logits_equal_the_formulas(name):
    model = {"four_layers": DEFAULT, **VARIANTS}[name]
    kunlun = factories.kunlun(model)
    variables = factories.drawn_variables(kunlun, BATCH)
    logits = factories.apply(kunlun, variables, BATCH)
    params, tables = factories.float64((variables["params"], variables["tables"]["embedding"]))
    expected = [expected_logits(params, tables, model, BATCH, b) for b in range(4)]
    np.testing.assert_allclose(logits, expected, rtol=2e-4, atol=2e-4)


def test_parameter_tree_and_count_of_one_config():
    stream = dataclasses.replace(factories.VIEW, num_layers=2)
    model = factories.config(streams=(stream,), num_layers=2)
    variables = jax.eval_shape(factories.kunlun(model).init, jax.random.key(0), BATCH)
    shapes = {
        "/".join(key.key for key in path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(nn.meta.unbox(variables["params"]))
    }
    pooling = {
        "seeds": (5, 12), "query/kernel": (12, 12), "key_value/kernel": (12, 24),
        "out/kernel": (12, 12), "token_maps": (2, 5, 3), "width_maps": (2, 12, 8),
    }  # fmt: skip
    weights = {
        "mlp/hidden_0/kernel": (8, 8), "mlp/hidden_0/bias": (8,),
        "mlp/out/kernel": (8, 8), "mlp/out/bias": (8,),
        "gate/kernel": (8, 8), "gate/bias": (8,),
    }  # fmt: skip
    # Two experts; each puts out half of the n_sum + n_tokens = 6 tokens, 2 of its 3 from the FM.
    # It reads half of the 5 + 3 tokens of layer 0, and of the 6 + 3 of layer 1, one of them twice.
    interaction_0, interaction_1 = (
        {
            "compress": (2, n, 2),
            "attentive_hidden": (2, 16, 6), "attentive_hidden_bias": (2, 6),
            "attentive_out": (2, 6, 2 * n), "attentive_out_bias": (2, 2 * n),
            "fm_hidden": (2, 2 * n, 6), "fm_hidden_bias": (2, 6),
            "fm_out": (2, 6, 16), "fm_out_bias": (2, 16),
            "linear": (2, n, 1), "residual": (2, n, 3),
        }
        for n in (4, 5)
    )  # fmt: skip
    pffn = {
        "gain": (3,), "keys/slots": (5, 3), "keys/projection/kernel": (8, 12),
        "values/slots": (5, 3), "values/projection/kernel": (8, 12), "values/markers": (5, 12),
    }  # fmt: skip
    modules = {
        "context/dense": {"kernel": (3, 8), "bias": (8,)},
        # One id of width 8, one number, the age, and whether the id is the candidate's.
        "view_encoder": {
            "mlp/hidden_0/kernel": (11, 6), "mlp/hidden_0/bias": (6,),
            "mlp/out/kernel": (6, 12), "mlp/out/bias": (12,), "projection/kernel": (8, 12),
        },
        "layer_0/weight_generation": {**weights, "compress": (3, 5)},
        "layer_0/view_pooling": pooling,
        "layer_0/view_pffn": pffn,
        "layer_0/interaction": interaction_0,
        "layer_1/view_attention": {"qkv/kernel": (12, 36), "out/kernel": (12, 12)},
        "layer_1/interaction": interaction_1,
        "view_final_pooling": pooling,
        "head": {
            "gain": (8,),
            "mlp/hidden_0/kernel": ((5 + 3 + 3 + 3) * 8, 6), "mlp/hidden_0/bias": (6,),
            "mlp/out/kernel": (6, 2), "mlp/out/bias": (2,),
        },
    }  # fmt: skip
    expected = {f"{m}/{k}": shape for m, leaves in modules.items() for k, shape in leaves.items()}
    assert shapes == expected
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 5_248
    tables = nn.meta.unbox(variables["tables"]["embedding"])
    assert {k: v.shape for k, v in tables.items()} == {
        "item": (301, 8),
        "brand": (5, 8),
        "tag": (7, 8),
    }


@pytest.mark.parametrize("name", VARIANTS)
def test_every_parameter_carries_a_logical_name_per_axis(name):
    kunlun = factories.kunlun(VARIANTS[name])
    variables = jax.eval_shape(kunlun.init, jax.random.key(0), BATCH)
    factories.assert_named_axes(variables)
    specs = nn.get_partition_spec(variables)
    assert jax.tree.structure(jax.tree.map(lambda x: 0, nn.meta.unbox(variables))) == (
        jax.tree.structure(jax.tree.map(lambda x: 0, specs))
    )


def test_modules_that_a_layer_skips_have_no_parameters():
    shapes = jax.eval_shape(factories.kunlun().init, jax.random.key(0), BATCH)["params"]
    for index in range(4):
        kinds = ("attention",) if index % 2 else ("pffn", "pooling")
        modules = {f"{name}_{kind}" for name in ("buy", "view") for kind in kinds}
        modules |= set() if index % 2 else {"weight_generation"}  # the PFFNs alone read it
        assert set(shapes[f"layer_{index}"]) == {"interaction", *modules}


@pytest.mark.parametrize("name", ["four_layers", "mlp_and_pma", "linear_and_full_experts"])
def test_bfloat16_stays_close_to_float32(name):
    model = {"four_layers": DEFAULT, **VARIANTS}[name]
    wide = factories.kunlun(model)
    narrow = factories.kunlun(dataclasses.replace(model, dtype="bfloat16"))
    variables = factories.drawn_variables(wide, BATCH)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(
        jnp.shape, factories.drawn_variables(narrow, BATCH)
    )
    logits, expected = (np.asarray(factories.apply(m, variables, BATCH)) for m in (narrow, wide))
    assert logits.dtype == np.float32
    assert not np.array_equal(logits, expected)
    # bfloat16 keeps 8 bits; the error of a dozen roundings on logits of the order of 1.
    np.testing.assert_allclose(logits, expected, atol=0.15)


def test_the_kernels_compute_what_the_reference_computes():
    # One stream, one layer that runs all three operations, learned frequencies.
    reference = dataclasses.replace(VARIANTS["uneven_widths"], kernels="xla")
    kernels = dataclasses.replace(reference, kernels="triton_interpret")
    variables = factories.drawn_variables(factories.kunlun(reference), BATCH)
    got, want = (
        (
            factories.apply(factories.kunlun(model), variables, BATCH),
            factories.loss_gradient(factories.kunlun(model))(variables, BATCH),
        )
        for model in (kernels, reference)
    )
    chex.assert_trees_all_close(got, want, rtol=1e-3, atol=1e-5)


def test_the_kernels_of_the_config_are_those_that_a_gpu_runs():
    model = VARIANTS["uneven_widths"]
    kunlun = factories.kunlun(dataclasses.replace(model, kernels="triton"))
    variables = factories.drawn_variables(factories.kunlun(model), BATCH)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (variables, BATCH))
    names = {kernel.name for kernel in triton_kernels(lower_for_cuda(kunlun.apply, *shapes))}
    assert names == {"gdpa_forward", "window_attention_forward", "seed_attention_forward"}
