import numpy as np

from kunlun_jax.data import DenseFeature
from kunlun_jax.data.building.standardize import fit_schema, standardize
from kunlun_jax.data.quality.summary import summarize
from kunlun_jax.data.tables import Shard
from tests.data import toy


def fit(tables):
    users = np.arange(tables.num_users, dtype=np.int32)
    return fit_schema(tables.schema, summarize(Shard(tables, users, rows={})))


def test_values_by_hand():
    features = (DenseFeature("a", log1p=True, mean=1.0, std=2.0), DenseFeature("b", std=0.5))
    values = np.array([[np.e - 1, 3.0], [1 - np.e, np.nan], [np.nan, -1.0]], dtype=np.float32)
    expected = [[0.0, 6.0], [-1.0, 0.0], [0.0, -2.0]]
    result = standardize(values, features)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_no_columns():
    assert standardize(np.zeros((4, 0), np.float32), ()).shape == (4, 0)


def test_training_columns_get_mean_0_and_std_1():
    tables = toy.toy_tables()
    dense = tables.splits["train"].dense
    result = standardize(dense, fit(tables).dense)
    known = ~np.isnan(dense[:, 0])
    np.testing.assert_allclose(result[known, 0].mean(), 0, atol=1e-5)
    np.testing.assert_allclose(result[known, 0].std(), 1, atol=1e-5)
    assert not result[~known, 0].any()


def test_constant_and_missing_columns_stay_finite():
    tables = toy.toy_tables()
    for examples in tables.splits.values():
        examples.dense[:, 0] = np.nan
        examples.dense[:, 1] = 3.0
    price, hour = fit(tables).dense
    assert (price.mean, price.std) == (0.0, 1.0)
    assert (hour.mean, hour.std) == (3.0, 1.0)
