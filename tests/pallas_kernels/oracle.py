"""The three operations and their gradients in float64 NumPy, row by row, from the formulas.

Nothing here shares code with `pallas_kernels`; the gradients are checked against finite differences
in `test_oracle.py`. Padding is never indexed, so that NaN in it cannot matter.
"""

import math

import numpy as np


def _gelu(x):
    return 0.5 * x * (1.0 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2.0)))


ACTIVATIONS = {
    "identity": lambda x: x,
    "gelu": _gelu,
    "gelu_tanh": lambda x: (
        0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
    ),
    "relu": lambda x: np.maximum(x, 0.0),
    "relu_squared": lambda x: np.maximum(x, 0.0) ** 2,
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "silu": lambda x: x / (1.0 + np.exp(-x)),
    "hard_swish": lambda x: x * np.clip(x + 3.0, 0.0, 6.0) / 6.0,
}


def derivative(name, x, step=1e-6):
    act = ACTIVATIONS[name]
    return (act(x + step) - act(x - step)) / (2.0 * step)


def gdpa(
    query, key, value, cotangent, *, query_lengths, key_lengths, activations, scale_in, scale_out
):
    """Return the output and a dictionary of gradients of sum(cotangent * output)."""
    query, key, value, cotangent = (
        np.asarray(x, np.float64) for x in (query, key, value, cotangent)
    )
    out = np.zeros(query.shape)
    grads = {"query": np.zeros(query.shape), "key": np.zeros(key.shape)}
    grads |= {"value": np.zeros(value.shape), "scale_in": np.zeros(len(scale_in))}
    for b in range(query.shape[0]):
        keys = slice(0, key_lengths[b])
        for n, name in enumerate(activations):
            for t in range(query_lengths[b]):
                dots = key[b, keys, n] @ query[b, t, n]
                weights = ACTIVATIONS[name](scale_in[n] * dots)
                out[b, t, n] = scale_out * weights @ value[b, keys, n]
                d_out = scale_out * cotangent[b, t, n]
                d_scores = derivative(name, scale_in[n] * dots) * (value[b, keys, n] @ d_out)
                grads["value"][b, keys, n] += np.outer(weights, d_out)
                grads["query"][b, t, n] = scale_in[n] * d_scores @ key[b, keys, n]
                grads["key"][b, keys, n] += scale_in[n] * np.outer(d_scores, query[b, t, n])
                grads["scale_in"][n] += d_scores @ dots
    return out, grads


def _attend_row(query, key, value, d_out):
    """Return one row of softmax attention and the gradients of its query, keys and values."""
    scale = query.shape[0] ** -0.5
    scores = scale * (key @ query)
    weights = np.exp(scores - scores.max())
    weights /= weights.sum()
    d_weights = value @ d_out
    d_scores = scale * weights * (d_weights - weights @ d_weights)
    gradients = (d_scores @ key, np.outer(d_scores, query), np.outer(weights, d_out))
    return weights @ value, *gradients


def window_attention(query, key, value, cotangent, *, lengths, window_size):
    """Return the output and a dictionary of gradients of sum(cotangent * output)."""
    query, key, value, cotangent = (
        np.asarray(x, np.float64) for x in (query, key, value, cotangent)
    )
    out, grads = (
        np.zeros(query.shape),
        {n: np.zeros(query.shape) for n in ("query", "key", "value")},
    )
    for b, length in enumerate(lengths):
        for n in range(query.shape[2]):
            for t in range(length):
                keys = slice(max(0, t - window_size), min(length, t + window_size + 1))
                out[b, t, n], d_query, d_key, d_value = _attend_row(
                    query[b, t, n], key[b, keys, n], value[b, keys, n], cotangent[b, t, n]
                )
                grads["query"][b, t, n] = d_query
                grads["key"][b, keys, n] += d_key
                grads["value"][b, keys, n] += d_value
    return out, grads


def _rotate(x, angles):
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    cos, sin = np.cos(angles)[:, :, None], np.sin(angles)[:, :, None]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def rotated_window_attention(query, key, value, cotangent, *, lengths, window_size, rotation):
    """Like `window_attention`, after ROTE; `rotation` holds positions, times and frequencies."""
    positions, times, position_frequencies, time_frequencies = (
        np.asarray(x, np.float64) for x in rotation
    )
    valid = np.arange(query.shape[1]) < np.asarray(lengths)[:, None]
    positions, times = np.where(valid, positions, 0.0), np.where(valid, times, 0.0)
    angles = positions[..., None] * position_frequencies + times[..., None] * time_frequencies
    query, key = (
        _rotate(np.where(valid[:, :, None, None], np.asarray(x, np.float64), 0.0), angles)
        for x in (query, key)
    )
    out, grads = window_attention(
        query, key, value, cotangent, lengths=lengths, window_size=window_size
    )
    half = query.shape[-1] // 2
    d_angles = 0.0
    for name, x in (("query", query), ("key", key)):
        # d/da (u cos a - v sin a, v cos a + u sin a) is that pair turned by a right angle.
        turned = np.concatenate([-x[..., half:], x[..., :half]], axis=-1)
        pairs = grads[name] * turned
        d_angles = d_angles + (pairs[..., :half] + pairs[..., half:]).sum(axis=2)
        grads[name] = _rotate(grads[name], -angles)
    grads["position_frequencies"] = np.einsum("bti,bt->i", d_angles, positions)
    grads["time_frequencies"] = np.einsum("bti,bt->i", d_angles, times)
    return out, grads


def seed_attention(seeds, key, value, cotangent, *, lengths):
    """Return the output and a dictionary of gradients; `seeds` is [P, N, H] or [B, P, N, H]."""
    seeds, key, value, cotangent = (
        np.asarray(x, np.float64) for x in (seeds, key, value, cotangent)
    )
    shared = seeds.ndim == 3
    by_example = np.broadcast_to(seeds, (key.shape[0], *seeds.shape[-3:]))
    out, d_seeds = np.zeros(by_example.shape), np.zeros(by_example.shape)
    grads = {"key": np.zeros(key.shape), "value": np.zeros(value.shape)}
    for b, length in enumerate(lengths):
        if length == 0:
            continue
        for p in range(by_example.shape[1]):
            for n in range(by_example.shape[2]):
                out[b, p, n], d_seeds[b, p, n], d_key, d_value = _attend_row(
                    by_example[b, p, n],
                    key[b, :length, n],
                    value[b, :length, n],
                    cotangent[b, p, n],
                )
                grads["key"][b, :length, n] += d_key
                grads["value"][b, :length, n] += d_value
    grads["seeds"] = d_seeds.sum(axis=0) if shared else d_seeds
    return out, grads
