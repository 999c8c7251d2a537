"""What a recipe says wrongly is found before data or model are looked at, all of it at once."""

from __future__ import annotations

import pytest

from tunesmith.errors import RecipeError
from tunesmith.recipe import file
from tunesmith.recipe.check import check_recipe, name_choices


def _recipe(**fields):
    return file.build({"data": "rows.csv", "model": "m", **fields})


def _told(**fields) -> str:
    with pytest.raises(RecipeError) as caught:
        check_recipe(_recipe(**fields))
    return str(caught.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"strategy": "fulll"}, ("strategy", '"fulll"', 'did you mean "full"?')),
        ({"task": "clasification"}, ("task", 'did you mean "classification"?')),
        ({"strategy": {"name": "full", "stages": 2}}, ("full has no option", "stages")),
        (
            {"train": {"optimizer": {"name": "adamw", "weight_decey": 0.1}}},
            ("train.optimizer", 'did you mean "weight_decay"?'),
        ),
        ({"train": {"optimizer": {"name": "adamw", "weight_decay": "much"}}}, ("train.optimizer.weight_decay", "much")),
        ({"model": {"name": "m", "head": {"name": "pooled", "pooling": "meen"}}}, ("model.head.pooling", "meen")),
        ({"task": {"name": "multilabel", "positive": "a"}}, ("multilabel has no option", "positive")),
        ({"evaluate": {"metrics": ["acuracy"]}}, ("evaluate.metrics", 'did you mean "accuracy"?')),
        ({"evaluate": {"select": "f1_makro"}}, ("evaluate.select", 'did you mean "f1_macro"?')),
        ({"train": {"patience": 3, "every": {"evaluate": "never"}}}, ("train.patience", "no effect")),
        ({"train": {"batch": 8, "micro": 16}}, ("train.micro", "more than")),
        (
            {"data": {"source": "a", "valid": "b", "test": "c", "split": "hash"}},
            ("data.split", "no effect"),
        ),
        (
            {"task": "regression", "objective": {"name": "supervised", "class_weights": "balanced"}},
            ("objective.class_weights", "no effect"),
        ),
    ],
)
def test_a_wrong_name_option_or_setting_without_effect_is_named(fields, words):
    told = _told(**fields)
    assert all(word in told for word in words), told


def test_every_problem_is_in_the_one_error():
    with pytest.raises(RecipeError) as caught:
        check_recipe(_recipe(strategy="fulll", task="clasification", evaluate={"metrics": ["acuracy", "f2"]}))
    assert len(caught.value.problems) == 4


def test_a_sound_recipe_and_functions_in_memory_pass():
    check_recipe(_recipe())
    check_recipe(
        _recipe(
            objective="memory:my_loss",
            task={"name": "classification", "positive": "a"},
            evaluate={"metrics": ["accuracy", "memory:my_metric"], "select": "memory:my_metric"},
        )
    )


def test_a_balanced_sampler_beside_pairs_is_refused():
    with pytest.raises(RecipeError, match=r"data\.sampler.*no effect on contrastive"):
        check_recipe(_recipe(data={"source": "a.csv", "sampler": "balanced"}, objective={"name": "contrastive"}))


def test_options_alone_are_about_the_default_or_the_only_thing_that_has_them():
    tree = {
        "train": {"optimizer": {"weight_decay": 0.1}},
        "task": {"positive": "a"},
        "model": {"name": "m", "head": {"pooling": "max"}},
        "data": {"source": "s", "split": {"test": 0.2}},
    }
    name_choices(tree)
    assert tree["train"]["optimizer"]["name"] == "adamw"
    assert tree["task"]["name"] == "classification"
    assert tree["model"]["head"]["name"] == "pooled"
    assert tree["data"]["split"]["name"] == "hash"


def test_options_that_nothing_has_stay_without_a_name():
    assert name_choices({"task": {"sparkle": 1}, "strategy": "head"}) == {"task": {"sparkle": 1}, "strategy": "head"}
