"""Our training step beside PyTorch's, of equal operations: `benchmarks/torch_kunlun.py`.

    pip install -e ".[twin]"
    python -m benchmarks.torch_twin [--size=reference] [--compiled] [--cores=1]

Each contender is a process of its own, all take their steps in turns, and each figure is the median
of the rounds. Examples/s by the clock and by processor time; GFLOP/s counts three times the model's
forward operations (`kunlun_jax.flops`). The ceiling is a float32 product of 2048 x 2048 in JAX.
Random batches at full history length. Our process keeps freed memory, as train.py's does;
"torch, kept" is eager PyTorch with that setting, which no PyTorch program has by default.
"""

import dataclasses
import multiprocessing
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

from kunlun_jax.training.allocator import keep_freed_memory

_KEPT = ("ours", "torch, kept")
if multiprocessing.current_process().name in _KEPT:
    keep_freed_memory()  # before JAX is imported

import numpy as np  # noqa: E402
from absl import app, flags  # noqa: E402

from benchmarks.random_batches import random_batch  # noqa: E402
from benchmarks.report import RESULTS, environment, write_json  # noqa: E402
from benchmarks.twin_sizes import SIZES, Size, experiment, schema  # noqa: E402

_SIZE = flags.DEFINE_string("size", "reference", "One of twin_sizes.SIZES.")
_COMPILED = flags.DEFINE_bool("compiled", False, "Also time torch.compile (minutes to compile).")
_ROUNDS = flags.DEFINE_integer("rounds", 7, "Rounds of which the median counts.")
_STEPS = flags.DEFINE_integer("steps", 3, "Steps of each contender in a round.")
_CORES = flags.DEFINE_integer(
    "cores",
    0,
    "Pin the contenders to so many cores; 0: none is pinned. On a machine that is shared, take 1: "
    "threads that wait for each other spin, which counts as processor time.",
)
_OUT = flags.DEFINE_string("out", None, "Where the JSON goes; by default benchmarks/results.")
_NUM_STEPS = 1000  # of the learning rate's schedule
_PRODUCT = 2048


def ours(size: Size) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return functions that take one of our steps, and that wait for all of them."""
    import jax

    from kunlun_jax.models import create_model
    from kunlun_jax.training.step import create_train_state, make_train_step

    config, described = experiment(size), schema(size)
    batch = random_batch(config, described, size.batch)
    model = create_model(config, described)
    step = make_train_step(model, described, config, num_steps=_NUM_STEPS)
    compiled = jax.jit(step, donate_argnums=0)
    state = [create_train_state(model, config, batch, num_steps=_NUM_STEPS)]

    def take() -> None:
        state[0] = compiled(state[0], batch)

    def wait() -> None:
        jax.block_until_ready(state[0])

    return take, wait


def torch_step(size: Size, *, compile: bool) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return the same for PyTorch, which waits by itself."""
    import jax
    import torch
    from flax import linen as nn

    from benchmarks import torch_kunlun
    from kunlun_jax.models import create_model

    config, described = experiment(size), schema(size)
    batch = random_batch(config, described, size.batch)
    model = create_model(config, described)
    variables: Any = nn.meta.unbox(jax.jit(model.init)(jax.random.key(0), batch))
    twin = torch_kunlun.TorchKunlun.of(
        config.model, described, variables["params"], variables["tables"]["embedding"]
    )
    optimizer = torch_kunlun.Optimizer(twin, config.optimizer)
    arrays = torch_kunlun.tensors(batch)
    if compile:
        twin.logits = torch.compile(twin.logits)

    def take() -> None:
        torch_kunlun.loss(twin, arrays).backward()
        optimizer.step()

    return take, lambda: None


def ceiling() -> tuple[Callable[[], None], Callable[[], None]]:
    """Return functions that multiply two large matrices, and that wait."""
    import jax

    x = jax.random.normal(jax.random.key(0), (_PRODUCT, _PRODUCT))
    product = jax.jit(lambda a: a @ a)
    results = [x]

    def take() -> None:
        results[0] = product(x)

    def wait() -> None:
        jax.block_until_ready(results[0])

    return take, wait


