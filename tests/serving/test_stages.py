"""What does not see the candidate is computed once, and no number changes by it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.serving.programs import apart, pair_logits
from kunlun_jax.serving.stages import stages
from tests import factories
from tests.models.variants import PEERS, VARIANTS

MODELS = VARIANTS | PEERS
COUNT = 7


def primitives(function, *arguments):
    return [e.primitive.name for e in jax.make_jaxpr(function)(*arguments).jaxpr.eqns]


def used(function, *arguments):
    """Return which leaves of the arguments the operations of a function read."""
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    read = {v for e in jaxpr.eqns for v in e.invars if not isinstance(v, jax.extend.core.Literal)}
    return [v in read for v in jaxpr.invars]


class TestStages:
    """Of a function whose parts are told from each other by their primitives."""

    @staticmethod
    def function(model, user, candidates):
        of_user = jnp.sin(user) @ jnp.tanh(model)
        joined = jnp.concatenate([jnp.broadcast_to(of_user, (len(candidates), 3)), candidates], 1)
        return jnp.sum(jnp.exp(joined), axis=1), jnp.cos(user)

    def cut(self, *counts):
        rng = np.random.default_rng(0)
        model, user, *last = (
            rng.normal(size=shape) for shape in ((4, 3), (4,), *((n, 2) for n in counts))
        )
        return *stages(self.function, (model, user), last), (model, user, last)

    def test_every_operation_has_its_place(self):
        (of_model, of_user), late, (model, user, last) = self.cut(5, 6)
        known = of_model(model)
        assert primitives(of_model, model) == ["tanh"]
        assert {"sin", "cos", "dot_general"} <= set(primitives(of_user, model, known, user))
        found = primitives(late[0], model, known, user, of_user(model, known, user), last[0])
        assert {"broadcast_in_dim", "concatenate", "exp"} <= set(found)
        assert not {"sin", "cos", "dot_general", "tanh"} & set(found)

    def test_the_result_is_the_functions(self):
        (of_model, of_user), late, (model, user, last) = self.cut(5, 1, 8)
        known = of_model(model)
        encoded = of_user(model, known, user)
        for run, candidates in zip(late, last, strict=True):
            got = run(model, known, user, encoded, candidates)
            expected = self.function(model, user, candidates)
            jax.tree.map(np.testing.assert_array_equal, got, list(expected))


@pytest.mark.parametrize("name", MODELS)
def test_candidates_of_one_user_score_as_examples(name):
    model = factories.recommender(MODELS[name])
    lengths = {stream.name: stream.max_len for stream in model.model.streams}
    batch = factories.batch(size=COUNT, max_lens={"buy": 10, "view": 7} | lengths)
    batch = batch.replace(streams={name: batch.streams[name] for name in lengths})
    variables = factories.drawn_variables(model, batch)
    of_first = jax.tree.map(lambda x: jnp.repeat(x[:1], COUNT, axis=0), batch.streams)
    streams = {
        name: events.replace(matches=batch.streams[name].matches)  # of each candidate
        for name, events in of_first.items()
    }
    expected = factories.apply(model, variables, batch.replace(streams=streams))

    _, candidates = apart(batch)
    histories, _ = apart(jax.tree.map(lambda x: x[:1], batch.replace(streams=streams)))
    given = variables["params"], variables["tables"]["embedding"]
    fewer = jax.tree.map(lambda x: x[:3], candidates)
    early, late = stages(pair_logits(model), (given, histories), [candidates, fewer])
    prepare, encode, score, score_fewer = map(factories.jit, (*early, *late))
    of_model = prepare(given)
    of_user = encode(given, of_model, histories)
    (got,) = score(given, of_model, histories, of_user, candidates)
    np.testing.assert_allclose(got, expected, rtol=0, atol=4e-6)
    (got,) = score_fewer(given, of_model, histories, of_user, fewer)
    np.testing.assert_allclose(got, expected[:3], rtol=0, atol=4e-6)

    # Whatever layer sees the candidate, the events' ids are looked up for the user alone.
    read = used(late[0], given, of_model, histories, of_user, candidates)
    before = len(jax.tree.leaves((given, of_model)))
    leaves = jax.tree_util.tree_leaves_with_path(histories)
    assert sum("ids" in jax.tree_util.keystr(path) for path, _ in leaves) >= len(lengths)
    for (path, _), is_read in zip(leaves, read[before:], strict=False):
        assert not ("ids" in jax.tree_util.keystr(path) and is_read), path
