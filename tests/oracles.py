"""The formulas of the model in NumPy, float64, one example at a time, without padding.

Written from the equations and independent of the code under test: sequences come cut to their true
length, heads, experts and window neighbours are loops. `p` is a module's dictionary of parameters.
"""

import math

import numpy as np

EPSILON = 1e-5


def layer_norm(x):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON)


def rms_norm(x):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + EPSILON)


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def softmax(x):
    weights = np.exp(x - x.max())
    return weights / weights.sum()


def gelu_tanh(x):
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


_erf = np.vectorize(math.erf, otypes=[np.float64])
ACTIVATIONS = {
    "identity": lambda x: x,
    "gelu": lambda x: 0.5 * x * (1.0 + _erf(x / math.sqrt(2.0))),
    "gelu_tanh": gelu_tanh,
    "relu": lambda x: np.maximum(x, 0.0),
    "silu": lambda x: x * sigmoid(x),
}


def mlp(p, x):
    for name in sorted(name for name in p if name.startswith("hidden")):
        x = gelu_tanh(x @ p[name]["kernel"] + p[name]["bias"])
    return x @ p["out"]["kernel"] + p["out"]["bias"]


def weight_generation(p, tokens):
    z = p["compress"] @ tokens
    z = z + mlp(p["mlp"], z)
    return sigmoid(z @ p["gate"]["kernel"] + p["gate"]["bias"]) * z


def heads(x, num_heads):
    """Cut the last axis into heads: a list of arrays."""
    return np.split(x, num_heads, axis=-1)


def pffn(p, events, summary, stream, model):
    kinds = {"gdpa": _gdpa, "mlp": _personalised_mlp, "linear": _personalised_linear}
    query = layer_norm(events)
    return rms_norm(kinds[model.gdpa.pffn](p, query, summary, stream, model) + query) + events


def _personalised(p, summary):
    return (p["slots"] @ summary) @ p["projection"]["kernel"] + p.get("markers", 0.0)


def _gdpa(p, query, summary, stream, model):
    keys, values = _personalised(p["keys"], summary), _personalised(p["values"], summary)
    names = model.gdpa.activation * stream.num_heads
    outputs = []
    for n in range(stream.num_heads):
        q, k, v = (heads(x, stream.num_heads)[n] for x in (query, keys, values))
        gain = p["gain"][n] if model.gdpa.temperature == "inside" else None
        scores = q @ rms_norm(k).T
        if model.gdpa.temperature == "inside":
            scores = gain * scores / stream.max_len
        out = ACTIVATIONS[names[n]](scores) @ v
        outputs.append(out / stream.max_len if model.gdpa.temperature == "outside" else out)
    return np.concatenate(outputs, axis=-1)


def _personalised_mlp(p, query, summary, stream, model):
    keys, values = _personalised(p["keys"], summary), _personalised(p["values"], summary)
    scores = query @ rms_norm(keys).T / math.sqrt(stream.model_dim)
    return rms_norm(gelu_tanh(scores)) @ values


def _personalised_linear(p, query, summary, stream, model):
    weight = (summary @ p["projection"]["kernel"]).T @ p["mix"] / math.sqrt(stream.model_dim)
    return query @ weight


def log_gaps(ages, rote):
    if rote.gaps == "positions_only":
        return np.zeros(len(ages))
    gaps = [0.0 if t == 0 else ages[t - 1] - ages[t] for t in range(len(ages))]
    seconds = np.asarray(gaps if rote.gaps == "adjacent" else ages, np.float64)
    return np.log(1.0 + np.maximum(seconds, 0.0) / rote.time_scale)


def rotate(x, angles):
    """Rotate the pairs (x[i], x[i + H/2]) as complex numbers."""
    half = x.shape[-1] // 2
    z = (x[:, :half] + 1j * x[:, half:]) * np.exp(1j * angles)
    return np.concatenate([z.real, z.imag], axis=-1)


