"""The page of a study, in Markdown, made from its findings alone."""

from collections.abc import Sequence
from typing import Any

from kunlun_jax.scaling.analysis import Family, Findings
from kunlun_jax.scaling.bootstrap import Interval
from kunlun_jax.scaling.fit import REFERENCE_FLOPS
from kunlun_jax.scaling.study import StudyConfig, plan

_FORMULAS = {
    "log": "NE(C) = NE_0 - eta ln(C / C_0)",
    "power": "NE(C) = a + b (C / C_0)^-c",
}


def render(
    study: StudyConfig, findings: Findings, *, command: str, plot: str | None, device: str
) -> str:
    """Return the page.

    Args:
        study: What was carried out.
        findings: What it found.
        command: The command that made it.
        plot: File name of the picture beside the page; None: there is none.
        device: What the last run ran on.
    """
    parts = [
        f"# Scaling study: {_data(study)}",
        f"```bash\n{command}\n```",
        _setting(study, device),
        f"![NE over FLOPs]({plot})" if plot else "(No picture: it needs the extra `plot`.)",
        "## Measured",
        _measured(findings),
        "## The largest size, predicted from the smaller ones",
        _held_out(findings),
        *_laws(findings),
        "## Scaling efficiency",
        _ratios(findings),
        "## How to read it",
        _reading(study, findings),
    ]
    return "\n\n".join(parts) + "\n"


def _data(study: StudyConfig) -> str:
    return study.experiment["data"]["source"].replace("_", " ")


def _setting(study: StudyConfig, device: str) -> str:
    config, rule = plan(study)[0].config, study.learning_rate
    rate = study.experiment["optimizer"]["learning_rate"]
    limit = config.data.max_train_examples
    pool = f"{limit:,} training examples" if limit else "the training examples"
    return (
        f"{len(study.families)} families, {len(study.families[0].sizes)} sizes, "
        f"{len(study.seeds)} seeds; every run sees {config.data.num_epochs:.0%} of {pool}, each "
        f"once, in batches of {config.data.batch_size}; runs of one seed see the same examples in "
        f"the same order. Learning rate: {rate:g} * ({rule.reference_dim} / dim)^{rule.exponent:g} "
        f"for every family, not tuned. C is the forward FLOPs per example, "
        f"C_0 = {REFERENCE_FLOPS:g}. Device: {device}."
    )


def _measured(findings: Findings) -> str:
    rows = [
        (name(family, findings), _flops(flops), _value(ne), f"{min(runs):.4f} .. {max(runs):.4f}")
        for family in findings.families
        for flops, ne, runs in zip(family.flops, family.ne, family.runs, strict=True)
    ]
    return table(("family", "FLOPs/example", "test NE, mean of seeds", "seeds"), rows)


def _held_out(findings: Findings) -> str:
    rows = []
    for family in findings.families:
        for law, fitted in family.laws.items():
            held_out = fitted.held_out
            rows.append(
                (
                    name(family, findings),
                    law,
                    _flops(family.flops[-1]),
                    _value(held_out.predicted),
                    _value(family.ne[-1]),
                    _value(held_out.gap),
                    "yes" if held_out.within else "**no**",
                )
            )
    header = ("family", "law", "FLOPs/example", "predicted", "measured", "gap", "predicted?")
    return table(header, rows)


def _laws(findings: Findings) -> list[str]:
    parts = []
    for law, formula in _FORMULAS.items():
        names = tuple(findings.families[0].laws[law].parameters)
        rows = [
            (
                name(family, findings),
                *(_value(family.laws[law].parameters[key]) for key in names),
                f"{family.laws[law].residual:.5f}",
            )
            for family in findings.families
        ]
        parts += [f"## {formula}", table(("family", *names, "residual"), rows)]
    return parts


def _ratios(findings: Findings) -> str:
    rows = [(other, _value(ratio, 2)) for other, ratio in findings.eta_ratios.items()]
    header = ("baseline", f"eta of {findings.subject} / eta of the baseline")
    return table(header, rows) if rows else "No family to compare with."


def _reading(study: StudyConfig, findings: Findings) -> str:
    spread = (
        "A single seed says nothing about seeds: the intervals are of users alone."
        if len(study.seeds) == 1
        else "Seeds are taken to scatter alike at all sizes of a family."
    )
    return (
        f"Intervals hold {findings.confidence:.0%} of {study.bootstrap.num_draws} bootstrap draws "
        f"of test users (the same for all runs of a draw) and seeds. {spread} They say how far "
        "chance could have moved the points, not whether a law is the right one: that is what the "
        "gap (predicted minus measured, whose interval holds zero where the law predicts) and the "
        "residual are for. Most of the width of an NE's interval is shared by all runs, which meet "
        "the same users; gaps and etas do not contain it. A ratio is unbounded above where the "
        "baseline's eta may be zero."
    )


def name(family: Family, findings: Findings) -> str:
    """Return the family's name, the subject's in bold."""
    return f"**{family.name}**" if family.name == findings.subject else family.name


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _flops(value: float) -> str:
    return f"{value / 1e6:,.2f} M"


def _value(value: Interval, digits: int = 4) -> str:
    estimate, low, high = (
        "unbounded" if end is None else f"{end:.{digits}f}"
        for end in (value.estimate, value.low, value.high)
    )
    return f"{estimate} [{low}, {high}]"
