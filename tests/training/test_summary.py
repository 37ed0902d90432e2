import re

import jax
import pytest

from kunlun_jax.config import ExperimentConfig
from kunlun_jax.models.registry import create_model
from kunlun_jax.training.step import create_train_state
from kunlun_jax.training.summary import (
    format_table,
    kernels_line,
    model_summary,
    result_summary,
)
from pallas_kernels.implementation import best_implementation
from tests import factories


@pytest.fixture(scope="module")
def state():
    experiment = ExperimentConfig(model=factories.config())
    model = create_model(experiment, factories.SCHEMA)
    batch = factories.batch()
    return jax.eval_shape(lambda: create_train_state(model, experiment, batch, num_steps=2))


@pytest.fixture(scope="module")
def tables(state):
    """The three tables, as rows of cells."""
    text = model_summary(factories.config(), factories.SCHEMA, state)
    return [
        [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()]
        for table in text.split("\n\n")
    ]


class TestKernelsLine:
    def test_says_what_was_asked_for(self):
        model = factories.config(kernels="xla")
        assert kernels_line(model) == "attention kernels: xla (config.model.kernels)"

    def test_says_what_the_machine_gets_and_why(self):
        name, reason = best_implementation()
        assert kernels_line(factories.config()) == f"attention kernels: {name} ({reason})"


class TestFormatTable:
    def test_aligns_names_left_and_numbers_right(self):
        assert format_table(("module", "n"), [("a", 1), ("long name", 23)]).splitlines() == [
            "module      n",
            "---------  --",
            "a           1",
            "long name  23",
        ]


class TestModelSummary:
    def test_modules_add_up_to_all_dense_parameters(self, tables, state):
        _, _, *rows, total = tables[0]
        count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        assert number(total[1]) == count
        assert sum(number(row[1]) for row in rows) == count
        assert sum(number(row[2]) for row in rows) == number(total[2])
        assert sum(float(row[3].rstrip("%")) for row in rows) == pytest.approx(100, abs=2)

    def test_lists_every_table(self, tables, state):
        _, _, *rows, total = tables[1]
        assert {row[0] for row in rows} == {f"table {name}" for name in state.tables}
        for row in rows:
            table = state.tables[row[0].removeprefix("table ")]
            assert [number(cell) for cell in row[1:]] == [*table.shape, table.size]
        assert number(total[-1]) == sum(table.size for table in state.tables.values())

    def test_lists_every_stream(self, tables):
        header, _, *rows = tables[2]
        streams = factories.config().streams
        assert [row[0] for row in rows] == [stream.name for stream in streams]
        for row, stream in zip(rows, streams, strict=True):
            assert number(row[header.index("max_len")]) == stream.max_len
            assert number(row[header.index("FLOPs/example")]) > 0


class TestResultSummary:
    def test_one_row_a_split(self):
        metrics = {"normalized_entropy": 0.8, "auc_roc": 0.7, "count": 5.0}
        text = result_summary(40, {"validation": metrics, "test": {**metrics, "auc_roc": 0.6}})
        lines = text.splitlines()
        assert lines[0] == "best checkpoint: step 40"
        assert lines[2].split() == ["split", "normalized_entropy", "auc_roc"]
        assert lines[4].split() == ["validation", "0.80000", "0.70000"]
        assert lines[5].split() == ["test", "0.80000", "0.60000"]

    def test_several_tasks_say_which_number_decides(self):
        metrics = {
            "normalized_entropy": 0.75,
            **{"buy/normalized_entropy": 0.8, "buy/auc_roc": 0.7},
            **{"click/normalized_entropy": 0.6, "click/auc_roc": 0.9},
        }
        splits = {"validation": metrics, "test": metrics}
        text = result_summary(40, splits, tasks=("click", "buy"), task_weights=(1.0, 3.0))
        lines = text.splitlines()
        assert lines[0] == (
            "best checkpoint: step 40, of the lowest mean NE over the tasks click of weight 1 and "
            "buy of weight 3 (config.training.task_weights), on the validation split"
        )
        assert [re.split(r"\s{2,}", line) for line in lines[4:7]] == [
            ["validation, click", "0.60000", "0.90000"],
            ["validation, buy", "0.80000", "0.70000"],
            ["validation, mean", "0.75000", ""],
        ]
        assert len(lines) == 10


def number(text):
    return int(text.replace(",", ""))
