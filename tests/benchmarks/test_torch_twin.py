import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra `twin` is not installed")

from benchmarks import torch_kunlun, twin_sizes
from benchmarks.random_batches import random_batch
from kunlun_jax.models import create_model
from tests import factories


def test_the_twin_computes_our_logits():
    size = twin_sizes.SIZES["tiny"]
    config, schema = twin_sizes.experiment(size), twin_sizes.schema(size)
    batch = random_batch(config, schema, size.batch)
    model = create_model(config, schema)
    variables = factories.drawn_variables(model, batch)
    expected = factories.apply(model, variables, batch)
    tables = variables["tables"]["embedding"]
    twin = torch_kunlun.TorchKunlun.of(config.model, schema, variables["params"], tables)
    logits = twin(torch_kunlun.tensors(batch)).detach().numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
