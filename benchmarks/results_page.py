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
from kunlun_jax.audit.report import markdown as audit_page
from kunlun_jax.scaling.analysis import Findings
from kunlun_jax.scaling.bootstrap import Interval
from kunlun_jax.scaling.markdown import show, table
from kunlun_jax.scaling.page import AUC, MISSING, NE, Speeds, render
from kunlun_jax.scaling.report import draw_laws, find_laws
from kunlun_jax.scaling.results import Results, collect
from kunlun_jax.scaling.study import study_config

RUNS, DOCS = RESULTS / "runs", ROOT / "docs"
AUDIT = RESULTS / "audit_complete_journey.json"
STUDIES = (
    "complete_journey_cross",
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
# kunlun_jax.data.sources.synthetic.bayes_normalized_entropy of configs/synthetic.py's options
SYNTHETIC_BAYES_NE = 0.7213

# What the numbers of a study do not say by themselves.
NOTES = {
    "complete_journey_cross": """#### What the figures are of

With events alone Kunlun was far ahead, because it alone finds the history within 131,000 examples.
Given the counts, every model has what the history says most plainly, and the families lie within
four thousandths of each other (seed 0). Over three seeds Kunlun, DIN and Wukong are equal, and
Kunlun is ahead of InterFormer; DIN takes 0.9 of Kunlun's processor time. Of seed 0 alone Kunlun is
ahead of UniDot, TokenFormer and HSTU, by about as much as a seed moves it. With twice the rate,
0.0042 and 0.0045 (seed 0, 21cb0ea), Kunlun and DIN gain alike, to 0.7185 and 0.7183, on validation
0.7384 and 0.7380. Sums of the PFFN's events beside the seeds, as DIN has, left Kunlun at 0.7185,
and sigmoid gates in the place of every second seed's softmax gave 0.7193 (throw-away changes,
0.0005 better was predicted). What the counts leave to find is little: 128 purchases in place of 64
bring Kunlun 0.0004 (docs/design.md). The columns and the number of examples decide more than the
family. Product lines and the popularity of 7 and 91 days brought configs/base.py from 0.7209 to
0.7114, and configs/complete_journey.py from 0.7089 to 0.7004; all examples in place of a tenth
bring the latter's shape 0.019, a second pass over them 0.0024 more. Before these columns, on all
examples, DIN had 0.7082 and Kunlun 0.7089 (48170e0).
""",
    "complete_journey": """#### What these laws are of

Kunlun's largest size is better than both laws predict. The reason is where the runs end: just after
Kunlun has begun to read histories. *While training* shows it: until some 90,000 examples its NE is
everyone's, that of a model which knows what is popular (trees on context and popularity: 0.904);
then it leaves them, earlier and faster the larger it is, so that the largest is further down that
slope than the smaller ones can tell. The peers do not get there within 131,000 examples: size buys
them little, and the ratios of etas above say who finds the history first, not how the models scale
once all have found it. With three times the examples (configs/base.py) NE is still falling: data
bounds these runs, not size.
""",
    "synthetic": """#### What these laws are of

Here both models find the histories, Kunlun at every size. Its curve bends, as one must that ends at
the true probabilities: the log law, which knows no floor, puts the largest size too low, and the
power law does not. The floor is that of endless size at 100,000 examples; what these do not teach
comes on top of the true probabilities' NE. DIN's seeds lie far apart (0.86 to 0.93 at its smallest)
by whether they find the histories early or late in the epoch; its slope is mostly that, and the
ratio of etas says nothing: its interval holds 1. What differs is the level: Kunlun at 2.2 million
FLOPs (0.815) is ahead of DIN at 4.8 (0.826).
""",
}

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
    """Return the table of what was to be shown, and whether it is."""
    journey, movies = results["complete_journey"], results["movielens_1m"]
    rows: list[tuple[str, ...]] = [_on_all_examples(), *map(_whole_run, WHOLE_RUNS)]
    for each in (results["complete_journey_cross"], journey):
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
                        "yes" if fitted.held_out.within else "**no**",
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
    return _CROSS, claim, "yes" if kunlun < din else "**no**", measured


def _whole_run(name: str) -> tuple[str, ...]:
    """Return the claim that a configuration is better than trees with the same columns."""
    found, trees = _of_whole_run(name), counting_rows()[SAME_COLUMNS][NE]
    claim = f"{WHOLE_RUNS[name]}: test NE below {trees:.4f}, trees on all examples and columns"
    return _CROSS, claim, "yes" if found < trees else "**no**", f"{found:.4f}, one seed"


def _level(
    results: Results, name: str, metric: str, claim: str, holds: Callable[[float], bool]
) -> tuple[str, ...]:
    """Return a claim about the mean over seeds of one model."""
    values = [run.value(metric) for run in results.runs(name).values()]
    claim = f"{name}: test {_NAMES[metric]} {claim}"
    if not values:
        return results.study.title, claim, MISSING, ""
    mean = sum(values) / len(values)
    verdict = "yes" if holds(mean) else "**no**"
    return results.study.title, claim, verdict, f"{mean:.4f}, {len(values)} seed(s)"


def _difference(results: Results, name: str, metric: str, side: str) -> tuple[str, ...]:
    """Return a claim about Kunlun and another model at equal FLOPs."""
    gap = results.difference(name, metric)
    claim = f"kunlun's {_NAMES[metric]} is {side} {name}'s"
    if gap is None:
        return results.study.title, claim, MISSING, ""
    verdict = "yes" if _lies(gap, side) else "**no**"
    seeds = set(results.runs(results.study.subject)) & set(results.runs(name))
    return results.study.title, claim, verdict, f"{show(gap)}, {len(seeds)} seed(s)"


def _floor(results: Results, findings: Findings | None) -> tuple[str, ...]:
    """Return the claim that endless compute would reach the best NE there is, which is known."""
    claim = f"kunlun: the power law's floor a may be the best NE there is, {SYNTHETIC_BAYES_NE}"
    families = () if findings is None else findings.families
    for family in families:
        if family.name == results.study.subject:
            floor = family.laws["power"].parameters["a"]
            verdict = "yes" if floor.contains(SYNTHETIC_BAYES_NE) else "**no**"
            return results.study.title, claim, verdict, f"a {show(floor)}"
    return results.study.title, claim, MISSING, ""


def _lies(gap: Interval, side: str) -> bool:
    """Return whether a whole interval lies on one side of 0."""
    if side == "below":
        return gap.high is not None and gap.high < 0
    return gap.low is not None and gap.low > 0


_NAMES = {NE: "NE", AUC: "AUC"}


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
    if AUDIT.exists():
        parts += [audit_page(json.loads(AUDIT.read_text())).replace("#", "##", 1), _AUDITED]
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

The first study is of today's model, and all its models are given the same cross features. All runs
of the others have the wiring that Kunlun had here before Figure 1 of the paper was known
(`model.pooling.pool_from = "events"`, `model.interaction_input = "summary"`), and are given events
alone, without counts of matches between candidate and history. They say nothing of today's default.
"""

_AUDITED = """The run is configs/base.py's; the audit, with `audit.json` kept as
[audit_complete_journey.json](../benchmarks/results/audit_complete_journey.json):

```bash
python train.py --config=configs/base.py --workdir=runs/base
python -m kunlun_jax.audit --workdir=runs/base \\
    --counting=benchmarks/results/counting_baselines_complete_journey.json
```
"""


def main(argv: list[str]) -> None:
    """Write the page."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    print(write_page())


if __name__ == "__main__":
    app.run(main)
