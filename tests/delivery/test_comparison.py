"""What a comparison says in words, as JSON and as rows."""

from __future__ import annotations

import json
import re

import numpy as np
import pyarrow.csv
import pytest

from tunesmith.delivery.compared import compared
from tunesmith.delivery.comparison import _needed
from tunesmith.errors import DataError, RecipeError


def _tool(num_rows, wrong, *, seed=0, labels="ab"):
    """A tool that is wrong on these of the rows, which have two labels in turn."""
    truth = [labels[row % len(labels)] for row in range(num_rows)]
    told = [labels[(row + (row in wrong)) % len(labels)] for row in range(num_rows)]
    return {"id": [f"r{row}" for row in range(num_rows)], "target": truth, "prediction": told}


GOOD, SAME, BAD = _tool(300, range(20)), _tool(300, range(2, 23)), _tool(300, range(60))


def test_two_alike_are_not_distinguishable_and_it_is_said_how_many_rows_would_be_needed():
    found = compared([GOOD, SAME])
    (pair,) = found.pairs
    assert pair.verdict == "not distinguishable"
    text = str(found)
    assert "accuracy on the same 300 rows (test), with 95 % interval:" in text
    assert "object 2 and object 1 are not distinguishable with these 300 rows: accuracy -0.003 [" in text
    assert re.search(
        r"about [\d,]+ rows would be needed to tell a difference of this size; these tell one of 0\.0", text
    )
    assert re.search(r"McNemar p = 0\.68[78]; beside it paired bootstrap p = 0\.", text)


def test_a_difference_is_told_with_its_direction():
    better, worse = compared([BAD, GOOD]), compared([GOOD, BAD])
    assert "object 2 is better than object 1: accuracy +0.133 [+0.0" in str(better)
    assert "object 2 is worse than object 1: accuracy -0.133 [-0.1" in str(worse)
    assert "would be needed" not in str(better)
    assert [better.pairs[0].verdict, worse.pairs[0].verdict] == ["better", "worse"]


def test_rows_won_and_lost_are_shown_with_what_each_says():
    text = str(compared([GOOD, SAME]))
    assert "  won 2 rows, such as:\n    r0 is a, object 1 says b, object 2 a\n    r1 is b, object 1 says a" in text
    assert "  lost 3 rows, such as:\n    r20 is a, object 1 says a, object 2 b" in text
    assert str(compared([GOOD, BAD])).count("\n    r") == 5


def test_equal_scores_and_equal_answers_are_told_apart():
    swapped = _tool(300, range(280, 300))
    assert "their scores are equal, and no number of rows tells that; these tell one of 0.0" in str(
        compared([GOOD, swapped])
    )
    assert "their scores are the same, whichever of these rows are looked at" in str(compared([GOOD, {**GOOD}]))


@pytest.mark.parametrize(
    "rows, words",
    [(8, "about 8 "), (8934, "about 9,000 "), (890_001, "about 900,000 "), (1_000_001, "more than 1,000,000 ")],
)
def test_the_rows_that_would_be_needed_are_a_round_number(rows, words):
    assert _needed(rows, 0.02).startswith(words)


def test_of_an_error_less_is_less_and_the_nearer_one_is_better():
    random = np.random.default_rng(0)
    truth = random.normal(size=200)
    first, second = (
        {"id": range(200), "target": truth, "prediction": truth + w * random.normal(size=200)} for w in (1, 0.4)
    )
    found = compared([first, second], metric="rmse")
    assert re.search(r"object 2 is better than object 1: rmse -0\.\d+ \[-0\.\d+, -0\.\d+\]", str(found))
    assert "paired bootstrap p < 0.001; beside it Wilcoxon p < 0.001" in str(found)
    assert found.as_json()["pairs"][0]["gain"]["value"] > 0
    assert compared([first, second]).metric == "r2"
    gained = np.abs(first["prediction"] - truth) - np.abs(second["prediction"] - truth)
    assert list(found.pairs[0].wins) == [row for row in np.argsort(-gained) if gained[row] > 0]


def test_each_of_several_is_held_against_the_first_with_holm():
    found = compared([BAD, GOOD, SAME])
    assert [(pair.name, pair.against) for pair in found.pairs] == [("object 2", "object 1"), ("object 3", "object 1")]
    alone = [compared([BAD, other]).pairs[0].p for other in (GOOD, SAME)]
    assert [pair.p for pair in found.pairs] == pytest.approx([2 * alone[0], max(2 * alone[0], alone[1])])
    assert "Holm over 2" in str(found) and "Holm" not in str(compared([BAD, GOOD]))


