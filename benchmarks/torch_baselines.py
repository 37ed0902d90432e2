"""Times of the operations as PyTorch compiles them, in a process that touches no GPU with JAX.

GDPA is the formula under `torch.compile`; window attention is `flex_attention` with a block mask,
seed attention `scaled_dot_product_attention`. ROTE is part of the compiled function.
"""

import json
import pathlib
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.workloads import DIRECTIONS, Workload

_ROUND_SECONDS = 0.2


def run(workloads: Sequence[Workload], path: pathlib.Path, seconds: float) -> None:
    """Append a record of each pass of every workload to `path`.

    Args:
        workloads: in the order in which they are measured.
        path: file of records, one JSON object a line.
        seconds: time budget; what does not fit it is recorded as skipped.
    """
    end = time.monotonic() + seconds
    try:
        import torch

        device, missing = "cuda" if torch.cuda.is_available() else "cpu", None
        _append(path, {"torch": torch.__version__})
    except ImportError as error:
        device, missing = "", f"skipped: {error}"
    for workload in workloads:
        note = missing or ("skipped: time budget" if time.monotonic() > end else None)
        results = {} if note else _measured(workload, device)
        for which in DIRECTIONS:
            record = {"contender": "torch", "workload": workload.name, "pass": which}
            _append(path, record | results.get(which, {"note": note}))


def _append(path: pathlib.Path, record: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def _measured(workload: Workload, device: str) -> dict[str, dict[str, Any]]:
    import torch

    results: dict[str, dict[str, Any]] = {}
    torch._dynamo.reset()
    try:
        function, arrays = _BUILDERS[workload.operation](workload, device)
        function = torch.compile(function, dynamic=False)
        # The backward pass is timed again and again on what one forward pass saved.
        torch._functorch.config.donated_buffer = False
        out = function(*arrays)
        cotangent = torch.randn_like(out)

        def forward() -> Any:
            with torch.no_grad():
                return function(*arrays)

        def backward() -> Any:
            return torch.autograd.grad(out, arrays, cotangent, retain_graph=True)

        for which, call in zip(DIRECTIONS, (forward, backward), strict=True):
            results[which] = {"seconds": _seconds_per_call(call, device)}
    except Exception as error:
        # Whatever PyTorch's compilers raise, the other workloads can still be measured.
        text = str(error).strip().splitlines() or [type(error).__name__]
        memory = "out of memory" in str(error).lower()
        note = "out of memory" if memory else f"{type(error).__name__}: {text[0][:160]}"
        for which in DIRECTIONS:
            results.setdefault(which, {"note": f"failed: {note}"})
    if device == "cuda":
        torch.cuda.empty_cache()
    return results


def _seconds_per_call(call: Callable[[], Any], device: str) -> float:
    """Return the median time of a call, in seconds; as `pallas_kernels.timing` for long ones."""
    import torch

    def timed(calls: int) -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            call()
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / calls

    timed(2)
    estimate = timed(3)
    calls = int(min(20, max(1, _ROUND_SECONDS / max(estimate, 1e-9))))
    return statistics.median(timed(calls) for _ in range(7 if calls > 1 else 3))


def _random(workload: Workload, device: str) -> list[Any]:
    """Return query (or seeds), key and value, [B, rows, N, H]."""
    import torch

    w = workload
    dtype = getattr(torch, w.dtype)
    batches = (1 if w.operation == "seed" else w.batch, w.batch, w.batch)
    return [
        torch.randn(b, size, w.heads, w.head_dim, device=device, dtype=dtype, requires_grad=True)
        for b, size in zip(batches, (w.rows, w.keys, w.keys), strict=True)
    ]


def _lengths(lengths: Any, device: str) -> Any:
    import torch

    return torch.as_tensor(lengths, device=device)


def _gdpa(workload: Workload, device: str) -> tuple[Callable[..., Any], list[Any]]:
    import torch

    w = workload
    rows = torch.arange(w.rows, device=device) < _lengths(w.row_lengths, device)[:, None]
    keys = torch.arange(w.keys, device=device) < _lengths(w.key_lengths, device)[:, None]

    def call(query: Any, key: Any, value: Any) -> Any:
        query, key, value = (x.transpose(1, 2) for x in (query, key, value))
        dots = (query @ key.transpose(2, 3)) * w.head_dim**-0.5
        weights = torch.nn.functional.gelu(dots, approximate="tanh")
        if w.lengths == "half" and w.jagged_keys:
            weights = weights * keys[:, None, None]
        out = (weights @ value).transpose(1, 2)
        return out * rows[..., None, None] if w.lengths == "half" else out

    return call, _random(w, device)


def _window(workload: Workload, device: str) -> tuple[Callable[..., Any], list[Any]]:
    import torch
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    w = workload
    lengths = _lengths(w.row_lengths, device)
    half = w.lengths == "half"

    def near(batch: Any, head: Any, row: Any, key: Any) -> Any:
        inside = (row - key).abs() <= w.window
        return inside & (key < lengths[batch]) if half else inside

    mask = create_block_mask(near, w.batch if half else None, None, w.rows, w.rows, device=device)
    steps = torch.arange(w.head_dim // 2, device=device) * (-2.0 / w.head_dim)
    frequencies = 10000.0**steps
    positions = torch.arange(w.rows, device=device, dtype=torch.float32)
    times = torch.rand(w.batch, w.rows, device=device)

    def call(query: Any, key: Any, value: Any) -> Any:
        if w.rotated:
            angles = (positions + times)[..., None] * frequencies
            sin, cos = angles.sin()[:, :, None], angles.cos()[:, :, None]
            query, key = (_rotate(x, sin, cos) for x in (query, key))
        query, key, value = (x.transpose(1, 2) for x in (query, key, value))
        return flex_attention(query, key, value, block_mask=mask).transpose(1, 2)

    return call, _random(w, device)


def _rotate(x: Any, sin: Any, cos: Any) -> Any:
    import torch

    first, second = x.float().chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x.dtype)


def _seed(workload: Workload, device: str) -> tuple[Callable[..., Any], list[Any]]:
    import torch

    w = workload
    valid = torch.arange(w.keys, device=device) < _lengths(w.key_lengths, device)[:, None]
    mask = valid[:, None, None] if w.lengths == "half" else None

    def call(seeds: Any, key: Any, value: Any) -> Any:
        query = seeds.expand(w.batch, -1, -1, -1)
        query, key, value = (x.transpose(1, 2) for x in (query, key, value))
        attention = torch.nn.functional.scaled_dot_product_attention
        return attention(query, key, value, attn_mask=mask).transpose(1, 2)

    return call, _random(w, device)


_BUILDERS = {"gdpa": _gdpa, "window": _window, "seed": _seed}
