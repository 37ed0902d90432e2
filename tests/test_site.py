"""The documentation site, and what stands at the top level: version, extras, links, commands."""

import re
import tomllib

import pytest
import yaml

from docs import site_hooks
from tests.documents import ROOT, blocks, command_lines
from tests.wheels import FILES, FOLDERS

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
START = "docs/start.md"


class Plain(yaml.SafeLoader):
    """Reads mkdocs.yml without making the Python objects that it names."""


Plain.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


def files(nav):
    """Return the files of a navigation, in its order."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [file for part in parts for file in files(part)]


def test_every_page_is_in_the_navigation_once():
    site = yaml.load((ROOT / "mkdocs.yml").read_text(), Plain)
    assert sorted(files(site["nav"])) == sorted(
        p.name for p in ROOT.glob("docs/*") if p.suffix in (".md", ".ipynb")
    )


class TestLinks:
    SOURCE = "[`shapes.py`](../kunlun_jax/shapes.py)"

    @pytest.mark.parametrize(
        ("text", "url", "expected"),
        [
            (SOURCE, None, "`kunlun_jax/shapes.py`"),
            ("[the legend](../kunlun_jax/shapes.py#L3)", "", "the legend (`kunlun_jax/shapes.py`)"),
            (SOURCE, "x://y/", "[`shapes.py`](x://y/blob/main/kunlun_jax/shapes.py)"),
            ("[data](data.md#columns), ![a](why.png)", "x://y", None),
        ],
    )
    def test_to_sources_are_rewritten_and_others_are_not(self, text, url, expected):
        config = type("Config", (), {"repo_url": url})
        assert site_hooks.on_page_markdown(text, config=config) == (expected or text)

    def test_to_nowhere_are_refused(self):
        with pytest.raises(FileNotFoundError, match=r"\.\./nowhere\.py"):
            site_hooks.source_link("x", "nowhere.py", None)

    @pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
    def test_of_the_top_level_resolve(self, page):
        targets = re.findall(r"\]\(((?!https?://)[^)#]+)", (ROOT / page).read_text())
        assert targets and [t for t in targets if not (ROOT / t).exists()] == []


def test_bars_in_tables_lose_the_backslash_and_elsewhere_keep_it():
    html = r"<td><code>a\|b</code></td><code>a\|b</code>"
    assert site_hooks.on_page_content(html) == r"<td><code>a|b</code></td><code>a\|b</code>"


class TestStartPage:
    def test_its_commands_are_those_that_other_tests_follow(self):
        """tests/test_wheel.py follows docs/data.md, tests/test_after_training.py the other."""
        followed = command_lines("docs/data.md", "## Tables of your own")
        followed += command_lines("docs/after_training.md", "## Start")
        own = command_lines(START, "## Your own tables", "## Score")
        assert len(own) == 4
        assert [c for c in own if c not in followed] == []

    def test_its_first_commands_are_those_of_ci(self):
        installs, trains = command_lines(START, "# Start in five minutes")[:2]
        assert installs == 'pip install -e ".[own-data]"'
        assert "own-data" in PROJECT["optional-dependencies"]
        assert trains.startswith("python train.py --config=configs/smoke.py --workdir=")
        assert "train.py --config=configs/smoke.py --workdir=" in (ROOT / ".ci/run").read_text()

    def test_its_python_is_what_other_tests_run(self):
        schema, scores = blocks(START, "# Start in five minutes", "python")
        assert schema == (ROOT / "tests/data/shop/my_schema.py").read_text()
        assert [scores] == blocks("docs/after_training.md", "## Start", "python")


def test_there_is_one_version():
    versions = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == PROJECT["version"]
    wheels = re.findall(r"kunlun_jax-([\d.]+)-py3", (ROOT / "docs/data.md").read_text())
    assert wheels == [PROJECT["version"]]


class TestDockerfile:
    TEXT = (ROOT / "Dockerfile").read_text()

    def test_its_extras_and_its_command_are_the_projects(self):
        (extras,) = re.findall(r"\.whl\)\[([\w,-]+)\]", self.TEXT)
        assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
        (command,) = re.findall(r'^ENTRYPOINT \["(.+)"\]$', self.TEXT, re.MULTILINE)
        assert command in PROJECT["scripts"]

    def test_it_gets_what_a_wheel_is_made_of(self):
        lines = (ROOT / ".dockerignore").read_text().splitlines()
        assert {line[1:] for line in lines if line[0] == "!"} == {*FILES, *FOLDERS}
