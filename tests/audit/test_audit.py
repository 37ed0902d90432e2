import json

import pytest

from kunlun_jax.audit.__main__ import COUNTING_FILE, audit
from kunlun_jax.audit.report import add_shares, markdown, references, screen, verdict
from kunlun_jax.metrics.user_bootstrap import ComparisonError
from tests.training.runs import records


@pytest.fixture(scope="module")
def content(finished_runs):
    return audit(finished_runs[0], num_rounds=3, num_resamples=100)


class TestAudit:
    def test_the_intact_model_is_that_of_the_final_report(self, content, finished_runs):
        *_, last = records(finished_runs[0])
        intact = content["model"][0]
        assert intact["normalized_entropy"] == pytest.approx(
            last["test/normalized_entropy"], abs=1e-6
        )
        assert intact["num_examples"] == last["test/count"]

    def test_every_perturbation_has_a_difference_and_no_order_does_not_reach_din(self, content):
        rows = {row["name"]: row for row in content["model"]}
        changed = {"without purchase", "only the last event", "histories swapped between users"}
        for name in changed:
            assert rows[name]["difference"]["normalized_entropy"]["value"] != 0.0, name
        # DIN is a weighted sum over events: their positions are nothing to it.
        shuffled = rows["event order shuffled"]["difference"]["normalized_entropy"]
        assert abs(shuffled["value"]) < 1e-5

    def test_counting_rows_are_made_once(self, content, finished_runs, monkeypatch):
        monkeypatch.setattr("kunlun_jax.audit.__main__.counting_rows", None)
        again = audit(finished_runs[0], num_resamples=100)
        assert again == content

    @pytest.mark.usefixtures("content")  # which makes the counting rows
    def test_counting_rows_of_other_data_are_refused(self, finished_runs, tmp_path):
        content = json.loads((finished_runs[0] / COUNTING_FILE).read_text())
        other = tmp_path / "other.json"
        other.write_text(json.dumps({**content, "dataset_identity": "0"}))
        with pytest.raises(ComparisonError, match=r"other\.json: expected counting rows of synth"):
            audit(finished_runs[0], counting=other)

    def test_reports_name_every_row(self, content):
        for text in (screen(content), markdown(content)):
            for row in [*content["model"], *content["counting"]]:
                assert row["name"] in text
            assert content["verdict"][0] in text


def row(name, entropy, features=(), lost=None):
    found = {"name": name, "normalized_entropy": entropy, "auc_roc": 0.6, "features": features}
    if lost is not None:
        interval = {"value": lost, "low": lost - 0.01, "high": lost + 0.01}
        found["difference"] = {"normalized_entropy": interval, "auc_roc": interval}
    return found


class TestShares:
    FOUND = references(
        [row("constant", 1.0), row("a", 0.95, ["age"]), row("b", 0.7, ["age", "count:buy"])]
    )

    def test_references_are_the_best_with_and_without_counts(self):
        assert [x["name"] for x in self.FOUND.values()] == ["a", "b"]

    def test_shares_by_hand(self):
        rows = [row("intact", 0.75), row("order and timestamps shuffled", 0.8, lost=0.05)]
        rows = add_shares(rows, self.FOUND)
        shares = rows[1]["share_of_gain_lost"]
        assert shares["context"] == pytest.approx({"value": 0.25, "low": 0.2, "high": 0.3})
        assert shares["counting"] is None
        _, context, counting = verdict(rows, self.FOUND)
        assert "at most 25% [20%, 30%] needs order and time" in context
        assert "does not beat counting (b, NE 0.70000)" in counting
