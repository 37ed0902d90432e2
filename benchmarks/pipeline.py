"""Examples per second of the data pipeline.

    python -m benchmarks.pipeline --dataset=datasets/complete_journey

Prints one row per setting: in the caller's thread, and with threads that make batches ahead.
The rate per second of processor time does not suffer from other programs on the machine.
"""

import pathlib
import time

from absl import app, flags

from benchmarks.report import RESULTS, environment, write_json
from kunlun_jax.data import BatchSource, Dataset, make_train_iterator

_DATASET = flags.DEFINE_string("dataset", "datasets/complete_journey", "A built data set.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 512, "Examples per batch.")
_BATCHES = flags.DEFINE_integer("batches", 200, "Batches per measurement.")
_OUT = flags.DEFINE_string("out", str(RESULTS / "pipeline.json"), "Where the JSON goes.")
THREADS = (0, 1, 2)
WARM_UP = 5


def measure(source: BatchSource, num_threads: int) -> dict[str, float]:
    """Time a fresh iterator, after a few batches of warm-up.

    Returns:
        Examples per second, and per second of processor time of the whole process.
    """
    iterator = make_train_iterator(source, num_threads=num_threads)
    for _ in range(WARM_UP):
        next(iterator)
    start, processor_start = time.perf_counter(), time.process_time()
    for _ in range(_BATCHES.value):
        next(iterator)
    examples = _BATCHES.value * _BATCH_SIZE.value
    return {
        "examples_s": examples / (time.perf_counter() - start),
        "examples_processor_s": examples / (time.process_time() - processor_start),
    }


def main(argv: list[str]) -> None:
    """Measure every setting, print the table, write the JSON."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    start = time.perf_counter()
    dataset = Dataset.open(_DATASET.value)
    opened = time.perf_counter() - start
    dataset.columns.confirm()  # a thread of its own, once a process: not part of a batch
    verified = time.perf_counter() - start - opened
    rows = []
    print(f"opened {dataset.schema.name} in {opened:.3f} s, verified in {verified:.1f} s")
    print(f"{'events per example':>18} {'threads':>7} {'examples/s':>10} {'per CPU s':>10}")
    full = {stream.name: stream.max_len for stream in dataset.schema.streams}
    for max_lens in (full, {name: max(1, length // 4) for name, length in full.items()}):
        source = BatchSource(
            dataset, split="train", batch_size=_BATCH_SIZE.value, max_lens=max_lens
        )
        for num_threads in THREADS:
            rates = measure(source, num_threads)
            rows.append({"max_lens": max_lens, "num_threads": num_threads, **rates})
            values = " ".join(f"{rate:>10.0f}" for rate in rates.values())
            print(f"{sum(max_lens.values()):>18} {num_threads:>7} {values}", flush=True)
    content = {
        "benchmark": "pipeline",
        "dataset": dataset.schema.name,
        "batch_size": _BATCH_SIZE.value,
        "open_seconds": opened,
        "verify_seconds": verified,
        "rows": rows,
        "environment": environment(("numpy", "grain")),
    }
    write_json(pathlib.Path(_OUT.value), content)


if __name__ == "__main__":
    app.run(main)
