"""A checkpoint of commit c8f04b0 is restored bit for bit: what is stored stays what it was.

It holds the state of a tiny model after three steps, and beside it the logits then and one later.
"""

import dataclasses
import functools
import pathlib
import tarfile

import grain
import numpy as np

from kunlun_jax.config import ExperimentConfig, OptimizerConfig
from kunlun_jax.training.checkpoint import Checkpoints
from kunlun_jax.training.step import apply_model, create_train_state, make_train_step
from tests import factories

# The rate that was the default then.
OPTIMIZER = OptimizerConfig(learning_rate=4e-3)
ARCHIVE = pathlib.Path(__file__).with_name("checkpoint_c8f04b0.tar.gz")
# The wiring and the head of that time, and a batch that the state has seen three times.
BUY = dataclasses.replace(factories.BUY, num_layers=2, n_tokens=3)
MODEL = factories.config(
    streams=(BUY,),
    num_layers=2,
    interaction_input="summary",
    pooling={"pool_from": "events"},
    match_attributes=False,
    head_context=False,
)
BATCH = factories.batch(lengths={"buy": [10, 4, 0, 7], "view": [7, 1, 2, 0]}, seed=1)


def test_state_position_and_logits_are_those_that_were_saved(tmp_path):
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    config, kunlun = ExperimentConfig(model=MODEL, optimizer=OPTIMIZER), factories.kunlun(MODEL)
    state = create_train_state(kunlun, config, BATCH, num_steps=10)
    data = iter(grain.MapDataset.source(list(range(100))).to_iter_dataset())

    checkpoints = Checkpoints(tmp_path, keep=1, identity={"model": "tiny"})
    state = checkpoints.restore(3, state, data)  # compares every leaf with its checksum
    checkpoints.close()
    assert next(data) == 3

    apply = factories.jit(functools.partial(apply_model, kunlun))

    def logits(state):
        return np.asarray(apply(state.params, state.tables, BATCH))

    # Compilers and processors may round differently.
    np.testing.assert_allclose(logits(state), np.load(tmp_path / "logits.npy"), atol=1e-5)
    step = factories.jit(make_train_step(kunlun, factories.SCHEMA, config, num_steps=10))
    expected = np.load(tmp_path / "next_logits.npy")
    np.testing.assert_allclose(logits(step(state, BATCH)), expected, atol=1e-5)
