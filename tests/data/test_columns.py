"""Guesses of inputs, target and task."""

import pytest
import torch
from torch.utils.data import TensorDataset

from tunesmith.data.columns import guess
from tunesmith.data.profile import check_target
from tunesmith.data.sources import open_source
from tunesmith.errors import DataError

TEXTS = [f"the message number {n} says something new" for n in range(12)]
CLASSES = ["good", "bad", "worse"] * 4


def test_text_and_label_are_found_by_name(table_of):
    found = guess(table_of(id=list(range(12)), message=TEXTS, intent=CLASSES))
    assert (found.inputs, found.target, found.task) == (("message",), "intent", "classification")
    assert found.notes[0] == 'text: column "message" (39 characters on average); label: column "intent" (3 classes)'


def test_exact_names_come_before_endings_and_case_does_not_matter(table_of):
    table = table_of(Text=TEXTS, airline_sentiment=CLASSES, Label=CLASSES)
    assert guess(table).target == "Label"
    assert guess(table_of(Text=TEXTS, airline_sentiment=CLASSES)).target == "airline_sentiment"
    assert guess(table_of(Text=TEXTS, airlineSentiment=CLASSES, kind=CLASSES)).target == "airlineSentiment"


def test_columns_are_found_by_content_when_names_say_nothing(table_of):
    found = guess(table_of(a=CLASSES, b=TEXTS))
    assert (found.inputs, found.target) == (("b",), "a")


def test_a_category_beside_the_text_is_never_an_input(table_of):
    assert guess(table_of(text=TEXTS, fine=CLASSES, label=CLASSES)).inputs == ("text",)


@pytest.mark.parametrize("pair", [("premise", "hypothesis"), ("Sentence1", "Sentence2"), ("question", "sentence")])
def test_known_pairs_give_two_inputs(table_of, pair):
    table = table_of(**{pair[0]: CLASSES, pair[1]: TEXTS, "label": CLASSES})
    assert guess(table).inputs == pair


def test_the_longer_text_is_taken_when_it_is_much_longer(table_of):
    short = [f"name {n}" for n in range(12)]
    assert guess(table_of(a=short, b=TEXTS, label=CLASSES)).inputs == ("b",)


def test_two_texts_of_like_length_are_ambiguous(table_of):
    with pytest.raises(DataError) as caught:
        guess(table_of(a=TEXTS, b=TEXTS, label=CLASSES))
    assert '"a": text, 39 characters on average, 12 distinct' in str(caught.value)
    assert """--set 'data.inputs=["a"]'""" in str(caught.value)


def test_two_categories_are_an_ambiguous_target(table_of):
    with pytest.raises(DataError, match='--target "kind"'):
        guess(table_of(text=TEXTS, kind=CLASSES, colour=CLASSES))


def test_no_text_at_all_is_an_error(table_of):
    with pytest.raises(DataError, match="no column holds text"):
        guess(table_of(a=[1.5, 2.5], quality=[1, 2], label=["x", "y"]))


def test_what_is_given_is_checked_and_kept(table_of):
    table = table_of(text=TEXTS, label=CLASSES, other=CLASSES)
    found = guess(table, inputs=["text"], target="other", task="classification")
    assert (found.inputs, found.target, found.notes) == (("text",), "other", ())
    with pytest.raises(DataError) as caught:
        guess(table, inputs=["txt"], target="lable")
    assert len(caught.value.problems) == 2
    assert 'did you mean "label"' in str(caught.value)


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (CLASSES, "classification"),
        ([1, 2, 3] * 4, "classification"),
        ([1.0, 2.0, 3.0] * 4, "classification"),
        ([n + 0.5 for n in range(12)], "regression"),
        (["0.5", "1", "2"] * 4, "regression"),
        ([["a"], ["a", "b"], ["b"]] * 4, "multilabel"),
    ],
)
def test_the_task_follows_from_the_values(table_of, values, task):
    assert guess(table_of(text=TEXTS, label=values)).task == task


def test_many_whole_numbers_are_regression_unless_they_are_codes_of_a_label(table_of):
    texts = [f"{text} {n}" for n in range(12) for text in TEXTS]
    codes = [n % 48 for n in range(144)]
    assert guess(table_of(text=texts, label=codes)).task == "classification"
    assert guess(table_of(text=texts, score=codes)).task == "regression"
    assert guess(table_of(text=texts, label=[n * 3 for n in codes])).task == "regression"


def test_several_targets_are_multilabel(table_of):
    found = guess(table_of(text=TEXTS, a=[0, 1, 1] * 4, b=[1, 0, 1] * 4), target=["a", "b"])
    assert (found.target, found.targets, found.task) == (("a", "b"), ("a", "b"), "multilabel")


def test_an_opaque_source_is_told_by_its_names():
    table = open_source(TensorDataset(torch.zeros(6, 3), torch.tensor([0, 1] * 3)))[""]
    found = guess(table)
    assert (found.inputs, found.target, found.task) == (("input",), "target", "classification")


@pytest.mark.real
@pytest.mark.parametrize(
    ("folder", "inputs", "target", "num_rows"),
    [
        ("trec", ("text",), "label", {"train": 5452, "test": 500}),
        ("sst2", ("sentence",), "sentiment", {"train": 6920, "valid": 872, "test": 1821}),
        ("emotion", ("tweet",), "emotion", {"train": 3257, "valid": 374, "test": 1421}),
        ("chnsenticorp_htl", ("review",), "label", {"": 7766}),
    ],
)
def test_real_sets_are_read_and_understood(real, folder, inputs, target, num_rows):
    tables = open_source(real(folder))
    assert {part: table.num_rows for part, table in tables.items()} == num_rows
    table = tables.get("train") or tables[""]
    found = guess(table)
    assert (found.inputs, found.target, found.task) == (inputs, target, "classification")
    assert check_target(table, found.target, found.task) == []


@pytest.mark.real
def test_the_real_sets_without_text_are_read_and_the_reason_is_told(real):
    wine = open_source(real("wine_quality_red"))[""]
    assert wine.column_names[0] == "fixed acidity"
    with pytest.raises(DataError, match="no column holds text"):
        guess(wine)
    assert guess(wine, inputs=["alcohol"]).target == "quality"
    adult = open_source(real("adult"))[""]
    assert set(adult.column("<=50K").to_pylist()) == {"<=50K", ">50K"}
    assert "header is missing" in adult.notes[0]
    with pytest.raises(DataError, match="which column is the target"):
        guess(adult)
