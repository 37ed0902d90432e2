"""Random batches, of which every sequence has its full length."""

from typing import Any

import jax
import jax.numpy as jnp

from kunlun_jax.config import ExperimentConfig
from kunlun_jax.data.batch import Batch, batch_shapes
from kunlun_jax.data.schema import Schema


def random_batch(config: ExperimentConfig, schema: Schema, batch_size: int) -> Batch:
    """Return a batch of random ids and numbers; every sequence has its full length."""
    max_lens = {stream.name: stream.max_len for stream in config.model.streams}
    shapes = batch_shapes(schema, max_lens, batch_size)
    keys = iter(jax.random.split(jax.random.key(0), len(jax.tree.leaves(shapes))))
    rows = {v.name: v.num_rows for v in schema.vocabularies}

    def ids(shape: Any, vocabulary: str) -> jax.Array:
        return jax.random.randint(next(keys), shape.shape, 1, rows[vocabulary])

    def numbers(shape: Any) -> jax.Array:
        return jax.random.normal(next(keys), shape.shape)

    def full(shape: Any, size: int) -> jax.Array:
        return jnp.full(shape.shape, size, jnp.int32)

    vocabulary_of = {feature.name: feature.vocabulary for feature in schema.sparse}
    sparse = {
        name: values.replace(
            ids=ids(values.ids, vocabulary_of[name]),
            lengths=full(values.lengths, values.ids.shape[1]),
        )
        for name, values in shapes.sparse.items()
    }
    streams = {}
    for name, events in shapes.streams.items():
        of_event = {feature.name: feature.vocabulary for feature in schema.stream_by_name[name].ids}
        gaps = jax.random.exponential(next(keys), events.ages.shape) * 3600
        streams[name] = events.replace(
            ids={key: ids(shape, of_event[key]) for key, shape in events.ids.items()},
            dense=numbers(events.dense),
            ages=jnp.cumsum(gaps, axis=1)[:, ::-1].astype(jnp.int32),
            lengths=full(events.lengths, max_lens[name]),
            matches={
                key: jax.random.bernoulli(next(keys), 0.1, shape.shape)
                for key, shape in events.matches.items()
            },
        )
    return Batch(
        dense=numbers(shapes.dense),
        sparse=sparse,
        streams=streams,
        labels=jax.random.bernoulli(next(keys), 0.3, shapes.labels.shape).astype(jnp.float32),
        weights=jnp.ones(batch_size),
        user_ids=jnp.arange(batch_size, dtype=jnp.int32),
    )
