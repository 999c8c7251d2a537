"""The recipe file: written and read back unchanged, and every mistake answered with file, line and the right word."""

from __future__ import annotations

import tomllib
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.errors import RecipeError
from tunesmith.recipe import file
from tunesmith.recipe.schema import Recipe

WORD = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
LENGTH = st.one_of(
    st.just("auto"),
    st.just("never"),
    st.integers(1, 9999).map("{} steps".format),
    st.floats(0.25, 99, allow_nan=False).map(lambda amount: f"{amount:.2f} epochs"),
    st.integers(1, 100).map("{} %".format),
)
RATE = st.floats(1e-9, 10, allow_nan=False)
OPTIONS = st.dictionaries(WORD.filter(lambda word: word != "name"), st.one_of(st.booleans(), st.integers(-9, 9), WORD))
CHOICE = st.one_of(WORD.filter(lambda word: word != "auto"), st.builds(lambda n, o: {"name": n, **o}, WORD, OPTIONS))
NAMES = st.lists(WORD, min_size=1, max_size=3)
TREE = st.fixed_dictionaries(
    {
        "data": st.fixed_dictionaries(
            {"source": WORD},
            optional={
                "valid": WORD,
                "inputs": NAMES,
                "target": st.one_of(WORD, NAMES),
                "limit": st.integers(1, 10**9),
                "max_length": st.integers(1, 8192),
                "split": CHOICE,
                "clean": st.just({"missing": "drop"}),
            },
        ),
        "model": st.one_of(
            WORD, st.fixed_dictionaries({"name": WORD}, optional={"head": CHOICE, "trust": st.booleans()})
        ),
    },
    optional={
        "name": WORD,
        "task": CHOICE,
        "strategy": CHOICE,
        "seed": st.integers(0, 2**31),
        "train": st.fixed_dictionaries(
            {},
            optional={
                "length": LENGTH,
                "lr": RATE,
                "batch": st.integers(1, 512),
                "optimizer": CHOICE,
                "every": st.fixed_dictionaries({"evaluate": LENGTH}),
                "precision": st.sampled_from(["fp32", "bf16"]),
            },
        ),
        "evaluate": st.fixed_dictionaries({"metrics": NAMES}),
        "deliver": st.fixed_dictionaries({"push": WORD}),
    },
)


