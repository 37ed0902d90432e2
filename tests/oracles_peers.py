"""The formulas of Kunlun's peers in NumPy, float64, one example at a time, without padding.

As in `tests.oracles`: written from the equations, `p` is a module's dictionary of parameters. A
trunk takes the context tokens [F, D], the streams as a list of (events [T, D], ages [T]), and
returns the tokens that the head reads.
"""

import dataclasses
import math

import numpy as np

from tests import oracles
from tests.oracles import layer_norm, rms_norm, sigmoid, softmax

# Which context tokens of `factories.SCHEMA` are the candidate's: itself, its item, its brand.
UNIDOT_ITEM = [0, 2, 3]


def silu(x):
    return x * sigmoid(x)


def merged(p, streams):
    """Sort the events of all streams, each marked with its stream's kind, oldest first."""
    tagged = [
        (-age, kind, position, event + p["kinds"][kind], age)
        for kind, (events, ages) in enumerate(streams)
        for position, (event, age) in enumerate(zip(events, ages, strict=True))
    ]
    tagged.sort(key=lambda entry: entry[:3])
    width = p["kinds"].shape[1]
    return np.reshape([e[3] for e in tagged], (-1, width)), np.asarray([e[4] for e in tagged])


def wukong_layer(p, tokens, num_outputs, model):
    return oracles.wukong_expert(
        {name: value[0] for name, value in p.items()},
        tokens,
        num_outputs,
        round(model.wukong.fm_fraction * num_outputs),
    )


def wukong(params, model, tokens, streams):
    width = tokens.shape[1]
    means = [e.mean(axis=0) if len(e) else np.zeros(width) for e, _ in streams]
    tokens = np.concatenate([tokens, means])
    for index in range(model.num_layers):
        p = params[f"interaction_{index}"]
        tokens = wukong_layer(p, tokens, model.wukong.num_tokens, model)
    return tokens


def target_attention(p, candidate, events):
    total = np.zeros_like(candidate)
    for event in events:
        pair = np.concatenate([candidate, event, candidate - event, candidate * event])
        total = total + oracles.mlp(p["mlp"], pair)[0] * event
    return total


def din(params, model, tokens, streams):
    interests = [
        target_attention(params[f"{stream.name}_attention"], tokens[0], events)
        for stream, (events, _) in zip(model.streams, streams, strict=True)
    ]
    return np.stack(interests) if model.head_context else np.concatenate([tokens, interests])


def gate(p, x):
    return sigmoid(x @ p["kernel"] + p["bias"]) * x


def context_summary(p, tokens):
    return gate(p["gate"], p["compress"] @ tokens)


def multi_head_softmax(query, key, value, num_heads, seen):
    """Attend, query t to the keys that `seen(t)` lists."""
    out = np.zeros((len(query), value.shape[1]))
    size = value.shape[1] // num_heads
    for n in range(num_heads):
        columns = slice(n * size, (n + 1) * size)
        for t in range(len(query)):
            near = seen(t)
            scores = key[near][:, columns] @ query[t, columns] / math.sqrt(size)
            out[t, columns] = softmax(scores) @ value[near][:, columns]
    return out


def sequence_summary(p, sequence, model):
    config, pma = model.interformer, p["pma"]
    key, value = np.split(layer_norm(sequence) @ pma["key_value"]["kernel"], 2, axis=-1)
    query = layer_norm(pma["seeds"]) @ pma["query"]["kernel"]
    every = list(range(len(sequence)))
    pooled = multi_head_softmax(query, key, value, config.num_heads, lambda t: every)
    cls, events = sequence[: model.n_sum], sequence[model.n_sum :]
    recent = np.zeros((config.num_recent, model.dim))
    for i in range(min(config.num_recent, len(events))):
        recent[i] = events[-1 - i]
    return gate(p["gate"], np.concatenate([cls, pooled @ pma["out"]["kernel"], recent]))


def interformer_pffn(p, summary, sequence):
    """S (X_sum W), a D x D weight made of the summary, in Kunlun's norms and residual."""
    weight = (summary @ p["projection"]["kernel"]).T @ p["mix"] / math.sqrt(sequence.shape[1])
    query = layer_norm(sequence)
    return rms_norm(query @ weight + query) + sequence


