"""What laws say of a study, in Markdown, made from its findings alone."""

from kunlun_jax.scaling.analysis import Family, Findings
from kunlun_jax.scaling.markdown import megaflops, show, table

_FORMULAS = {
    "log": "NE(C) = NE_0 - eta ln(C / C_0)",
    "power": "NE(C) = a + b (C / C_0)^-c",
}


def law_sections(findings: Findings) -> list[tuple[str, str]]:
    """Return (heading, text) of every part.

    Args:
        findings: What the study found.
    """
    return [
        ("Sizes", _measured(findings)),
        ("The largest size, predicted from the smaller ones", _held_out(findings)),
        *_laws(findings),
        ("Scaling efficiency", f"{_ratios(findings)}\n\n{_reading(findings)}"),
    ]


def _measured(findings: Findings) -> str:
    rows = [
        (_name(family, findings), megaflops(flops), show(ne), f"{min(runs):.4f} .. {max(runs):.4f}")
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
                    _name(family, findings),
                    law,
                    megaflops(family.flops[-1]),
                    show(held_out.predicted),
                    show(family.ne[-1]),
                    show(held_out.gap),
                    "yes" if held_out.within else "**no**",
                )
            )
    header = ("family", "law", "FLOPs/example", "predicted", "measured", "gap", "predicted?")
    return table(header, rows)


def _laws(findings: Findings) -> list[tuple[str, str]]:
    parts = []
    for law, formula in _FORMULAS.items():
        names = tuple(findings.families[0].laws[law].parameters)
        rows = [
            (
                _name(family, findings),
                *(show(family.laws[law].parameters[key]) for key in names),
                f"{family.laws[law].residual:.5f}",
            )
            for family in findings.families
        ]
        parts.append((formula, table(("family", *names, "residual"), rows)))
    return parts


def _ratios(findings: Findings) -> str:
    rows = [(other, show(ratio, 2)) for other, ratio in findings.eta_ratios.items()]
    header = ("baseline", f"eta of {findings.subject} / eta of the baseline")
    return table(header, rows) if rows else "No family to compare with."


def _reading(findings: Findings) -> str:
    num_seeds = len(findings.families[0].runs[0])
    spread = (
        "A single seed says nothing about seeds: the intervals are of users alone."
        if num_seeds == 1
        else f"The {num_seeds} seeds of a family are taken to scatter alike at all its sizes."
    )
    return (
        f"Intervals hold {findings.confidence:.0%} of the bootstrap draws of test users (the same "
        f"for all runs of a draw) and seeds. {spread} They say how far chance could have moved the "
        "points, not whether a law is the right one: that is what the gap (predicted minus "
        "measured, whose interval holds zero where the law predicts) and the residual are for. "
        "Most of the width of an NE's interval is shared by all runs, which meet the same users; "
        "gaps and etas do not contain it. A ratio is unbounded above where the baseline's eta may "
        "be zero."
    )


def _name(family: Family, findings: Findings) -> str:
    return f"**{family.name}**" if family.name == findings.subject else family.name