def window_attention(p, events, ages, stream, model):
    count, rote = len(events), model.rote
    i = np.arange(stream.head_dim // 2)
    theta = rote.base ** (-2.0 * i / stream.head_dim)
    phi = rote.time_base ** (-2.0 * i / stream.head_dim)
    if "rote" in p:
        phi = p["rote"]["time_frequencies"]
    angles = np.outer(np.arange(count), theta) + np.outer(log_gaps(ages, rote), phi)
    qkv = np.split(layer_norm(events) @ p["qkv"]["kernel"], 3, axis=-1)
    attended = np.zeros((count, stream.model_dim))
    for n in range(stream.num_heads):
        q, k, v = (heads(x, stream.num_heads)[n] for x in qkv)
        q, k = rotate(q, angles), rotate(k, angles)
        for t in range(count):
            near = [s for s in range(count) if abs(t - s) <= stream.window]
            weights = softmax(k[near] @ q[t] / math.sqrt(stream.head_dim))
            columns = slice(n * stream.head_dim, (n + 1) * stream.head_dim)
            attended[t, columns] = weights @ v[near]
    return events + attended @ p["out"]["kernel"]


def sum_kron(x, token_maps, width_maps):
    pairs = zip(token_maps, width_maps, strict=True)
    return sum(z.T @ x @ w for z, w in pairs)


def seed_pooling(p, events, stream, model):
    query = layer_norm(p["seeds"]) @ p["query"]["kernel"]
    pooled = np.zeros_like(query)
    if len(events):
        keys_values = np.split(layer_norm(events) @ p["key_value"]["kernel"], 2, axis=-1)
        for n in range(stream.num_heads):
            q, k, v = (heads(x, stream.num_heads)[n] for x in (query, *keys_values))
            for i in range(len(q)):
                weights = softmax(k @ q[i] / math.sqrt(stream.head_dim))
                columns = slice(n * stream.head_dim, (n + 1) * stream.head_dim)
                pooled[i, columns] = weights @ v
    pooled = pooled @ p["out"]["kernel"]
    if model.pooling.pooling == "pma":
        return pooled
    if not model.pooling.use_sum_kron:
        return p["mix"].T @ pooled
    return sum_kron(pooled, p["token_maps"], p["width_maps"])


def wukong_expert(p, tokens, num_out, num_fm):
    """Apply one expert; `p` holds its slice of every stacked parameter."""

    def two_layers(name, x):
        hidden = gelu_tanh(x @ p[f"{name}_hidden"] + p[f"{name}_hidden_bias"])
        return hidden @ p[f"{name}_out"] + p[f"{name}_out_bias"]

    rows = []
    if num_fm:
        compressed = (p["compress"].T @ tokens).reshape(-1)
        attentive = two_layers("attentive", compressed).reshape(len(tokens), -1)
        # All pairs, which the layer never forms: (X X^T) Y = X (X^T Y).
        interactions = (tokens @ tokens.T) @ attentive
        rows.append(two_layers("fm", layer_norm(interactions.reshape(-1))).reshape(num_fm, -1))
    if num_fm < num_out:
        rows.append(p["linear"].T @ tokens)
    return layer_norm(np.concatenate(rows) + p["residual"].T @ tokens)


def interaction(p, tokens, num_outputs, model):
    config = model.wukong
    num_experts = config.num_experts
    total = np.zeros((num_outputs, model.dim))
    dealt = np.concatenate([tokens, tokens[: -len(tokens) % num_experts]])
    for e in range(num_experts):
        mine = {name: value[e] for name, value in p.items()}
        places = {
            "round_robin": lambda n, e=e: list(range(e, n, num_experts)),
            "contiguous": lambda n, e=e: list(range(n))[e * n // num_experts :][: n // num_experts],
            "full": lambda n: list(range(n)),
        }[config.partition]
        written = places(num_outputs)
        read = places(len(dealt)) if config.partition != "full" else places(len(tokens))
        num_fm = round(config.fm_fraction * len(written))
        total[written] += wukong_expert(mine, dealt[read], len(written), num_fm)
    return total


def head(p, tokens, context=None):
    parts = [tokens] if context is None else [context, tokens * p["gain"]]
    return mlp(p["mlp"], np.concatenate(parts).reshape(-1))


def row(table, i):
    """Look up one id: whatever is not 1 .. rows - 1 is the OOV row."""
    return table[i] if 0 < i < len(table) else table[0]


def projected(params, tables):
    """Bring tables of another width than the model's to it."""
    maps = params.get("embedding", {})
    return {
        name: table @ maps[f"{name}_projection"] if f"{name}_projection" in maps else table
        for name, table in tables.items()
    }


def event_encoder(p, tables, ids, dense, ages, matches, *, model, model_dim):
    """Encode events: `ids` is a list of (table name, ids of the events), `matches` of columns."""
    tokens = []
    for t in range(len(ages)):
        rows = [row(tables[name], values[t]) for name, values in ids]
        numbers = [*dense[t], math.log(1.0 + max(ages[t], 0) / model.rote.time_scale)]
        numbers += [1.0 if column[t] else 0.0 for column in matches]
        token = mlp(p["mlp"], np.concatenate([*rows, numbers]))
        if model.init == "aligned":
            total = np.sum(rows, axis=0)
            token = token + (total @ p["projection"]["kernel"] if model.dim != model_dim else total)
        tokens.append(token)
    return np.reshape(tokens, (len(ages), model_dim))


def context_tokens(p, tables, schema, dense, sparse):
    """Make the context tokens: `sparse` maps a feature to its true ids."""
    fields = {}
    for feature in schema.sparse:
        rows = [row(tables[feature.vocabulary], i) for i in sparse[feature.name]]
        total = np.sum(rows, axis=0) if rows else np.zeros(next(iter(tables.values())).shape[1])
        mean = feature.combiner == "mean" and rows
        fields[feature.name] = total / len(rows) if mean else total
    tokens = [sum(fields[name] for name in schema.candidate)] if schema.candidate else []
    if schema.dense:
        tokens.append(dense @ p["dense"]["kernel"] + p["dense"]["bias"])
    return np.stack([*tokens, *fields.values()])