def _write(folder: Path, text: str, name: str = "r.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def _problems(path: Path) -> str:
    with pytest.raises(RecipeError) as caught:
        file.read(path)
    return str(caught.value)


@settings(max_examples=60, deadline=None)
@given(TREE)
def test_a_recipe_written_to_a_file_and_read_back_is_the_same_recipe(tree):
    recipe = file.build(tree)
    assert file.build(tomllib.loads(file.dump(recipe))) == recipe


def test_an_empty_recipe_survives_the_file_on_disk_too(tmp_path):
    recipe = file.build({"data": "rows.csv", "model": "m"})
    path = _write(tmp_path, file.dump(recipe, {"train.lr": "a reason"}))
    assert file.read(path) == recipe


def test_a_yaml_recipe_follows_yaml_1_2(tmp_path):
    text = "name: no\ndata: {source: rows.csv, target: on}\nmodel: yes\ntrain:\n  lr: 3e-4\n"
    recipe = file.read(_write(tmp_path, text, "r.yaml"))
    assert (recipe.name, recipe.data.target, recipe.model.name, recipe.train.lr) == ("no", "on", "yes", 3e-4)


def test_a_yaml_mistake_is_told_with_its_line(tmp_path):
    told = _problems(_write(tmp_path, "data: rows.csv\nmodel: m\ntrain:\n  lr: 3e-4\n  bath: 8\n", "r.yaml"))
    assert "r.yaml, line 5" in told
    assert 'unknown key "train.bath"' in told
    assert '"batch"' in told


def test_all_mistakes_are_shown_together_each_with_file_line_and_the_nearest_word(tmp_path):
    text = (
        'stratgy = "full"\nseed = "7"\ndata = "rows.csv"\nmodel = "m"\n\n[train]\nlength = "3 lessons"\nlr = "fast"\n'
        "bacth = 8\n"
    )
    told = _problems(_write(tmp_path, text))
    for line, words in (
        (1, ('unknown key "stratgy"', 'did you mean "strategy"?')),
        (2, ('"seed"', "'7'", "should be a valid integer")),
        (7, ('"train.length"', "3 lessons", 'write "3 epochs", "500 steps"')),
        (8, ('"train.lr"', "'fast'", "number")),
        (9, ('unknown key "train.bacth"', 'did you mean "batch"?')),
    ):
        place = f"r.toml, line {line}: "
        assert place in told
        part = told.partition(place)[2].partition("r.toml, line")[0]
        assert all(word in part for word in words), part


def test_missing_data_and_model_say_what_to_type(tmp_path):
    told = _problems(_write(tmp_path, "seed = 1\n"))
    assert '"data" is missing' in told
    assert '"model" is missing' in told
    assert "--model" in told


@pytest.mark.parametrize(("name", "text"), [("r.toml", "seed = \n"), ("r.yaml", "a: [1\n"), ("s.yaml", "- 1\n")])
def test_a_file_that_is_no_toml_or_yaml_names_the_file(tmp_path, name, text):
    assert name in _problems(_write(tmp_path, text, name))


def test_a_recipe_in_another_encoding_is_refused_and_a_byte_order_mark_is_not(tmp_path):
    path = tmp_path / "r.toml"
    path.write_bytes('data = "größe.csv"\nmodel = "m"\n'.encode("latin-1"))
    assert "UTF-8" in _problems(path)
    path.write_bytes('data = "größe.csv"\nmodel = "m"\n'.encode("utf-8-sig"))
    assert file.read(path).data.source == "größe.csv"


def test_an_option_without_a_name_asks_for_the_name(tmp_path):
    told = _problems(_write(tmp_path, 'data = "a"\nmodel = "m"\n[task]\npositive = "x"\n'))
    assert '"task" has options and no name' in told


def test_set_reads_toml_values_and_falls_back_to_text():
    tree = file.override({}, ["train.lr=1e-4", "seed=3", "data.target=my label", 'data.inputs=["a", "b"]'])
    assert tree == {"train": {"lr": 1e-4}, "seed": 3, "data": {"target": "my label", "inputs": ["a", "b"]}}


def test_set_reaches_into_a_choice_and_into_data_and_model_given_as_text():
    tree = file.override(
        {"data": "rows.csv", "model": "m", "strategy": "full"}, ["data.limit=5", "model.head=own", "strategy.decay=0.9"]
    )
    assert tree == {
        "data": {"source": "rows.csv", "limit": 5},
        "model": {"name": "m", "head": "own"},
        "strategy": {"name": "full", "decay": 0.9},
    }


def test_set_leaves_the_given_tree_alone_and_refuses_what_sets_nothing():
    tree = {"train": {"lr": 1.0}}
    file.override(tree, ["train.lr=2.0"])
    assert tree == {"train": {"lr": 1.0}}
    with pytest.raises(RecipeError, match="sets nothing"):
        file.override(tree, ["train.lr"])


def test_reasons_stand_as_comments_behind_their_fields():
    recipe = file.build({"data": {"source": "rows.csv", "inputs": ["a"]}, "model": "m", "train": {"lr": 1e-4}})
    text = file.dump(recipe, {"train.lr": "because", "data.inputs": "found", "seed": "given"})
    rows = text.splitlines()
    assert "lr = 0.0001  # because" in rows
    assert "seed = 0  # given" in rows
    assert any(row.startswith("inputs = [") and row.endswith("# found") for row in rows)
    assert file.build(tomllib.loads(text)) == recipe


def test_the_template_explains_every_field_and_is_the_recipe():
    recipe = file.build({"name": "r", "data": "rows.csv", "model": "m"})
    text = file.template(recipe)
    assert file.build(tomllib.loads(text)) == recipe
    rich = {
        "model": {"name": "m", "edits": {"reinit": {"stages": ["block.1"]}}},
        "train": {"lr": {"a b": 1e-3, "c": 2.0}},
    }
    more = file.build({"data": "rows.csv", "strategy": {"name": "last", "stages": 2}, **rich})
    assert file.build(tomllib.loads(file.template(more))) == more == file.build(tomllib.loads(file.dump(more)))
    rows = text.splitlines()
    unexplained = [
        row
        for above, row in zip(["", *rows], rows, strict=False)
        if row and not row.startswith(("#", "[")) and not above.startswith("#")
    ]
    assert unexplained == []
    assert "# valid =" in rows


def test_the_json_schema_knows_every_field_and_accepts_what_a_recipe_is():
    schema = file.json_schema()
    assert set(schema["properties"]) == set(Recipe.model_fields)
    assert schema["required"] == ["data", "model"]
    assert schema["additionalProperties"] is False
    good = {
        "task": {"name": "classification", "positive": "spam"},
        "data": {"source": "rows.csv", "target": ["a", "b"]},
        "model": {"name": "m", "head": "own"},
        "train": {"lr": 1e-4, "length": "3 epochs", "optimizer": {"name": "adamw", "weight_decay": 0.1}},
    }
    file.build(good)
    jsonschema.validate(good, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**good, "stratgy": "full"}, schema)
