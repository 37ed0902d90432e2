"""Analytic floating-point operations of every module, forward, per example.

Counted are matrix products, 2 operations a multiply-add, of modules that reach a logit, at full
history length. The keys are the paths of the Linen modules, so that a table can set operations
beside parameters. Work shared by the whole batch (the seeds' query projection) is left out.
"""

import itertools

from kunlun_jax.config import ModelConfig, StreamConfig
from kunlun_jax.data.schema import Schema
from kunlun_jax.layers.comp_skip import stream_schedule
from kunlun_jax.layers.context import num_context_tokens

_STREAM_MODULES = ("encoder", "pooling", "pffn", "attention", "final_pooling")


def flops_by_module(model: ModelConfig, schema: Schema) -> dict[str, int]:
    """Return forward operations per example by module path, such as "layer_0/click_pffn".

    Args:
        model: The model.
        schema: The data set's schema.
    """
    counts = {"context": 2 * len(schema.dense) * model.dim if schema.dense else 0}
    for stream in model.streams:
        counts[f"{stream.name}_encoder"] = _encoder(stream, model, schema)
    num_tokens = num_context_tokens(schema)
    num_outputs = model.n_sum + model.num_pooled_tokens
    full = model.interaction_input == "full"
    for index in range(model.num_layers):
        layer = f"layer_{index}"
        schedule = {s.name: stream_schedule(s, model)[index] for s in model.streams}
        if not full or any(step.pffn for step in schedule.values()):
            counts[f"{layer}/weight_generation"] = _weight_generation(model, num_tokens)
        for stream in model.streams:
            step = schedule[stream.name]
            if step.pooling:
                counts[f"{layer}/{stream.name}_pooling"] = _pooling(stream, model)
            if step.pffn:
                counts[f"{layer}/{stream.name}_pffn"] = _pffn(stream, model)
            if step.attention:
                counts[f"{layer}/{stream.name}_attention"] = _attention(stream)
        num_inputs = model.num_pooled_tokens + (num_tokens if full else model.n_sum)
        counts[f"{layer}/interaction"] = _interaction(model, num_inputs, num_outputs)
        num_tokens = num_outputs
    if model.pooling.final_pooling:
        for stream in model.streams:
            counts[f"{stream.name}_final_pooling"] = _pooling(stream, model)
    widths = ((num_outputs + model.num_pooled_tokens) * model.dim, *model.head_dims)
    counts["head"] = _mlp(1, *widths, len(schema.labels))
    return counts


def flops_by_stream(model: ModelConfig, schema: Schema) -> dict[str, int]:
    """Return forward operations per example of each stream's own modules.

    Args:
        model: The model.
        schema: The data set's schema.
    """
    modules = flops_by_module(model, schema)
    return {
        stream.name: sum(
            count
            for path, count in modules.items()
            if path.rsplit("/", 1)[-1] in {f"{stream.name}_{kind}" for kind in _STREAM_MODULES}
        )
        for stream in model.streams
    }


def _mlp(rows: int, *widths: int) -> int:
    return sum(2 * rows * a * b for a, b in itertools.pairwise(widths))


def _encoder(stream: StreamConfig, model: ModelConfig, schema: Schema) -> int:
    events = schema.stream_by_name[stream.name]
    width_in = len(events.ids) * model.dim + len(events.dense) + 1
    count = _mlp(stream.max_len, width_in, stream.mlp_dim, stream.model_dim)
    if model.init == "aligned" and events.ids and model.dim != stream.model_dim:
        count += 2 * stream.max_len * model.dim * stream.model_dim
    return count


def _weight_generation(model: ModelConfig, num_tokens: int) -> int:
    return 2 * model.n_sum * num_tokens * model.dim + 6 * model.n_sum * model.dim**2


def _pffn(stream: StreamConfig, model: ModelConfig) -> int:
    width, events = stream.model_dim, stream.max_len
    if model.gdpa.pffn == "linear":
        return 2 * model.n_sum * width * (model.dim + width) + 2 * events * width**2
    weights = 2 * 2 * stream.n_kv * model.dim * (model.n_sum + width)
    return weights + 4 * events * stream.n_kv * width


def _attention(stream: StreamConfig) -> int:
    width, events = stream.model_dim, stream.max_len
    return 8 * events * width**2 + 4 * attended_pairs(events, stream.window) * width


def attended_pairs(num_events: int, window: int) -> int:
    """Return the query-key pairs of a symmetric window, cut at both ends of the stream.

    Args:
        num_events: Events T.
        window: Events seen to each side.
    """
    w = min(window, num_events - 1)
    return num_events * (2 * w + 1) - w * (w + 1)


def _pooling(stream: StreamConfig, model: ModelConfig) -> int:
    width, dim = stream.model_dim, model.dim
    hierarchical = model.pooling.pooling == "hsp"
    seeds = stream.n_seeds if hierarchical else stream.n_tokens
    keys_values = 4 * stream.max_len * width**2
    attention = 4 * seeds * stream.max_len * width
    if not hierarchical:
        return keys_values + attention + 2 * seeds * width * dim
    tokens = stream.n_tokens
    tokens_first = seeds * width * tokens + tokens * width * dim
    width_first = seeds * width * dim + seeds * dim * tokens
    sum_kron = 2 * model.pooling.rank * min(tokens_first, width_first)
    return keys_values + attention + 2 * seeds * width**2 + sum_kron


def _interaction(model: ModelConfig, num_inputs: int, num_outputs: int) -> int:
    config, dim = model.wukong, model.dim
    experts, rank, hidden = config.num_experts, config.fm_rank, config.mlp_dim
    share = 1 if config.partition == "full" else experts
    n, out = num_inputs // share, num_outputs // share
    num_fm = round(config.fm_fraction * out)
    linear = 2 * n * (out - num_fm) * dim + 2 * n * out * dim
    if not num_fm:
        return experts * linear
    attentive = 2 * n * rank * dim + _mlp(1, rank * dim, hidden, n * rank)
    machine = 4 * n * dim * rank + _mlp(1, n * rank, hidden, num_fm * dim)
    return experts * (attentive + machine + linear)
