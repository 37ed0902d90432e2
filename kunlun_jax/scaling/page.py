"""The page of a study, in Markdown, made from its records alone; what is not there is missing."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from kunlun_jax.scaling.analysis import Findings
from kunlun_jax.scaling.bootstrap import Interval
from kunlun_jax.scaling.fit import REFERENCE_FLOPS
from kunlun_jax.scaling.law_tables import law_sections
from kunlun_jax.scaling.learning_curves import learning_curves
from kunlun_jax.scaling.markdown import megaflops, show, table
from kunlun_jax.scaling.records import Record
from kunlun_jax.scaling.results import Results
from kunlun_jax.scaling.study import RATE, StudyConfig, planned_runs

MISSING = "missing"
NE, AUC = "normalized_entropy", "auc_roc"


class Speeds(NamedTuple):
    """Speeds of the ablations against the subject's, measured side by side.

    Attributes:
        cells: By name of the ablation, as the table shows it.
        source: How they were measured, a sentence.
    """

    cells: Mapping[str, str]
    source: str


def render(
    results: Results,
    findings: Findings | None,
    *,
    command: str,
    plot: str | None,
    references: Sequence[tuple[str, str, str]] = (),
    speeds: Speeds | None = None,
) -> str:
    """Return the page.

    Args:
        results: What the study measured.
        findings: What its laws say; None: not enough runs for them.
        command: The command that carries it out.
        plot: File name of the picture beside the page; None: there is none.
        references: Name, NE and AUC of what the models are to be compared with.
        speeds: Of the ablations; None: those of the runs, which hardly compare.
    """
    study = results.study
    parts = [
        f"# {study.title}",
        f"```bash\n{command}\n```",
        _setting(results),
        "## Models",
        _quality(results, references),
    ]
    if results.records:
        parts += ["## Cost", _cost(results)]
    if study.ablations:
        parts += [f"## Ablations of {study.subject}", _ablations(results, speeds)]
    curves = learning_curves(results)
    if curves is not None:
        parts += ["## While training", curves]
    if study.lawful:
        parts.append("## Scaling")
        parts += _scaling(findings, plot)
    return "\n\n".join(parts) + "\n"


def _setting(results: Results) -> str:
    study = results.study
    config, rule = planned_runs(study)[0].config, study.learning_rate
    rate = study.experiment["optimizer"]["learning_rate"]
    limit = config.data.max_train_examples
    pool = f"{limit:,} training examples" if limit else "the training examples"
    machines = sorted(
        {
            f"{e['num_cpus']} x {e['processor']}" if e["device"] == "cpu" else e["device"]
            for e in (record.content["environment"] for record in results.records.values())
        }
    )
    hours = sum(record.content["cpu_minutes"] for record in results.records.values()) / 60
    return (
        f"{len(results.records)} of {results.num_runs} runs are there, {hours:.1f} processor hours "
        f"({', '.join(machines) or 'no machine'}, shared with other work). Every run sees "
        f"{config.data.num_epochs:.0%} of {pool}, each once, in batches of "
        f"{config.data.batch_size}, and is measured on the whole test split, at the best of its "
        "evaluations on validation (which may be the last step alone); runs of one seed see the "
        "same examples in the same order. Learning rate: "
        f"{rate:g} * ({rule.reference_dim} / dim)^{rule.exponent:g}{_other_rates(study, rate)}."
    )


def _other_rates(study: StudyConfig, rate: float) -> str:
    """Return for which families another rate is scaled.

    Args:
        study: The study.
        rate: The experiment's.
    """
    own = [
        f"{size[RATE]:g} ({family.name})"
        for family in study.families
        for size in family.sizes
        if RATE in size
    ]
    return f"; in place of {rate:g}, {', '.join(own)}" if own else " for every family"


def _quality(results: Results, references: Sequence[tuple[str, str, str]]) -> str:
    study = results.study
    rows: list[Sequence[str]] = [(name, "", ne, auc, "", "", "") for name, ne, auc in references]
    for family in study.families:
        runs = list(results.runs(family.name).values())
        is_subject = family.name == study.subject
        rows.append(
            (
                f"**{family.name}**" if is_subject else family.name,
                f"{len(runs)}",
                _over_seeds([run.value(NE) for run in runs]),
                _over_seeds([run.value(AUC) for run in runs]),
                f"{runs[0].standard_error(AUC):.4f}" if runs else MISSING,
                *(
                    "" if is_subject else _optional(results.difference(family.name, metric))
                    for metric in (NE, AUC)
                ),
            )
        )
    header = (
        "model",
        "seeds",
        "test NE",
        "test AUC",
        "s.e. of the AUC (users)",
        f"NE: {study.subject} - model",
        f"AUC: {study.subject} - model",
    )
    return table(header, rows)


def _cost(results: Results) -> str:
    rows = []
    for family in results.study.families:
        runs = list(results.runs(family.name).values())

        def cell(key: str, form: Callable[[float], str], runs: list[Record] = runs) -> str:
            values = [run.content[key] for run in runs if run.content[key] is not None]
            return form(statistics.fmean(values)) if values else MISSING

        commits = sorted({str(run.content["environment"]["git_commit"])[:7] for run in runs})
        rows.append(
            (
                family.name,
                cell("parameters", "{:,.0f}".format),
                cell("table_parameters", "{:,.0f}".format),
                cell("flops", megaflops),
                cell("examples", "{:,.0f}".format),
                cell("examples_per_second", "{:,.0f}".format),
                cell("examples_per_cpu_second", "{:,.0f}".format),
                cell("minutes", "{:.1f}".format),
                cell("cpu_minutes", "{:.1f}".format),
                ", ".join(commits) or MISSING,
            )
        )
    header = (
        "model",
        "parameters",
        "of tables",
        "FLOPs/example",
        "examples",
        "examples/s",
        "examples/processor s",
        "minutes",
        "processor minutes",
        "commit",
    )
    return table(header, rows)


def _ablations(results: Results, speeds: Speeds | None) -> str:
    study = results.study
    subject = results.runs(study.subject)
    rows = []
    for ablation in study.ablations:
        runs = results.runs(ablation.name)
        seeds = sorted(set(runs) & set(subject))
        pairs = [(runs[seed], subject[seed]) for seed in seeds]
        gap = results.difference(ablation.name, NE)
        rows.append(
            (
                ablation.name.replace("_", " "),
                "; ".join(f"`{key} = {value!r}`" for key, value in ablation.changes.items()),
                f"{len(seeds)}",
                _over_seeds([runs[seed].value(NE) for seed in seeds]),
                MISSING if gap is None else show(_relative(gap, subject, seeds), 2),
                _change(pairs, "flops"),
                _change(pairs, "examples_per_cpu_second")
                if speeds is None
                else speeds.cells.get(ablation.name, MISSING),
                ablation.paper,
            )
        )
    header = (
        "ablation",
        "setting",
        "seeds",
        "test NE",
        "NE worse by, %",
        "FLOPs",
        "examples/processor s",
        "the paper (internal data)",
    )
    source = (
        "Speeds are of runs at different times: where other work shared the machine they hardly "
        "compare, and FLOPs do."
        if speeds is None
        else speeds.source
    )
    return "\n\n".join([table(header, rows), source, *_scatter(study.subject, subject)])


def _scatter(name: str, runs: dict[int, Record]) -> list[str]:
    """Say how far seeds alone move the subject, which the interval of one seed cannot hold."""
    values = [run.value(NE) for run in runs.values()]
    if len(values) < 2:
        return []
    share = statistics.stdev(values) / statistics.fmean(values)
    return [
        f"Seeds alone move {name}'s NE by {share:.2%} (standard deviation of {len(values)}), and "
        f"the difference of two runs by {share * math.sqrt(2):.2%}. An interval of one seed is of "
        "users alone and does not contain that: a change that is smaller says nothing."
    ]


def _relative(gap: Interval, subject: dict[int, Record], seeds: list[int]) -> Interval:
    """Turn subject - ablation into how much worse the ablation is, in percent of the subject."""
    unit = -100.0 / statistics.fmean(subject[seed].value(NE) for seed in seeds)
    ends = (gap.estimate, gap.high, gap.low)  # the sign turns, and with it the ends
    return Interval(*(None if end is None else unit * end for end in ends))


def _change(pairs: list[tuple[Record, Record]], key: str) -> str:
    both = [(a.content[key], b.content[key]) for a, b in pairs]
    ratios = [a / b for a, b in both if a is not None and b is not None]
    return f"{statistics.fmean(ratios) - 1:+.1%}" if ratios else MISSING


def _scaling(findings: Findings | None, plot: str | None) -> list[str]:
    if findings is None:
        return [f"The laws are {MISSING}: no seed has a run of every family and size yet."]
    parts = [
        f"C is the forward FLOPs per example, C_0 = {REFERENCE_FLOPS:g}.",
        f"![NE over FLOPs]({plot})" if plot else "(No picture: it needs the extra `plot`.)",
    ]
    for heading, text in law_sections(findings):
        parts += [f"### {heading}", text]
    return parts


def _over_seeds(values: list[float]) -> str:
    if not values:
        return MISSING
    if len(values) == 1:
        return f"{values[0]:.4f}"
    return f"{statistics.fmean(values):.4f} ± {statistics.stdev(values):.4f}"


def _optional(value: Interval | None) -> str:
    return MISSING if value is None else show(value)
