"""Writes docs/results.md and its pictures from the committed records of runs, and nothing else.

    python -m benchmarks.results_page

What has not been run yet is shown as missing; the studies' own commands run it.
"""

import importlib
import json
from collections.abc import Callable
from typing import Any

from absl import app

from benchmarks.report import RESULTS, ROOT
from benchmarks.results_notes import AUDITED, NOTES
from kunlun_jax.audit.report import markdown as audit_page
from kunlun_jax.scaling.analysis import Findings
from kunlun_jax.scaling.bootstrap import Interval
from kunlun_jax.scaling.markdown import show, table
from kunlun_jax.scaling.page import AUC, MISSING, NE, Speeds, render
from kunlun_jax.scaling.report import draw_laws, find_laws
from kunlun_jax.scaling.results import Results, collect
from kunlun_jax.scaling.study import study_config

RUNS, DOCS = RESULTS / "runs", ROOT / "docs"
STUDIES = (
    "complete_journey_cross",
    "complete_journey_rates",
    "synthetic_needs",
    "complete_journey",
    "movielens_1m",
    "movielens_1m_rechorus",
    "synthetic",
)
# Runs of whole configurations, which stand beside the trees that read the same columns.
WHOLE_RUNS = {
    "base": "configs/base.py",
    "complete_journey": "configs/complete_journey.py",
    "complete_journey_second_pass": "configs/complete_journey.py, after a second pass",
}
_CROSS = "Complete Journey, with cross features"
# Published for ReChorus's ML_1MCTR (github.com/THUwangcy/ReChorus), means of five seeds.
RECHORUS = {
    "FM": 0.7661,
    "DeepFM": 0.7736,
    "AutoInt": 0.7785,
    "DCNv2": 0.7870,
    "DIEN": 0.7874,
    "DIN": 0.7904,
    "CAN": 0.7909,
    "SAM": 0.7919,
}
CONTEXT_TREES = "trees: context"
SAME_COLUMNS = "trees: context + popularity + counts"
MEANS_AUC = 0.7863  # of the film's mean plus the user's, on MovieLens-1M's test split
# kunlun_jax.data.sources.synthetic.bayes_normalized_entropy of the options of either study
SYNTHETIC_BAYES_NE, NEEDS_BAYES_NE = 0.7213, 0.7084

# What benchmarks/ablation_speeds.py measures: speeds beside the ablations of Complete Journey.
SPEEDS = RESULTS / "ablation_speeds.json"
SPEEDS_SOURCE = (
    "Speeds: `python -m benchmarks.ablation_speeds`, training steps in turns with kunlun's in one "
    "process; median of the rounds, and their middle half. They are of training without a part: "
    "x there is 1 / (1 + x) - 1 for having it, which is what the paper reports."
)

Reference = tuple[str, str, str]


def counting_rows() -> dict[str, dict[str, Any]]:
    """Return what counting reaches on Complete Journey, by name."""
    content = json.loads((RESULTS / "counting_baselines_complete_journey.json").read_text())
    return {row["name"]: row for row in content["rows"]}


def references() -> dict[str, list[Reference]]:
    """Return, by study, the rows that its models stand beside."""
    return {
        "complete_journey": [
            (name, f"{row['normalized_entropy']:.4f}", f"{row['auc_roc']:.4f}")
            for name, row in counting_rows().items()
        ],
        "movielens_1m": [("the film's mean + the user's mean", "", f"{MEANS_AUC:.4f}")],
        "synthetic": [("the true probabilities", f"{SYNTHETIC_BAYES_NE:.4f}", "")],
        "synthetic_needs": [("the true probabilities", f"{NEEDS_BAYES_NE:.4f}", "")],
        "movielens_1m_rechorus": [
            (f"{name}, published", "", f"{auc:.4f}") for name, auc in RECHORUS.items()
        ],
    }


def measured_speeds() -> Speeds | None:
    """Return the speeds of the ablations; None: nobody has measured them side by side."""
    if not SPEEDS.exists():
        return None
    cells = {}
    for name, result in json.loads(SPEEDS.read_text())["ablations"].items():
        low, median, high = result["gain"]["processor"]
        cells[name] = f"{median:+.1%} [{low:+.1%}, {high:+.1%}]"
    return Speeds(cells, SPEEDS_SOURCE)


