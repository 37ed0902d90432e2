"""Analytic floating-point operations of every module, forward, per example.

Counted are matrix products, 2 operations a multiply-add, of modules that reach a logit, at full
history length; of attention, the pairs that its mask lets through. The keys are the paths of the
Linen modules, so that a table can set operations beside parameters. Work shared by the whole batch
(the seeds' query projection) is left out.
"""

import itertools
import re

from kunlun_jax.config import ModelConfig, StreamConfig
from kunlun_jax.data.schema import Schema
from kunlun_jax.layers.comp_skip import stream_schedule
from kunlun_jax.layers.context import num_context_tokens
from kunlun_jax.layers.features import features_in_use
from kunlun_jax.layers.wukong import single_expert
from kunlun_jax.models.interformer import merged_stream

_STREAM_MODULES = ("encoder", "attention", "final_pooling")  # of the model itself
_STREAM_LAYERS = ("pooling", "pffn", "attention")  # of its layers


def flops_by_module(model: ModelConfig, schema: Schema) -> dict[str, int]:
    """Return forward operations per example by module path, such as "layer_0/click_pffn".

    Args:
        model: The model.
        schema: The data set's schema.
    """
    schema = features_in_use(schema, model)
    widths = dict(model.table_dims)
    counts = {}
    if any(widths.get(v.name, model.dim) != model.dim for v in schema.vocabularies):
        counts["embedding"] = 0  # its projections count where they are used
    counts["context"] = 2 * len(schema.dense) * model.dim + sum(
        f.max_values * _projection(f.vocabulary, model) for f in schema.sparse
    )
    for stream in model.encoded_streams:
        counts[f"{stream.name}_encoder"] = _encoder(stream, model, schema)
    num_context = num_context_tokens(schema)
    trunk, num_tokens = _TRUNKS[model.name](model, num_context)
    num_tokens += num_context if model.head_context else 0
    head = _mlp(1, num_tokens * model.dim, *model.head_dims, len(schema.labels))
    return {**counts, **trunk, "head": head}


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
            if path.rsplit("/", 1)[-1]
            in {
                f"{stream.name}_{kind}"
                for kind in (_STREAM_LAYERS if "/" in path else _STREAM_MODULES)
            }
        )
        for stream in model.streams
    }


def is_layer(module: str) -> bool:
    """Return whether a module of the model is one of its layers: no stream's, whatever its name.

    Args:
        module: Name, such as "layer_0".
    """
    return re.fullmatch(r"layer_[0-9]+", module) is not None


def attended_pairs(num_events: int, window: int) -> int:
    """Return the query-key pairs of a symmetric window, cut at both ends of the stream.

    Args:
        num_events: Events T.
        window: Events seen to each side.
    """
    w = min(window, num_events - 1)
    return num_events * (2 * w + 1) - w * (w + 1)


def causal_pairs(num_tokens: int, window: int | None = None) -> int:
    """Return the query-key pairs of causal attention.

    Args:
        num_tokens: Tokens of the sequence.
        window: Tokens seen before the query; None: all.
    """
    w = num_tokens - 1 if window is None else min(window, num_tokens - 1)
    return num_tokens * (w + 1) - w * (w + 1) // 2


# A trunk's operations by module, and the tokens that it hands to the head. "merged" sorts events.
Trunk = tuple[dict[str, int], int]


def _kunlun(model: ModelConfig, num_tokens: int) -> Trunk:
    counts: dict[str, int] = {}
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
    return counts, num_outputs + model.num_pooled_tokens


def _wukong(model: ModelConfig, num_tokens: int) -> Trunk:
    counts, num_tokens = {}, num_tokens + len(model.streams)
    for index in range(model.num_layers):
        num_outputs = model.wukong.num_tokens
        interaction = _interaction(single_expert(model), num_tokens, num_outputs)
        counts[f"interaction_{index}"], num_tokens = interaction, num_outputs
    return counts, num_tokens


def _interformer(model: ModelConfig, num_tokens: int) -> Trunk:
    stream, kinds = merged_stream(model)
    num_summary = model.n_sum + model.interformer.num_pma + model.interformer.num_recent
    summaries = {
        "context_summary": _weight_generation(model, num_tokens, use_mlp=False),
        "sequence_summary": _pooling(stream, kinds) + 2 * num_summary * model.dim**2,
    }
    layer = {
        **summaries,
        "interaction": _interaction(single_expert(model), num_tokens + num_summary, num_tokens),
        "pffn": _pffn(stream, kinds),
        "attention": _attention(stream),
    }
    counts = {
        f"layer_{index}/{name}": count
        for index in range(model.num_layers)
        for name, count in layer.items()
    }
    return {"merged": 0, **counts, **summaries}, model.n_sum + num_summary