def rope(x, positions, num_heads, base=10_000.0):
    size = x.shape[1] // num_heads
    angles = np.outer(positions, base ** (-2.0 * np.arange(size // 2) / size))
    return np.concatenate([oracles.rotate(h, angles) for h in oracles.heads(x, num_heads)], axis=1)


def interformer_attention(p, sequence, num_heads):
    positions, every = np.arange(len(sequence)), list(range(len(sequence)))
    query, key, value = np.split(layer_norm(sequence) @ p["qkv"]["kernel"], 3, axis=-1)
    query, key = (rope(x, positions, num_heads) for x in (query, key))
    out = multi_head_softmax(query, key, value, num_heads, lambda t: every)
    return sequence + out @ p["out"]["kernel"]


def interformer(params, model, tokens, streams):
    sequence, _ = merged(params["merged"], streams)
    for index in range(model.num_layers):
        p = params[f"layer_{index}"]
        x_sum = context_summary(p["context_summary"], tokens)
        if index == 0:
            sequence = np.concatenate([x_sum, sequence])
        s_sum = sequence_summary(p["sequence_summary"], sequence, model)
        both = np.concatenate([tokens, s_sum])
        tokens = wukong_layer(p["interaction"], both, len(tokens), model)
        sequence = interformer_pffn(p["pffn"], x_sum, sequence)
        sequence = interformer_attention(p["attention"], sequence, model.interformer.num_heads)
    s_sum = sequence_summary(params["sequence_summary"], sequence, model)
    return np.concatenate([context_summary(params["context_summary"], tokens), s_sum])


def relative_bias(p, ages, t, s):
    """Bias of query t and key s: a number for the distance, one for the bucket of the time."""
    buckets = len(p["time"])
    gap = max(ages[s] - ages[t], 0)
    bucket = max(k for k in range(buckets) if gap >= 2 ** (32 * k / buckets) - 1)
    return p["position"][min(t - s, len(p["position"]) - 1)] + p["time"][bucket]


def hstu_block(p, tokens, ages, num_heads, max_len):
    u, v, q, k = np.split(silu(layer_norm(tokens) @ p["uvqk"]["kernel"]), 4, axis=-1)
    size = tokens.shape[1] // num_heads
    attended = np.zeros_like(tokens)
    for n in range(num_heads):
        columns = slice(n * size, (n + 1) * size)
        for t in range(len(tokens)):
            for s in range(t + 1):
                score = q[t, columns] @ k[s, columns] / math.sqrt(size)
                weight = silu(score + relative_bias(p["bias"], ages, t, s)) / max_len
                attended[t, columns] += weight * v[s, columns]
    return (layer_norm(attended) * u) @ p["out"]["kernel"] + tokens


def hstu(params, model, tokens, streams):
    events, ages = merged(params["merged"], streams)
    candidate, context = tokens[:1], tokens[1:]
    sequence = np.concatenate([context, events, candidate])
    ages = np.concatenate([np.zeros(len(context)), ages, [0.0]])
    max_len = len(tokens) + sum(stream.max_len for stream in model.streams)
    for index in range(model.num_layers):
        p = params[f"block_{index}"]
        sequence = hstu_block(p, sequence, ages, model.hstu.num_heads, max_len)
    return np.concatenate([sequence[: len(context)], sequence[-1:]])


def tokenformer_block(p, tokens, positions, num_heads, seen):
    x = rms_norm(tokens)
    query, key, value = np.split(x @ p["qkv"]["kernel"], 3, axis=-1)
    query, key = (rope(y, positions, num_heads) for y in (query, key))
    attended = multi_head_softmax(query, key, value, num_heads, seen) @ p["out"]["kernel"]
    interaction = tokens + sigmoid(x @ p["gate"]["kernel"]) * attended
    up, gated = np.split(rms_norm(interaction) @ p["up"]["kernel"], 2, axis=-1)
    return interaction + (up * silu(gated)) @ p["down"]["kernel"]


def tokenformer(params, model, tokens, streams):
    """Mask the whole stream in every layer: nothing is cut off, static fields stay where they are.

    In a sliding layer a static field would see itself alone; it is not updated there.
    """
    config, num_static = model.tokenformer, len(tokens) - 1
    events, _ = merged(params["merged"], streams)
    sequence = np.concatenate([tokens[1:], events, tokens[:1]])
    positions = np.concatenate([np.zeros(num_static), np.arange(1, len(events) + 2)])
    for index in range(config.num_full_layers):
        p = params[f"block_{index}"]
        sequence = tokenformer_block(
            p, sequence, positions, config.num_heads, lambda t: list(range(t + 1))
        )
    for index, window in enumerate(config.windows, start=config.num_full_layers):

        def seen(t, window=window):
            near = [s for s in range(t + 1) if t - s <= window and s >= num_static]
            return near or [t]

        p = params[f"block_{index}"]
        updated = tokenformer_block(p, sequence, positions, config.num_heads, seen)
        sequence = np.concatenate([sequence[:num_static], updated[num_static:]])
    return np.concatenate([sequence[:num_static], sequence[-1:]])


def swiglu(p, x, into_gate=0.0):
    value, opening = np.split(x @ p["up"]["kernel"], 2, axis=-1)
    return (value * silu(opening + into_gate)) @ p["down"]["kernel"]


def unidot_summary(p, tokens):
    return p["weights"][:, 0] @ tokens


def unidot_view(p, name, events, ages, summary, stream, model):
    """Encode a stream: gates that the context opens, then a window without times."""
    gate, config = p[f"{name}_gate"], model.unidot
    context = summary @ gate["context"]["kernel"] + gate["context"]["bias"]
    gated = events + swiglu(gate, layer_norm(events), context)
    stream = dataclasses.replace(
        stream, model_dim=model.dim, num_heads=config.num_heads, window=config.window
    )
    by_position = dataclasses.replace(
        model, rote=dataclasses.replace(model.rote, gaps="positions_only")
    )
    return oracles.window_attention(
        p[f"{name}_window"], gated, np.zeros_like(ages), stream, by_position
    )


def sigmoid_pooling(p, events, summary, num_tokens):
    total = np.zeros((num_tokens, len(summary)))
    for event in events:
        weights = sigmoid(oracles.mlp(p["gates"], np.concatenate([event, summary])))
        total += np.outer(weights, event)
    return layer_norm(total / np.sqrt((total**2).sum(axis=-1, keepdims=True) + 1e-5))


def cross_attention(p, queries, events, num_heads):
    if not len(events):
        return np.zeros_like(queries)
    query = layer_norm(queries) @ p["query"]["kernel"]
    key, value = np.split(layer_norm(events) @ p["key_value"]["kernel"], 2, axis=-1)
    every = list(range(len(events)))
    found = multi_head_softmax(query, key, value, num_heads, lambda t: every)
    return found @ p["out"]["kernel"]


def unidot(params, model, tokens, streams):
    config, dim = model.unidot, tokens.shape[1]
    item, user = UNIDOT_ITEM, [i for i in range(len(tokens)) if i not in UNIDOT_ITEM]
    items = params["items"]["weights"] @ tokens[item]
    summary = unidot_summary(params["summary"], tokens)
    views = {
        stream.name: unidot_view(params, stream.name, events, ages, summary, stream, model)
        for stream, (events, ages) in zip(model.streams, streams, strict=True)
    }
    highway = []
    for index in range(model.num_layers):
        p = params[f"layer_{index}"]
        summary = unidot_summary(p["summary"], tokens)
        pooled = [
            sigmoid_pooling(p[f"{name}_pooling"], view, summary, config.num_pooled)
            for name, view in views.items()
        ]
        attended = np.concatenate(
            [
                cross_attention(p[f"{name}_attention"], items, view, config.num_heads)
                for name, view in views.items()
            ]
        )
        dots = [items @ attended.T, tokens[user] @ items.T]
        highway.append(layer_norm(np.concatenate([d.ravel() for d in dots]) / math.sqrt(dim)))
        tokens = wukong_layer(
            p["interaction"], np.concatenate([tokens, *pooled]), len(tokens), model
        )
        both = np.concatenate(
            [layer_norm(items), p["highway"]["mix"]["weights"] @ attended], axis=1
        )
        items = items + np.stack([oracles.mlp(p["ffn"], row) for row in both])
        joined = np.concatenate([tokens, items])
        mixed = p["fusion"]["mix"].T @ layer_norm(joined)
        joined = joined + swiglu(p["fusion"], mixed)
        tokens, items = joined[: len(tokens)], joined[len(tokens) :]
    readout = params["readout"]["mix"]["weights"] @ np.concatenate([tokens, items])
    gram = (readout @ readout.T / math.sqrt(dim))[np.triu_indices(len(readout))]
    numbers = np.concatenate([gram, *highway])
    rows = np.resize(numbers, (math.ceil(len(numbers) / dim), dim))  # begins again at the end
    return np.concatenate([readout, rows])


TRUNKS = {
    "wukong": wukong,
    "interformer": interformer,
    "din": din,
    "hstu": hstu,
    "tokenformer": tokenformer,
    "unidot": unidot,
}


def logits(params, tables, model, schema, batch, b):
    """Run a whole peer on example b of a batch."""
    sparse = {k: np.asarray(v.ids[b, : v.lengths[b]]) for k, v in batch.sparse.items()}
    dense = np.asarray(batch.dense[b], np.float64)
    tables = oracles.projected(params, tables)
    tokens = oracles.context_tokens(params["context"], tables, schema, dense, sparse)
    streams = []
    for stream in model.streams:
        history, length = batch.streams[stream.name], int(batch.streams[stream.name].lengths[b])
        ages = np.asarray(history.ages[b, :length], np.float64)
        described = schema.stream_by_name[stream.name]
        shared = schema.shared_ids[stream.name] if model.match_attributes else ()
        events = oracles.event_encoder(
            params[f"{stream.name}_encoder"],
            tables,
            [(f.vocabulary, np.asarray(history.ids[f.name][b, :length])) for f in described.ids],
            np.asarray(history.dense[b, :length], np.float64),
            ages,
            [np.asarray(history.matches[name][b, :length]) for name in shared],
            model=model,
            model_dim=model.dim,
        )
        streams.append((events, ages))
    outputs = TRUNKS[model.name](params, model, tokens, streams)
    return oracles.head(params["head"], outputs, tokens if model.head_context else None)
