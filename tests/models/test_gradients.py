"""No dead modules: everything that has parameters reaches the loss (docs/model.md#properties)."""

import dataclasses
import functools
import importlib
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax import config as configuration
from kunlun_jax.config import experiment_config
from kunlun_jax.config.fields import settings_of
from kunlun_jax.data import schema as schemas
from kunlun_jax.models import MODELS
from kunlun_jax.tables.layout import known_ids
from tests import factories
from tests.models.variants import PEERS, VARIANTS

BATCH = factories.batch(lengths={"buy": [10, 7, 3, 2], "view": [7, 4, 2, 5]}, seed=5)
CONFIGS = sorted(
    path.stem
    for path in (pathlib.Path(__file__).parents[2] / "configs").glob("*.py")
    if path.stem not in ("__init__", "own_data")  # own_data reads the schema of a data set
)


def used_rows(batch, model):
    """List, for every vocabulary, which rows the model may read."""
    used = {v.name: np.zeros(v.num_rows, bool) for v in factories.SCHEMA.vocabularies}

    def mark(vocabulary, ids, lengths):
        real = np.arange(ids.shape[1]) < np.asarray(lengths)[:, None]
        used[vocabulary][np.asarray(known_ids(ids, len(used[vocabulary])))[real]] = True

    for feature in factories.SCHEMA.sparse:
        mark(feature.vocabulary, batch.sparse[feature.name].ids, batch.sparse[feature.name].lengths)
    for stream in model.streams:
        events = batch.streams[stream.name]
        for feature in factories.SCHEMA.stream_by_name[stream.name].ids:
            mark(feature.vocabulary, events.ids[feature.name], events.lengths)
    return used


@pytest.mark.parametrize("name", VARIANTS)
def test_every_parameter_and_every_used_row_gets_a_gradient(name):
    model = VARIANTS[name]
    configuration.validate_model(model)
    kunlun = factories.kunlun(model)
    variables = factories.drawn_variables(kunlun, BATCH)
    gradients = factories.loss_gradient(kunlun)(variables, BATCH)
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients["params"]):
        # GELU and softmax pass something on everywhere, so no entry is exactly 0.
        assert np.all(np.isfinite(gradient) & (gradient != 0)), jax.tree_util.keystr(path)
    used = used_rows(BATCH, model)
    for vocabulary, gradient in gradients["tables"]["embedding"].items():
        touched = np.any(np.asarray(gradient) != 0, axis=1)
        np.testing.assert_array_equal(touched, used[vocabulary], err_msg=vocabulary)


def test_the_variants_cover_every_choice():
    for setting in settings_of(configuration.ModelConfig):
        # Names and types are tested by themselves, and activations with the kernels.
        if not setting.choices or setting.path[-1] in ("dtype", "kernels", "name", "activation"):
            continue
        seen = {functools.reduce(getattr, setting.path, model) for model in VARIANTS.values()}
        assert seen == set(setting.choices), setting.path


def generic_schema(model):
    """Describe data that any model of these streams can read."""
    return schemas.Schema(
        name="generic",
        vocabularies=(schemas.Vocabulary("item", 10),),
        dense=(schemas.DenseFeature("price"),),
        sparse=(schemas.SparseFeature("item", "item"), schemas.SparseFeature("user", "item")),
        candidate=("item",),
        streams=tuple(
            schemas.EventStream(
                s.name, (schemas.EventId("item", "item"),), (schemas.DenseFeature("x"),), s.max_len
            )
            for s in model.streams
        ),
    )


def generic_batch(schema, model):
    """Return the shapes of a batch of `generic_schema`."""
    shapes = jax.eval_shape(lambda: factories.batch(size=2))
    number = jax.ShapeDtypeStruct((2, 1), jnp.int32)
    item = dataclasses.replace(shapes.sparse["item"], ids=number)
    streams = {
        s.name: dataclasses.replace(
            shapes.streams["view"],
            ids={"item": jax.ShapeDtypeStruct((2, s.max_len), jnp.int32)},
            dense=jax.ShapeDtypeStruct((2, s.max_len, 1), jnp.float32),
            ages=jax.ShapeDtypeStruct((2, s.max_len), jnp.int32),
            matches={"item": jax.ShapeDtypeStruct((2, s.max_len), jnp.bool)},
        )
        for s in model.streams
    }
    dense = jax.ShapeDtypeStruct((2, 1), jnp.float32)
    return dataclasses.replace(
        shapes, dense=dense, sparse={"item": item, "user": item}, streams=streams
    )


@pytest.mark.parametrize(
    ("config", "name"),
    [*((config, "kunlun") for config in CONFIGS), *(("base", name) for name in PEERS)],
)
def test_every_parameter_of_a_shipped_config_reaches_a_logit(config, name):
    """Follow the data flow, without numbers: the shipped models are too large to run here."""
    values = importlib.import_module(f"configs.{config}").get_config()
    values.model.name = name
    model = experiment_config(values).model
    schema = generic_schema(model)
    module, batch = MODELS[name](model, schema), generic_batch(schema, model)
    shapes = jax.eval_shape(module.init, jax.random.key(0), batch)
    jaxpr = jax.make_jaxpr(module.apply)(jax.tree.map(lambda x: x, shapes), batch).jaxpr
    needed = set(jaxpr.outvars)
    for equation in reversed(jaxpr.eqns):
        if not needed.isdisjoint(equation.outvars):
            needed.update(v for v in equation.invars if not hasattr(v, "val"))
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(shapes)]
    dead = [p for p, v in zip(paths, jaxpr.invars, strict=False) if v not in needed]
    assert not dead