def claims(results: dict[str, Results], findings: dict[str, Findings | None]) -> str:
    """Return the table of what was to be shown, and whether it is; what is not comes first."""
    journey, movies = results["complete_journey"], results["movielens_1m"]
    rows: list[tuple[str, ...]] = [_on_all_examples(), *map(_whole_run, WHOLE_RUNS)]
    for each in (results["complete_journey_cross"], results["synthetic_needs"], journey):
        peers = [family.name for family in each.study.families if family.name != "kunlun"]
        rows += [_difference(each, name, NE, "below") for name in peers]
    trees = counting_rows()[CONTEXT_TREES][NE]
    rows += [
        _level(journey, family.name, NE, f"below {trees:.4f}, trees on context", trees.__gt__)
        for family in journey.study.families
    ]
    for name, found in findings.items():
        for family in () if found is None else found.families:
            for law, fitted in family.laws.items():
                rows.append(
                    (
                        results[name].study.title,
                        f"{family.name}: the {law} law predicts its largest size",
                        _YES if fitted.held_out.within else _NO,
                        f"gap {show(fitted.held_out.gap)}",
                    )
                )
    rows.append(_floor(results["synthetic"], findings["synthetic"]))
    goal = MEANS_AUC + 0.02
    rows.append(_level(movies, "kunlun", AUC, f"above {goal:.4f}", goal.__lt__))
    rows += [
        _difference(movies, family.name, AUC, "above")
        for family in movies.study.families
        if family.name != "kunlun"
    ]
    rows.sort(key=lambda row: (_NO, MISSING, _YES).index(row[2]))
    return table(("data", "claim", "holds?", "measured"), rows)


def _of_whole_run(name: str) -> float:
    """Return the test NE of the recorded run of a whole configuration."""
    return _recorded_run(name)["best_checkpoint"][f"test/{NE}"]


def _recorded_run(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}_run.json").read_text())


def _on_all_examples() -> tuple[str, ...]:
    """Return the claim that Kunlun is better than DIN at equal FLOPs, on every example once."""
    names = "complete_journey", "complete_journey_din"
    claim = "on all training examples, at equal FLOPs: kunlun's NE is below din's"
    first, second = (_recorded_run(name)["source"] for name in names)
    if first != second:
        return _CROSS, claim, MISSING, "din has not been run on the columns of today"
    kunlun, din = map(_of_whole_run, names)
    measured = f"{kunlun:.4f} against {din:.4f}, one seed"
    return _CROSS, claim, _YES if kunlun < din else _NO, measured


def _whole_run(name: str) -> tuple[str, ...]:
    """Return the claim that a configuration is better than trees with the same columns."""
    found, trees = _of_whole_run(name), counting_rows()[SAME_COLUMNS][NE]
    claim = f"{WHOLE_RUNS[name]}: test NE below {trees:.4f}, trees on all examples and columns"
    return _CROSS, claim, _YES if found < trees else _NO, f"{found:.4f}, one seed"


def _level(
    results: Results, name: str, metric: str, claim: str, holds: Callable[[float], bool]
) -> tuple[str, ...]:
    """Return a claim about the mean over seeds of one model."""
    values = [run.value(metric) for run in results.runs(name).values()]
    claim = f"{name}: test {_NAMES[metric]} {claim}"
    if not values:
        return results.study.title, claim, MISSING, ""
    mean = sum(values) / len(values)
    verdict = _YES if holds(mean) else _NO
    return results.study.title, claim, verdict, f"{mean:.4f}, {len(values)} seed(s)"


def _difference(results: Results, name: str, metric: str, side: str) -> tuple[str, ...]:
    """Return a claim about Kunlun and another model at equal FLOPs."""
    gap = results.difference(name, metric)
    claim = f"kunlun's {_NAMES[metric]} is {side} {name}'s"
    if gap is None:
        return results.study.title, claim, MISSING, ""
    verdict = _YES if _lies(gap, side) else _NO
    seeds = set(results.runs(results.study.subject)) & set(results.runs(name))
    return results.study.title, claim, verdict, f"{show(gap)}, {len(seeds)} seed(s)"


