import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.layers.embedding import EmbeddingTables
from kunlun_jax.training.diagnosis import Diagnosis, diagnose, load_batch, save_diagnosis
from tests import factories
from tests.training.runs import assert_equal_states

BATCH = factories.batch()


class Root(nn.Module):
    """sqrt(scale * |x|), whose slope at scale 0 is infinite."""

    @nn.compact
    def __call__(self, x):
        return jnp.sqrt(self.param("scale", nn.initializers.ones, ()) * jnp.abs(x))


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        return Root(name="root")(nn.Dense(3, name="dense")(x))


class Model(nn.Module):
    """A model small enough to run without compilation in a moment."""

    @nn.compact
    def __call__(self, batch):
        embeddings = EmbeddingTables(factories.SCHEMA, 4, 0.1, name="embedding")()
        item = embeddings["item"](batch.sparse["item"].ids[:, 0], batch.dense.dtype)
        x = jnp.concatenate([batch.dense, item], axis=1)
        return nn.Dense(2, name="head")(Block(name="block")(x))


@pytest.fixture(scope="module")
def variables():
    return factories.initialized(Model(), BATCH)


def run(variables, batch=BATCH, *, table_factor=1.0, **factors):
    """Diagnose with the parameters of some modules, and the tables, multiplied."""
    params = dict(variables["params"])
    for path, factor in factors.items():
        params[path] = jax.tree.map(lambda x, by=factor: x * by, params[path])
    tables = {k: v * table_factor for k, v in variables["tables"]["embedding"].items()}
    return diagnose(Model(), factories.SCHEMA, params, tables, batch)


class TestDiagnose:
    def test_finds_nothing_in_what_is_sound(self, variables):
        found = run(variables)
        assert found == Diagnosis((), (), ())
        assert "does not arise" in str(found)

    def test_names_an_input(self, variables):
        found = run(variables, BATCH.replace(dense=BATCH.dense.at[1, 2].set(jnp.inf)))
        assert found.inputs == ("batch/dense",)
        assert str(found) == "it came in with batch/dense"

    def test_names_parameters_and_tables(self, variables):
        assert run(variables, head=jnp.nan).inputs == (
            "parameters/head/bias",
            "parameters/head/kernel",
        )
        assert "tables/item" in run(variables, table_factor=jnp.nan).inputs

    # Finite parameters, far too large: the product overflows in this module first.
    @pytest.mark.parametrize(
        ("factors", "module"), [({"block": 1e38}, "block/dense"), ({"head": 1e38}, "head")]
    )
    def test_names_the_innermost_module_where_it_arises(self, variables, factors, module):
        found = run(variables, BATCH.replace(dense=BATCH.dense * 1e3), **factors)
        assert found == Diagnosis((), (module,), ())
        assert str(found) == f"it arose forward in {module}"

    def test_names_the_modules_of_gradients_in_the_order_of_the_backward_pass(self, variables):
        found = run(variables, block=0.0)
        assert (found.inputs, found.forward) == ((), ())
        assert found.backward == ("block/root", "block/dense", "tables/item")
        assert str(found) == "it arose backward in block/root"


class TestSaveDiagnosis:
    def test_the_batch_comes_back(self, tmp_path):
        found = Diagnosis((), ("block/dense",), ())
        save_diagnosis(tmp_path / "nonfinite" / "step_3", BATCH, found)
        batch = load_batch(tmp_path / "nonfinite" / "step_3" / "batch.npz")
        assert_equal_states(batch, BATCH)
        report = json.loads((tmp_path / "nonfinite" / "step_3" / "report.json").read_text())
        assert report == {"inputs": [], "forward": ["block/dense"], "backward": []}

    def test_what_is_loaded_gives_the_same_diagnosis(self, variables, tmp_path):
        poisoned = BATCH.replace(dense=np.full_like(BATCH.dense, np.nan))
        found = run(variables, poisoned)
        save_diagnosis(tmp_path, poisoned, found)
        assert run(variables, load_batch(tmp_path / "batch.npz")) == found
