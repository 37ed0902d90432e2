"""A server takes newer checkpoints of its run while it answers, and no other ones."""

import shutil

import jax
import pytest

from kunlun_jax.data import Request
from kunlun_jax.serving.http.reloading import Watcher
from kunlun_jax.serving.ranker import Ranker
from kunlun_jax.serving.trained import open_trained
from tests.serving.http_server import serving
from tests.serving.test_http import GOOD


class Reloading:
    """A copy of a run of which the server has the best checkpoint, and another one that comes."""

    def __init__(self, world_run, place):
        self.workdir = shutil.copytree(world_run.workdir, place / "run")
        self.trained = open_trained(self.workdir)
        self.steps = self.workdir / "checkpoints"
        self.best = self.trained.step
        others = [int(p.name) for p in self.steps.iterdir() if p.name.isdecimal()]
        self.step = max(step for step in others if step != self.best)
        self.other = place / "kept" / str(self.step)
        self.other.parent.mkdir()
        for step in others:
            if step != self.best:
                (self.steps / str(step)).rename(self.other.with_name(str(step)))
        self.ranker = Ranker(self.trained, buckets=(4,))

    def replace_best(self):
        """Make the other one the best that is there."""
        shutil.rmtree(self.steps / str(self.best))
        shutil.copytree(self.other, self.steps / str(self.step))

    def watcher(self, server):
        return Watcher(
            self.workdir, self.trained, server.scorer, server.metrics, server.reports.append
        )


@pytest.fixture
def reloading(world_run, tmp_path):
    return Reloading(world_run, tmp_path)


@pytest.mark.fault(
    "serving: a better checkpoint while requests are scored",
    "every answer has the scores of the one step that it names; nothing is compiled",
)
def test_a_reload_under_load(reloading, observe_text):
    compiled = []

    def listener(name, *_, **__):
        if "backend_compile" in name:  # shapes are traced, of what is read
            compiled.append(name)

    with serving(reloading.ranker) as server:
        watcher = reloading.watcher(server)
        watcher.look()
        server.post(GOOD)
        jax.monitoring.register_event_duration_secs_listener(listener)
        try:
            asked = [server.clients.submit(server.post, GOOD) for _ in range(60)]
            reloading.replace_best()
            watcher.look()
            asked += [server.clients.submit(server.post, GOOD) for _ in range(20)]
            answers = [future.result() for future in asked]
            during = list(compiled)
            jax.jit(lambda x: x + 2.5)(1.0)
            assert compiled, "the listener hears compilations"
        finally:
            jax.monitoring.unregister_event_duration_listener(listener)
    found = {(status, answer["step"], str(answer["scores"])) for status, _, answer in answers}
    rankers = reloading.ranker, Ranker(open_trained(reloading.workdir), buckets=(4,))
    user, candidates = Request(GOOD["time"]), GOOD["candidates"]
    expected = {(200, r.step, str(r.score(user, candidates).tolist())) for r in rankers}
    assert len(expected) == 2
    assert (found, during) == (expected, [])
    assert answers[-1][2]["step"] == reloading.step
    (line,) = server.reports
    observe_text(f"80 of 80 answered; `{line}`")


@pytest.mark.fault(
    "serving: a better checkpoint that is damaged, in its manifest or in its arrays",
    "one line; the old one serves on, and a good one that comes later is taken",
)
@pytest.mark.parametrize("part", ["manifest", "state"])
def test_a_damaged_checkpoint(reloading, observe_text, part):
    with serving(reloading.ranker) as server:
        watcher = reloading.watcher(server)
        reloading.replace_best()
        damaged = reloading.steps / str(reloading.step)
        for path in [path for path in (damaged / part).rglob("*") if path.is_file()]:
            content = bytearray(path.read_bytes())
            for place in range(len(content) // 3, len(content), 97):
                content[place] ^= 0x10
            path.write_bytes(content)
        watcher.look()
        watcher.look()
        assert server.post(GOOD)[2]["step"] == reloading.best
        lines = list(server.reports)
        assert len(lines) == (2 if part == "manifest" else 1)  # and there is no other one left
        for line in lines:
            assert line.startswith("warning: ")
            assert line.endswith(f"; step {reloading.best} stays in use")
            assert "\n" not in line
        assert f"checkpoints/{reloading.step}: " in lines[0]
        shutil.rmtree(damaged)
        shutil.copytree(reloading.other, damaged)
        watcher.look()
        assert server.post(GOOD)[2]["step"] == reloading.step
    observe_text(f"`{lines[0].replace(str(reloading.workdir.parent), '...')}`")


@pytest.mark.fault(
    "serving: a checkpoint of another run, in the place of a better one",
    "one line, naming the setting; the old one serves on",
)
def test_a_checkpoint_of_another_run(reloading, finished_runs, observe_text):
    with serving(reloading.ranker) as server:
        watcher = reloading.watcher(server)
        shutil.rmtree(reloading.steps)
        shutil.copytree(finished_runs[0] / "checkpoints", reloading.steps)
        watcher.look()
        (line,) = server.reports
        assert "a checkpoint of another run: config.model." in line
        assert server.post(GOOD)[2]["step"] == reloading.best
    other = open_trained(finished_runs[0])
    with pytest.raises(ValueError, match="expected a checkpoint of the same run, got another"):
        reloading.ranker.renewed(other)
    observe_text(f"`{line.replace(str(reloading.workdir.parent), '...')}`")