def _floor(results: Results, findings: Findings | None) -> tuple[str, ...]:
    """Return the claim that endless compute would reach the best NE there is, which is known."""
    claim = f"kunlun: the power law's floor a may be the best NE there is, {SYNTHETIC_BAYES_NE}"
    families = () if findings is None else findings.families
    for family in families:
        if family.name == results.study.subject:
            floor = family.laws["power"].parameters["a"]
            verdict = _YES if floor.contains(SYNTHETIC_BAYES_NE) else _NO
            return results.study.title, claim, verdict, f"a {show(floor)}"
    return results.study.title, claim, MISSING, ""


def _lies(gap: Interval, side: str) -> bool:
    """Return whether a whole interval lies on one side of 0."""
    if side == "below":
        return gap.high is not None and gap.high < 0
    return gap.low is not None and gap.low > 0


_NAMES = {NE: "NE", AUC: "AUC"}
_YES, _NO = "yes", "**no**"


def write_page() -> str:
    """Write the page and its pictures; returns the page."""
    results, findings, parts = {}, {}, []
    for name in STUDIES:
        study = study_config(
            importlib.import_module(f"configs.scaling.{name}").get_config().to_dict()
        )
        results[name] = collect(study, RUNS / name)
        findings[name] = found = find_laws(results[name])
        picture = DOCS / f"scaling_{name}.png"
        drawn = found is not None and draw_laws(results[name], found, picture)
        command = (
            f"python -m kunlun_jax.scaling --study=configs/scaling/{name}.py \\\n"
            f"    --records={(RUNS / name).relative_to(ROOT)}"
        )
        page = render(
            results[name],
            found,
            command=command,
            plot=picture.name if drawn else None,
            references=references().get(name, ()),
            speeds=measured_speeds() if name == "complete_journey" else None,
        )
        parts.append(page.replace("\n#", "\n##").replace("#", "##", 1))
        if name in NOTES:
            parts.append(NOTES[name])
    for name, text in AUDITED.items():
        audit = json.loads((RESULTS / f"audit_{name}.json").read_text())
        parts += [audit_page(audit).replace("#", "##", 1), text]
    head = [_HEADER, _effort(list(results.values())), "", "## What was to be shown", ""]
    text = "\n".join([*head, claims(results, findings), "", *parts])
    (DOCS / "results.md").write_text(text)
    return text


def _effort(results: list[Results]) -> str:
    """Say how much of the page has been measured, and what it cost."""
    records = [record for each in results for record in each.records.values()]
    planned = sum(each.num_runs for each in results)
    hours = sum(record.content["cpu_minutes"] for record in records) / 60
    longest = max((record.content["cpu_minutes"] for record in records), default=0.0)
    return (
        f"{len(records)} of {planned} runs are there. They cost {hours:.1f} processor hours, "
        f"{hours / 2:.1f} hours of two cores; the longest, {longest:.0f} processor minutes."
    )


_HEADER = """# Results

`python -m benchmarks.results_page` makes this page from the records in
[benchmarks/results/runs](../benchmarks/results/runs). The commands below make the records and go on
from those that are there, on any machine; with `--max-minutes=25` they do so in pieces of half an
hour. Lower NE is better. A difference holds where its 95 % interval, from a bootstrap over test
users and (from two on) seeds, does not hold 0. Records hold sums over all users alone: those of
MovieLens-1M give no rating away.

The first two studies are of today's model. All models of the first are given the same cross
features, all of the second are told which events match the candidate. The runs of the other studies
have the wiring that Kunlun had here before Figure 1 of the paper was known
(`model.pooling.pool_from = "events"`, `model.interaction_input = "summary"`), and are given events
alone, without counts of matches between candidate and history. They say nothing of today's default.
"""


def main(argv: list[str]) -> None:
    """Write the page."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    print(write_page())


if __name__ == "__main__":
    app.run(main)
