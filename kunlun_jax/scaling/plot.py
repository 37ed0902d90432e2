"""The picture of a study: NE over FLOPs, measured, fitted and predicted."""

import pathlib

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from kunlun_jax.scaling.analysis import Family, Findings
from kunlun_jax.scaling.fit import REFERENCE_FLOPS


def draw(findings: Findings, title: str, path: pathlib.Path) -> None:
    """Write a PNG: one panel a law, both of the same runs.

    Args:
        findings: What the study found.
        title: Says which data, and how much of it.
        path: The file.
    """
    figure, panels = plt.subplots(1, 2, figsize=(12, 5), sharey=True, layout="constrained")
    formulas = {"log": r"$NE_0 - \eta\,\ln C$", "power": r"$a + b\,C^{-c}$"}
    for axes, (law, formula) in zip(panels, formulas.items(), strict=True):
        for index, family in enumerate(findings.families):
            _draw_family(axes, family, law, f"C{index}")
        axes.set_xscale("log")
        axes.set_xlabel("forward FLOPs per example")
        axes.set_title(f"{formula}, fitted without the largest size")
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize=9)
    panels[0].set_ylabel("test normalized entropy (lower is better)")
    figure.suptitle(
        f"{title}\ndots: runs; circles: means of seeds; hollow: the largest size, held out; "
        f"bars: where it was predicted, {findings.confidence:.0%}, given its users",
        fontsize=10,
    )
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _draw_family(axes: Axes, family: Family, law: str, color: str) -> None:
    flops = np.array(family.flops)
    means = np.array(family.runs).mean(axis=1)
    for size, runs in zip(flops, family.runs, strict=True):
        axes.plot([size] * len(runs), runs, ".", color=color, alpha=0.4, markersize=4)
    axes.plot(flops[:-1], means[:-1], "o", color=color, markersize=6)
    axes.plot(flops[-1:], means[-1:], "o", color=color, markersize=7, fillstyle="none")
    held_out = family.laws[law].held_out
    values = {name: value.estimate or 0.0 for name, value in held_out.parameters.items()}
    x = np.geomspace(flops[0], flops[-1] * 1.15, 100)
    if law == "log":
        y = values["ne_0"] - values["eta"] * np.log(x / REFERENCE_FLOPS)
        label = f"{family.name}: η = {values['eta']:.4f}"
    else:
        y = values["a"] + values["b"] * (x / REFERENCE_FLOPS) ** -values["c"]
        label = f"{family.name}: a = {values['a']:.3f}, c = {values['c']:.2f}"
    axes.plot(x, y, color=color, label=label, linewidth=1.2)
    gap = held_out.gap  # unlike the prediction itself, free of what all runs share
    if gap.low is not None and gap.high is not None:
        low, high = means[-1] + gap.low, means[-1] + gap.high
        axes.vlines(flops[-1], low, high, color=color, linewidth=4, alpha=0.35)
