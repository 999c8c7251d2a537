"""Every "auto" is filled from facts alone, each with its reason."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from tunesmith.recipe import file
from tunesmith.recipe.check import check_recipe
from tunesmith.recipe.facts import Facts
from tunesmith.recipe.resolve import MEASURED, resolve
from tunesmith.recipe.schema import Part

FACTS = Facts(
    name="rows",
    task="classification",
    inputs=("text",),
    target="label",
    num_train=480,
    num_valid=60,
    num_outputs=8,
    num_parameters=22_000_000,
    phases=(("full", "body"),),
    max_positions=512,
    longest=90,
    device="cpu",
    precision="fp32",
    split="hash",
    select="accuracy",
    metrics=("accuracy", "f1_macro"),
)


def _recipe(**fields):
    return file.build({"data": "rows.csv", "model": "m", **fields})


def _auto(part: Part, prefix: str = "") -> set[str]:
    found = set()
    for name in type(part).model_fields:
        value = getattr(part, name)
        if isinstance(value, Part):
            found |= _auto(value, f"{prefix}{name}.")
        elif value == "auto":
            found.add(prefix + name)
    return found


MEASURING = {"data": {"source": "rows.csv", "augment": "auto"}, "evaluate": {"threshold": "auto"}}
"""Fields that are measured only where the recipe asks for it."""


def test_nothing_stays_on_auto_but_what_is_measured():
    resolved, _ = resolve(_recipe(), FACTS)
    assert _auto(resolved) == {"model.head", "train.micro", "evaluate.temperature", "evaluate.slices"}
    resolved, _ = resolve(_recipe(**MEASURING), FACTS)
    assert _auto(resolved) == set(MEASURED)


def test_a_run_that_never_evaluates_has_no_patience_so_that_its_recipe_is_one_that_can_go_on():
    resolved, reasons = resolve(_recipe(train={"every": {"evaluate": "never"}}), FACTS)
    assert resolved.train.patience == 0 and "nothing is evaluated" in reasons["train.patience"]
    check_recipe(resolved)


def test_values_have_no_temperature():
    resolved, reasons = resolve(_recipe(), dataclasses.replace(FACTS, task="regression"))
    assert resolved.evaluate.temperature == 1 and "no probability" in reasons["evaluate.temperature"]


def test_every_filled_field_has_a_reason_and_given_fields_are_kept():
    before = _recipe(train={"lr": 0.5}, strategy="head")
    resolved, reasons = resolve(before, FACTS)
    assert set(reasons) == _auto(before)
    assert all(reasons.values())
    assert resolved.train.lr == 0.5
    assert resolved.strategy.name == "head"


def test_equal_recipes_and_facts_give_equal_recipes_and_the_given_one_is_untouched():
    before = _recipe()
    assert resolve(before, FACTS) == resolve(_recipe(), dataclasses.replace(FACTS))
    assert before == _recipe()


def test_a_resolved_recipe_is_its_own_resolution():
    resolved, _ = resolve(_recipe(**MEASURING), FACTS)
    again, reasons = resolve(resolved, FACTS)
    assert again == resolved
    assert set(reasons) == set(MEASURED)


def test_reasons_reach_the_file_as_comments():
    resolved, reasons = resolve(_recipe(), FACTS)
    text = file.dump(resolved, reasons)
    assert f"# {reasons['train.lr']}" in text
    assert f"# {reasons['data.inputs']}" in text


@pytest.mark.parametrize(("num_train", "batch"), [(100, 16), (100_000, 32)])
def test_few_rows_take_smaller_steps_and_more_epochs(num_train, batch):
    resolved, _ = resolve(_recipe(), dataclasses.replace(FACTS, num_train=num_train))
    assert resolved.train.batch == batch
    assert (resolved.train.length == "3 epochs") == (num_train == 100_000)


def test_larger_models_move_slower_and_a_head_alone_faster():
    rates = [resolve(_recipe(), dataclasses.replace(FACTS, num_parameters=n))[0].train.lr for n in (2e7, 1e8, 4e8, 7e9)]
    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) == 4
    moving = {
        moves: resolve(_recipe(), dataclasses.replace(FACTS, phases=(("only", moves),)))[0].train.lr
        for moves in ("body", "adapters", "vectors", "head")
    }
    assert moving["body"] == rates[0] < moving["adapters"] == moving["vectors"] < moving["head"]


def test_phases_that_move_other_things_get_rates_of_their_own():
    facts = dataclasses.replace(FACTS, phases=(("probe", "head"), ("full", "body")))
    resolved, reasons = resolve(_recipe(), facts)
    assert resolved.train.lr == {"probe": 3e-3, "full": 1e-4}
    assert "probe: only the new head moves" in reasons["train.lr"]


def test_a_batch_of_all_rows_is_the_training_set():
    resolved, _ = resolve(_recipe(train={"batch": "all"}), FACTS)
    assert resolved.train.batch == FACTS.num_train


def test_a_net_from_nothing_goes_faster_longer_and_waits_longer():
    table = dataclasses.replace(FACTS, pretrained=False, modality="table")
    nothing, reasons = resolve(_recipe(), dataclasses.replace(table, num_train=16_000))
    tuned, _ = resolve(_recipe(), dataclasses.replace(FACTS, num_train=16_000))
    assert nothing.train.lr > tuned.train.lr and nothing.train.batch == 256 and nothing.train.patience == 16
    assert int(nothing.train.length.split()[0]) > int(tuned.train.length.split()[0])
    assert nothing.train.lr == 1e-3 and "nothing is pretrained" in reasons["train.lr"]
    few, _ = resolve(_recipe(), dataclasses.replace(table, num_train=1000))
    assert (few.train.batch, few.train.lr) == (32, 3.5e-4)
    image, _ = resolve(_recipe(), dataclasses.replace(FACTS, pretrained=False, modality="image", num_train=1000))
    assert (image.train.batch, image.train.lr, image.train.length) == (16, 1e-3, "24 epochs")


def test_a_head_alone_waits_longer_than_its_warm_up():
    facts = dataclasses.replace(FACTS, phases=(("head", "head"),), num_train=200)
    resolved, _ = resolve(_recipe(), facts)
    epochs = int(resolved.train.length.split()[0])
    assert resolved.train.patience == 16 > 0.1 * epochs
    assert resolve(_recipe(), FACTS)[0].train.patience == 4


def test_without_valid_rows_nothing_stops_early():
    resolved, _ = resolve(_recipe(), dataclasses.replace(FACTS, num_valid=0))
    assert resolved.train.patience == 0


def test_rows_longer_than_the_model_reads_are_cut_where_it_ends():
    resolved, _ = resolve(_recipe(), dataclasses.replace(FACTS, longest=9000, max_positions=256))
    assert resolved.data.max_length == 256


def test_reading_and_resolving_a_recipe_imports_no_torch():
    code = "import sys, tunesmith.recipe.file, tunesmith.recipe.resolve; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