def contender(name: str, size: Size, cores: int, pipe: Any) -> None:
    """Take as many steps as are asked for; answer with seconds by the clock and of processors."""
    if cores:  # before JAX and PyTorch count the threads that they start
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    makers: dict[str, Callable[[], tuple[Callable[[], None], Callable[[], None]]]] = {
        "ceiling": ceiling,
        "ours": lambda: ours(size),
        "torch": lambda: torch_step(size, compile=False),
        "torch, kept": lambda: torch_step(size, compile=False),
        "torch.compile": lambda: torch_step(size, compile=True),
    }
    take, wait = makers[name]()
    while steps := pipe.recv():
        start, busy = time.perf_counter(), time.process_time()
        for _ in range(steps):
            take()
        wait()
        elapsed, worked = time.perf_counter() - start, time.process_time() - busy
        pipe.send((elapsed / steps, worked / steps))


def measure(size: Size, names: list[str]) -> dict[str, np.ndarray]:
    """Return seconds a step by contender, [rounds, 2]: by the clock, and of processors."""
    context = multiprocessing.get_context("spawn")
    pipes = {}
    for name in names:
        here, there = context.Pipe()
        arguments = (name, size, _CORES.value, there)
        context.Process(target=contender, args=arguments, name=name, daemon=True).start()
        there.close()  # so that the end of a contender that fails is seen
        here.send(1)  # compiles
        here.recv()
        pipes[name] = here
    times: dict[str, list[Any]] = {name: [] for name in names}
    for _ in range(_ROUNDS.value):
        for name, pipe in pipes.items():
            pipe.send(_STEPS.value)
            times[name].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send(0)
    return {name: np.asarray(rounds) for name, rounds in times.items()}


def main(argv: list[str]) -> None:
    """Measure, print the table, write the JSON."""
    from kunlun_jax.flops import flops_by_module

    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    size = SIZES[_SIZE.value]
    names = [
        "ceiling",
        "ours",
        "torch",
        "torch, kept",
        *(["torch.compile"] if _COMPILED.value else []),
    ]
    times = measure(size, names)
    forward = sum(flops_by_module(experiment(size).model, schema(size)).values())
    flops = dict.fromkeys(names, 3 * forward * size.batch) | {"ceiling": 2 * _PRODUCT**3}
    rows = {}
    print(f"{_SIZE.value}: {forward / 1e6:.1f} MFLOP forward an example, batches of {size.batch}")
    print(f"{'':15}{'ex/s':>8}{'ex/CPU s':>10}{'GFLOP/s':>9}{'a CPU s':>9}{'ours/it, CPU':>14}")
    ratio = {name: np.median(t[:, 1] / times["ours"][:, 1]) for name, t in times.items()}
    for name in names:
        clock, processor = np.median(times[name], axis=0)
        rows[name] = {
            "examples_per_second": size.batch / clock,
            "examples_per_processor_second": size.batch / processor,
            "gflops": flops[name] / clock / 1e9,
            "gflops_per_processor_second": flops[name] / processor / 1e9,
            "times_as_fast_as_it_by_processor": ratio[name],
            "rounds": times[name].tolist(),
        }
        examples = ("", "") if name == "ceiling" else (
            f"{size.batch / clock:.0f}", f"{size.batch / processor:.0f}"
        )  # fmt: skip
        print(
            f"{name:15}{examples[0]:>8}{examples[1]:>10}{rows[name]['gflops']:>9.0f}"
            f"{rows[name]['gflops_per_processor_second']:>9.0f}"
            f"{'' if name == 'ceiling' else f'{ratio[name]:.2f}':>14}"
        )
    content = {
        "benchmark": "torch_twin",
        "size": dataclasses.asdict(size),
        "cores": _CORES.value,
        "mflop_forward": forward / 1e6,
        "contenders": rows,
        "environment": environment(("jax", "jaxlib", "numpy", "torch")),
    }
    write_json(pathlib.Path(_OUT.value or RESULTS / f"torch_twin_{_SIZE.value}.json"), content)


if __name__ == "__main__":
    app.run(main)