def test_a_difference_that_one_test_finds_may_be_chance_among_ten():
    last = _tool(300, range(13))
    others = [_tool(300, range(start, start + 20)) for start in range(30, 39)]
    assert compared([GOOD, last]).pairs[0].verdict == "better"
    assert compared([GOOD, *others, last]).pairs[-1].verdict == "not distinguishable"


def test_a_metric_of_probabilities_goes_by_them():
    chances = {"probability_a": [0.6 if one == "a" else 0.4 for one in GOOD["prediction"]]}
    chances["probability_b"] = [1 - chance for chance in chances["probability_a"]]
    sure = {name: [0.99 if chance > 0.5 else 0.01 for chance in values] for name, values in chances.items()}
    found = compared([GOOD | chances, GOOD | sure], metric="log_loss")
    log_loss = [-(280 * np.log(right) + 20 * np.log(1 - right)) / 300 for right in (0.6, 0.99)]
    assert [each.score["value"] for each in found.contenders] == pytest.approx(log_loss)
    assert not found.pairs[0].wins and not found.pairs[0].losses
    with pytest.raises(DataError, match="no probabilities"):
        compared([GOOD, GOOD | sure], metric="log_loss")


def test_a_function_of_your_own_compares():
    def worth(truth, told):
        return sum(3 if true == "a" else 1 for true, said in zip(truth, told, strict=True) if true == said)

    found = compared([BAD, GOOD], metric=worth)
    assert found.metric == "worth" and found.pairs[0].difference.gain == 20 * 3 + 20
    assert found.pairs[0].difference.test == "paired bootstrap"


def test_json_says_the_same_with_the_ids_of_all_rows_won_and_lost():
    found = compared([BAD, GOOD]).as_json()
    json.dumps(found, allow_nan=False)
    assert found["metric"] == "accuracy" and found["rows"] == 300 and found["part"] == "test"
    assert [each["value"] for each in found["scores"]] == pytest.approx([0.8, 280 / 300])
    (pair,) = found["pairs"]
    assert pair["verdict"] == "better" and pair["test"] == "McNemar" and pair["p"] < 0.001
    assert pair["gain"]["low"] < pair["gain"]["value"] < pair["gain"]["high"]
    assert pair["wins"] == [f"r{row}" for row in range(20, 60)] and pair["losses"] == []
    assert pair["needed_rows"] < 300 and pair["tellable"] > 0


def test_the_rows_on_which_they_differ_are_written(tmp_path):
    assert compared([GOOD, SAME]).write(tmp_path / "rows.csv") == 5
    rows = pyarrow.csv.read_csv(tmp_path / "rows.csv")
    assert rows["id"].to_pylist() == ["r0", "r1", "r20", "r21", "r22"]
    assert rows["target"].to_pylist() == ["a", "b", "a", "b", "a"]
    assert rows["prediction_object 1"].to_pylist() == ["b", "a", "a", "b", "a"]
    assert rows["loss_object 2"].to_pylist() == [0, 0, 1, 1, 1]


ONE_CLASS = {"id": range(3), "target": [*"aaa"], "prediction": [*"aab"], "probability_a": [0.9, 0.8, 0.3]}
ONE_CLASS["probability_b"] = [1 - chance for chance in ONE_CLASS["probability_a"]]
WRONG = {
    "one alone": ([GOOD], {}, "nothing to compare with"),
    "twice the same": ([GOOD, GOOD], {}, "object 1 is given twice"),
    "a metric of another task": ([GOOD, SAME], {"metric": "rmse"}, '"rmse" does not fit a classification'),
    "a metric that is none": ([GOOD, SAME], {"metric": "acuracy"}, 'no metric is called.*"accuracy"'),
    "data without a Run": ([GOOD, SAME], {"data": "rows.csv"}, "answered by Runs"),
    "undefined": ([ONE_CLASS, {**ONE_CLASS}], {"metric": "auroc"}, '"auroc" is not defined on these 3 rows'),
}


@pytest.mark.parametrize("given, options, words", WRONG.values(), ids=WRONG)
def test_what_cannot_be_done_is_an_error_that_says_so(given, options, words):
    with pytest.raises((DataError, RecipeError)) as raised:
        compared(given, **options)
    assert re.search(words, str(raised.value), re.DOTALL)
