"""Draws the training curve of one or more runs.

python -m benchmarks.plot_run --out=training_curve.png runs/base runs/complete_journey
"""

import json
import pathlib

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from absl import app, flags

OUT = flags.DEFINE_string("out", None, "PNG file to write.", required=True)


def read_runs(workdir: pathlib.Path) -> tuple[list[dict], int]:
    """Return the lines of a run's metrics, and its batch size."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    config = json.loads((workdir / "config.json").read_text())
    return [json.loads(line) for line in lines], config["data"]["batch_size"]


def draw(workdirs: list[pathlib.Path], out: pathlib.Path) -> None:
    """Plot training, validation and test NE over the examples seen."""
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for index, workdir in enumerate(workdirs):
        records, batch_size = read_runs(workdir)
        color = f"C{index}"

        def series(key: str, records=records, batch_size=batch_size) -> tuple[list, list]:
            points = [(r["step"] * batch_size / 1e6, r[key]) for r in records if key in r]
            return [x for x, _ in points], [y for _, y in points]

        axes.plot(*series("train/normalized_entropy"), color=color, alpha=0.35, linewidth=1)
        # The last record of a run, which has a test metric, is of the best checkpoint instead.
        curve = [r for r in records if "test/normalized_entropy" not in r]
        x = [r["step"] * batch_size / 1e6 for r in curve if "val/normalized_entropy" in r]
        y = [r["val/normalized_entropy"] for r in curve if "val/normalized_entropy" in r]
        axes.plot(x, y, color=color, marker="o", markersize=3, label=f"{workdir.name}: validation")
        for record in records:
            if "test/normalized_entropy" in record:
                value = record["test/normalized_entropy"]
                axes.axhline(value, color=color, linestyle=":", linewidth=1.2)
                axes.annotate(f"test {value:.3f}", (0, value), color=color, va="bottom", fontsize=9)
    axes.set_xlabel("training examples seen (millions)")
    axes.set_ylabel("normalized entropy (lower is better)")
    axes.set_title("Kunlun on Complete Journey (faint: training, before each update)")
    axes.grid(alpha=0.3)
    axes.legend()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=120)


def main(argv: list[str]) -> None:
    """Plot the working directories given as arguments."""
    if len(argv) < 2:
        raise app.UsageError("expected at least one working directory")
    draw([pathlib.Path(a) for a in argv[1:]], pathlib.Path(OUT.value))


if __name__ == "__main__":
    app.run(main)