def _din(model: ModelConfig, num_tokens: int) -> Trunk:
    widths = (4 * model.dim, *model.din.attention_dims, 1)
    counts = {f"{s.name}_attention": _mlp(s.max_len, *widths) for s in model.streams}
    return counts, len(model.streams) + (0 if model.head_context else num_tokens)


def _hstu(model: ModelConfig, num_tokens: int) -> Trunk:
    length, dim = num_tokens + sum(stream.max_len for stream in model.streams), model.dim
    block = 10 * length * dim**2 + 4 * causal_pairs(length) * dim
    blocks = {f"block_{index}": block for index in range(model.num_layers)}
    return {"merged": 0, **blocks}, num_tokens


def _tokenformer(model: ModelConfig, num_tokens: int) -> Trunk:
    config, dim = model.tokenformer, model.dim
    behaviours = 1 + sum(stream.max_len for stream in model.streams)  # and the target

    def block(length: int, window: int | None = None) -> int:
        linear = 10 * length * dim**2 + 6 * length * dim * config.ffn_dim
        return linear + 4 * causal_pairs(length, window) * dim

    blocks = [block(num_tokens - 1 + behaviours)] * config.num_full_layers
    blocks += [block(behaviours, window) for window in config.windows]
    counts = {f"block_{index}": count for index, count in enumerate(blocks)}
    return {"merged": 0, **counts}, num_tokens


_TRUNKS = {
    "kunlun": _kunlun,
    "wukong": _wukong,
    "interformer": _interformer,
    "din": _din,
    "hstu": _hstu,
    "tokenformer": _tokenformer,
}


def _mlp(rows: int, *widths: int) -> int:
    return sum(2 * rows * a * b for a, b in itertools.pairwise(widths))


def _projection(vocabulary: str, model: ModelConfig) -> int:
    """Count the linear map of one row, where a table's width is not the model's."""
    width = dict(model.table_dims).get(vocabulary, model.dim)
    return 2 * width * model.dim if width != model.dim else 0


def _encoder(stream: StreamConfig, model: ModelConfig, schema: Schema) -> int:
    events = schema.stream_by_name[stream.name]
    width_in = len(events.ids) * model.dim + len(events.dense) + 1
    count = _mlp(stream.max_len, width_in, stream.mlp_dim, stream.model_dim)
    count += sum(stream.max_len * _projection(f.vocabulary, model) for f in events.ids)
    if model.init == "aligned" and events.ids and model.dim != stream.model_dim:
        count += 2 * stream.max_len * model.dim * stream.model_dim
    return count


def _weight_generation(model: ModelConfig, num_tokens: int, *, use_mlp: bool = True) -> int:
    maps = 3 if use_mlp else 1  # of every summary token: the MLP's two, and the gate
    return 2 * model.n_sum * model.dim * (num_tokens + maps * model.dim)


def _pffn(stream: StreamConfig, model: ModelConfig) -> int:
    width, events = stream.model_dim, stream.max_len
    if model.gdpa.pffn == "linear":
        return 2 * model.n_sum * width * (model.dim + width) + 2 * events * width**2
    weights = 2 * 2 * stream.n_kv * model.dim * (model.n_sum + width)
    return weights + 4 * events * stream.n_kv * width


def _attention(stream: StreamConfig) -> int:
    width, events = stream.model_dim, stream.max_len
    return 8 * events * width**2 + 4 * attended_pairs(events, stream.window) * width


def _pooling(stream: StreamConfig, model: ModelConfig) -> int:
    width, dim = stream.model_dim, model.dim
    hierarchical = model.pooling.pooling == "hsp"
    seeds = stream.n_seeds if hierarchical else stream.n_tokens
    keys_values = 4 * stream.max_len * width**2
    attention = 4 * seeds * stream.max_len * width
    if not hierarchical:
        return keys_values + attention + 2 * seeds * width * dim
    tokens = stream.n_tokens
    if not model.pooling.use_sum_kron:
        return keys_values + attention + 2 * seeds * dim * (width + tokens)
    tokens_first = seeds * width * tokens + tokens * width * dim
    width_first = seeds * width * dim + seeds * dim * tokens
    sum_kron = 2 * model.pooling.rank * min(tokens_first, width_first)
    return keys_values + attention + 2 * seeds * width**2 + sum_kron


def _interaction(model: ModelConfig, num_inputs: int, num_outputs: int) -> int:
    config, dim = model.wukong, model.dim
    experts, rank, hidden = config.num_experts, config.fm_rank, config.mlp_dim
    share = 1 if config.partition == "full" else experts
    n, out = -(-num_inputs // share), num_outputs // share
    num_fm = round(config.fm_fraction * out)
    linear = 2 * n * (out - num_fm) * dim + 2 * n * out * dim
    if not num_fm:
        return experts * linear
    attentive = 2 * n * rank * dim + _mlp(1, rank * dim, hidden, n * rank)
    machine = 4 * n * dim * rank + _mlp(1, n * rank, hidden, num_fm * dim)
    return experts * (attentive + machine + linear)
