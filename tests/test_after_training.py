"""docs/after_training.md, followed: its commands and its Python, on the worked example."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from tests.documents import ROOT, blocks
from tests.report.reading import problems
from tests.test_own_data import SMALL

PAGE = "docs/after_training.md"
# The peer that compiles fastest.
SETTINGS = (*SMALL, "--config.model.name=din")
BUILD = (
    "kunlun-jax build --schema=my_schema.py --impressions=impressions.csv --events=views.csv "
    "--out=datasets/shop"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, compilation_cache):
    """A directory with the example's tables and `runs/shop`, and how commands run there."""
    directory = tmp_path_factory.mktemp("elsewhere")
    for file in (ROOT / "tests" / "data" / "shop").iterdir():
        shutil.copy(file, directory)
    programs = directory / "bin"
    programs.mkdir()
    for name, module in (("kunlun-jax", "-m kunlun_jax"), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {module} "$@"\n')
        (programs / name).chmod(0o755)
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(compilation_cache),
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }

    def run(text):
        outcome = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert outcome.returncode == 0, f"{text}\n{outcome.stdout}\n{outcome.stderr}"
        return outcome.stdout

    run(BUILD)
    settings = shlex.join(SETTINGS)
    run(f"kunlun-jax train --config=own_data:datasets/shop --workdir=runs/shop {settings}")
    shutil.rmtree(directory / "datasets")  # from here on, only --split needs it
    return directory, run


def with_dataset(directory, run):
    """Build the example's data set again, unless another test has."""
    if not (directory / "datasets" / "shop").exists():
        run(BUILD)


def test_the_server(trained):
    """The commands of the page in one shell, on a free port; the scores are the ranker's."""
    directory, run = trained
    (commands,) = blocks(PAGE, "## Serve", "bash")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    printed = run("set -m\n" + commands.replace("8000", str(port)))
    assert f'{{"url": "http://127.0.0.1:{port}", "step": 10}}' in printed
    assert 'kunlun_requests_total{status="200"} 1.0' in printed
    (answer,) = re.findall(r'\{"step":10,.*?\]\]\}', printed)
    (directory / "same.py").write_text(
        "import kunlun_jax\n"
        "from kunlun_jax.data import Events, Request\n"
        "views = [line.split(',') for line in open('views.csv').read().splitlines()[1:]]\n"
        "views = [view for view in views if view[0] == 'u0']\n"
        "_, times, items, categories, seconds = zip(*views)\n"
        "events = Events(list(map(int, times)), {'item': items, 'category': categories},\n"
        "                {'seconds': [float(x) if x else None for x in seconds]})\n"
        "user = Request(1700681775, sparse={'device': 'phone'}, events={'view': events})\n"
        "candidates = {'item': ['i3', 'i4'], 'category': ['c3', 'c0'], 'price': [6.2, None]}\n"
        "print(kunlun_jax.load('runs/shop').score(user, candidates).tolist())\n"
    )
    assert json.loads(answer)["scores"] == json.loads(run("python same.py"))


def test_the_page(trained):
    directory, run = trained
    (commands,) = blocks(PAGE, "## Start", "bash")
    scoring, *rest = commands.splitlines()
    assert scoring.startswith("kunlun-jax predict --run=runs/shop --impressions=")
    run(scoring)
    scores = pyarrow.csv.read_csv(directory / "scores.csv")
    assert scores.column_names == ["user", "time", "item", "category", "score_label"]
    assert scores.num_rows == 400
    with_dataset(directory, run)
    printed = run("\n".join(rest))
    assert '{"label": 0.' in printed
    for section, check in (
        ("## Start", "scores.shape == (3, 1) and best in ('i3', 'i4', 'i5')"),
        ("## Export", "scores.shape == (1, 1)"),
    ):
        (python,) = blocks(PAGE, section, "python")
        (directory / "page.py").write_text(f"{python}\nassert {check}\n")
        run("python page.py")
    # The split's scores are those of the same rows of the table, in every bit.
    of_table = np.sort(scores["score_label"].to_numpy())
    of_split = pq.read_table(directory / "test_scores.parquet")["score_label"].to_numpy()
    assert np.isin(of_split, of_table).all()
    assert len(of_split) > 30


@pytest.mark.slow
def test_the_report(trained):
    directory, run = trained
    with_dataset(directory, run)
    runs = directory / "runs"
    of_training = (runs / "shop" / "report.html").read_text()
    shutil.copytree(runs / "shop", runs / "shop_din", dirs_exist_ok=True)
    (commands,) = blocks(PAGE, "## Report", "bash")
    printed = run(commands)
    assert '"runs/shop/report_shop_din.html"' in printed
    assert (runs / "shop" / "report.html").read_text() == of_training
    for name in ("report.html", "report_shop_din.html"):
        assert problems((runs / "shop" / name).read_text()) == []


@pytest.mark.slow
def test_why(trained):
    directory, run = trained
    with_dataset(directory, run)
    (commands,) = blocks(PAGE, "## Why this score", "bash")
    printed = run(commands)
    assert "stream view: whether item is the candidate's" in printed
    for name in ("report.html", "why_test_17.html", "why_request.html"):
        assert problems((directory / "runs" / "shop" / name).read_text()) == []
    assert "Permutation importance" in (directory / "runs" / "shop" / "report.html").read_text()


@pytest.mark.slow
def test_tomorrows_data(trained):
    """The page's commands, with a setting of everything that the section names."""
    directory, run = trained
    (commands,) = blocks(PAGE, "## Tomorrow's data", "bash")
    (directory / "tomorrow").mkdir()
    for name in ("impressions.csv", "views.csv"):
        text = (directory / name).read_text()
        (directory / "tomorrow" / name).write_text(text.replace(",i3,", ",new,"))
    settings = [*SETTINGS, "--config.training.patience=3", "--config.optimizer.schedule=constant"]
    settings += ["--config.data.period_hours=24", "--config.data.num_epochs=1"]
    printed = run(f"{commands.rstrip()} {' '.join(map(shlex.quote, settings))}")
    built = json.loads((directory / "datasets" / "tomorrow" / "dataset.json").read_text())
    assert built["parent"]["appended"] == {"item": 1, "category": 0, "device": 0}
    assert "  table item: 21 rows taken, grown to 22, the new ones as in a fresh run" in printed
    assert "period from (UTC)" in printed
