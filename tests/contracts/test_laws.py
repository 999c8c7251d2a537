"""Every plug-in that ships satisfies the laws of its kind; a new file is tested because the folder is walked."""

from __future__ import annotations

import numpy as np
import pytest

from tunesmith import plugins
from tunesmith.data.table import Table
from tunesmith.errors import DataError, RecipeError
from tunesmith.evaluation.baselines import Learnable
from tunesmith.tasks.task import Target
from tunesmith.testing import laws

NUMBERS = ("mse", "rmse", "mae", "r2", "spearman")
TEXTS = [f"{word} number {i}" for i, word in enumerate(["good", "bad", "fair"] * 12)]
CODES = np.arange(36) % 3
CLASSES = Target(("label",), ("a", "b", "c"), (12, 12, 12))
BINARY = Target(("label",), ("no", "yes"), (18, 18), positive=1)
VALUE = Target(("score",), ("value",), (36,), None, 1.0, 0.8)


@pytest.mark.parametrize("kind", sorted(plugins.KINDS))
def test_every_kind_has_members_and_each_says_what_it_is(kind: str) -> None:
    assert plugins.names(kind)
    for name in plugins.names(kind):
        assert plugins.describe(kind, name)


@pytest.mark.parametrize("kind", ["strategy", "objective", "head", "optimizer", "schedule", "split"])
def test_options_have_types_and_defaults(kind: str) -> None:
    for name in plugins.names(kind):
        laws.has_documented_options(plugins.get(kind, name))


@pytest.mark.parametrize("name", plugins.names("strategy"))
def test_a_strategy_covers_every_parameter_and_moves_the_head(name: str) -> None:
    laws.strategy(plugins.get("strategy", name))


@pytest.mark.parametrize("name", plugins.names("schedule"))
def test_a_schedule_is_pure_and_between_0_and_1(name: str) -> None:
    laws.schedule(plugins.get("schedule", name))


@pytest.mark.parametrize("name", plugins.names("optimizer"))
def test_an_optimizer_descends_and_resumes_to_the_bit(name: str) -> None:
    laws.optimizer(plugins.get("optimizer", name))


@pytest.mark.parametrize("name", plugins.names("head"))
def test_a_head_does_not_read_the_padding(name: str) -> None:
    laws.head(plugins.get("head", name))


@pytest.mark.parametrize("name", plugins.names("metric"))
def test_a_metric_gives_one_value_a_resample_in_any_order_of_rows(name: str) -> None:
    random = np.random.Generator(np.random.PCG64(1))
    if name in NUMBERS:
        laws.metric(plugins.get("metric", name), random.normal(size=36), random.normal(size=(36, 1)), VALUE)
        return
    target = BINARY if name in ("precision", "recall", "f1") else CLASSES
    chances = random.dirichlet(np.ones(target.num_outputs), 36)
    laws.metric(plugins.get("metric", name), np.arange(36) % target.num_outputs, chances, target)


@pytest.mark.parametrize("name", plugins.names("baseline"))
def test_a_baseline_answers_every_row(name: str) -> None:
    numbers = name == "mean" or name.endswith("_ridge")
    codes, target = (CODES.astype(float), VALUE) if numbers else (CODES, CLASSES)
    rows = TEXTS if name.startswith(("tfidf", "majority", "mean")) else np.stack([CODES, np.arange(36.0)], 1)
    laws.baseline(plugins.get("baseline", name), Learnable(rows, codes, rows[:5], target))


@pytest.mark.parametrize("name", [name for name in plugins.names("split") if name != "given"])
def test_a_split_puts_every_row_in_one_part(name: str) -> None:
    import pyarrow as pa

    parts = ["train", "train", "train", "valid", "test", "train"] * 6
    table = Table(
        pa.table({"text": TEXTS, "split": parts, "group": CODES % 3 + np.arange(36) % 4, "time": np.arange(36)}),
        origin=(("toy.csv", 36),),
    ).identified(["text"])
    laws.split(plugins.get("split", name), table, CODES)


def test_the_split_of_the_files_needs_more_than_one_table() -> None:
    import pyarrow as pa

    table = Table(pa.table({"text": TEXTS}), origin=(("toy.csv", 36),)).identified(["text"])
    with pytest.raises(DataError, match="one table only"):
        plugins.get("split", "given")(table, CODES)


def test_a_word_that_is_no_plug_in_is_answered_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match="full"):
        plugins.get("strategy", "ful")
