import re

import pytest

from benchmarks import results_page
from configs.scaling import complete_journey, synthetic, synthetic_needs
from kunlun_jax.data.sources import synthetic as source
from kunlun_jax.scaling.bootstrap import Interval
from kunlun_jax.scaling.report import find_laws
from kunlun_jax.scaling.results import collect
from kunlun_jax.scaling.study import study_config


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page, made anew from the committed records."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results_page, "DOCS", tmp_path_factory.mktemp("docs"))
        return results_page.write_page()


def test_the_committed_page_is_what_the_command_makes(page):
    committed = (results_page.ROOT / "docs" / "results.md").read_text()
    assert page == committed, "run: python -m benchmarks.results_page"


def test_every_study_stands_beside_what_it_is_compared_with(page):
    for name in ("Complete Journey", "MovieLens-1M, split user_time", "Synthetic"):
        assert f"\n## {name}\n" in page
    rows = [line for line in page.splitlines() if line.startswith("| SAM, published |")]
    assert len(rows) == 1
    assert "0.7919" in rows[0]


def test_what_does_not_hold_is_named_first(page):
    claims = page.split("\n## What was to be shown\n")[1].split("\n## ")[0]
    verdicts = [line.split(" | ")[2] for line in claims.splitlines() if line.startswith("| ")][2:]
    order = ["**no**", results_page.MISSING, "yes"]
    assert verdicts == sorted(verdicts, key=order.index)
    assert {"**no**", "yes"} <= set(verdicts)


@pytest.mark.parametrize(
    ("study", "best"),
    [(synthetic, results_page.SYNTHETIC_BAYES_NE), (synthetic_needs, results_page.NEEDS_BAYES_NE)],
    ids=["synthetic", "needs"],
)
def test_the_best_there_is(study, best):
    options = source.Options(**study.get_config().experiment.data.options)
    assert source.bayes_normalized_entropy(options) == pytest.approx(best, abs=5e-5)


@pytest.mark.parametrize(
    ("ends", "below", "above"),
    [
        ((-0.02, -0.01), True, False),
        ((-0.01, 0.01), False, False),
        ((0.01, 0.02), False, True),
        ((None, None), False, False),
    ],
)
def test_a_difference_holds_where_its_interval_lies_on_one_side(ends, below, above):
    interval = Interval(0.0, *ends)
    assert results_page._lies(interval, "below") is below
    assert results_page._lies(interval, "above") is above


def test_every_ablation_has_its_speed_measured_side_by_side(page):
    study = page.split("\n## Complete Journey\n")[1]
    table = study.split("### Ablations of kunlun")[1].split("###")[0]
    rows = [line.split("|") for line in table.splitlines() if line.startswith("| ")][1:]
    cells = [row[7].strip() for row in rows if "---" not in row[1]]
    assert len(cells) == len(complete_journey.ABLATIONS)
    assert all(re.fullmatch(r"[+-][\d.]+% \[[+-][\d.]+%, [+-][\d.]+%\]", cell) for cell in cells)


@pytest.mark.parametrize(("best", "verdict"), [(0.7213, "yes"), (0.95, "**no**")])
def test_the_floor_of_the_synthetic_law_is_held_against_the_known_best(best, verdict, monkeypatch):
    monkeypatch.setattr(results_page, "SYNTHETIC_BAYES_NE", best)
    study = study_config(synthetic.get_config().to_dict())
    results = collect(study, results_page.RUNS / "synthetic")
    found = results_page._floor(results, find_laws(results))
    assert found[1].endswith(str(best))
    assert found[2] == verdict
    assert results_page._floor(results, None)[2:] == (results_page.MISSING, "")
