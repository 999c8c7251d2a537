"""Slices: what is formed, planted ones that are found, and how often null ones are called worse."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from tunesmith.data.table import Table
from tunesmith.evaluation.slices import Judged, score_slices
from tunesmith.tasks.task import Target


def table(**columns):
    rows = len(next(iter(columns.values())))
    return Table(arrow=pa.table(columns), origin=(("rows.csv", rows),))


def judged(rows, asked="auto", *, inputs=("text",), modality="text", lengths=None):
    return Judged(rows, np.arange(rows.num_rows), inputs, modality, lengths, asked)


@pytest.fixture
def answers(predictions):
    """`answers(wrong, codes, labels)`: predictions of those codes, wrong in the flagged rows."""

    def build(wrong, codes=None, labels=("a", "b"), counts=()):
        codes = np.arange(len(wrong)) % len(labels) if codes is None else codes
        told = np.where(wrong, (codes + 1) % len(labels), codes)
        target = Target(("label",), labels, counts)
        return predictions(codes, np.eye(len(labels))[told] * 0.8 + 0.2 / len(labels), target)

    return build


def by_name(found):
    return {one["slice"]: one for one in found}


def test_a_planted_slice_is_found_and_told_with_its_figures(answers):
    random = np.random.default_rng(0)
    channel = random.choice(["mail", "phone", "chat"], 400)
    wrong = random.random(400) < np.where(channel == "phone", 0.45, 0.1)
    rows = table(text=["x"] * 400, label=["a"] * 400, channel=channel.tolist())
    found = by_name(score_slices(answers(wrong), "accuracy", judged(rows)))
    assert list(found) == ['label "a"', 'label "b"', "channel = chat", "channel = mail", "channel = phone"]
    assert [name for name, one in found.items() if one["worse"]] == ["channel = phone"]
    one, phone = found["channel = phone"], channel == "phone"
    assert (one["kind"], one["column"], one["value"], one["rows"]) == ("column", "channel", "phone", phone.sum())
    assert one["value_of"]["value"] == pytest.approx(1 - wrong[phone].mean())
    assert one["rest"] == pytest.approx(1 - wrong[~phone].mean())
    assert one["difference"]["value"] == pytest.approx(one["value_of"]["value"] - one["rest"])
    assert one["difference"]["high"] < 0 and one["p_adjusted"] == pytest.approx(5 * one["p"])
    assert found['label "a"']["metric"] == "recall" and one["metric"] == "accuracy"


def test_slices_that_do_not_differ_are_called_worse_in_at_most_7_of_100_runs(answers):
    random, alarms = np.random.default_rng(1), 0
    for _ in range(100):
        columns = {f"c{width}": random.integers(width, size=160).astype(str).tolist() for width in (2, 3, 5)}
        rows = table(text=["x"] * 160, **columns, age=random.normal(size=160))
        lengths = random.integers(3, 60, 160)
        found = score_slices(answers(random.random(160) < 0.2), "accuracy", judged(rows, lengths=lengths))
        assert len(found) >= 2 + 4 + 9 + 4
        alarms += any(one["worse"] for one in found)
    assert alarms <= 7


def test_errors_of_a_regression_are_held_against_each_other_alike_and_planted_ones_found(predictions):
    random, alarms = np.random.default_rng(2), 0
    target = Target(("y",), ("value",))
    for planted in [False] * 100 + [True]:
        codes, site = random.normal(size=200), random.integers(4, size=200)
        spread = np.where(planted & (site == 2), 4.0, 1.0)
        told = (codes + spread * random.normal(size=200))[:, None]
        rows = table(x=codes.tolist(), y=codes.tolist(), site=[f"site {number}" for number in site])
        found = score_slices(
            predictions(codes, told, target, "regression"), "r2", judged(rows, inputs=("x",), modality="table")
        )
        worse = [one["slice"] for one in found if one["worse"]]
        alarms += bool(worse) and not planted
    assert alarms <= 7 and worse == ["site = site 2"]
    assert {one["metric"] for one in found} == {"mae"} and found[2]["difference"]["value"] > 0


def test_lengths_and_numbers_are_in_quarters_and_missing_values_apart(answers):
    age = [1.5 * number for number in range(80)] + [None] * 20
    lengths = np.r_[np.arange(50), np.arange(50)]
    rows = table(text=["x"] * 100, age=age)
    found = by_name(score_slices(answers(np.zeros(100, bool)), "f1_macro", judged(rows, lengths=lengths)))
    assert found["text length: longest quarter"]["value"] == "38 to 49 tokens"
    assert found["text length: longest quarter"]["rows"] == 24
    quarters = [f"age: {which} quarter" for which in ("lowest", "second", "third", "highest")]
    assert [found[name]["rows"] for name in [*quarters, "age: missing"]] == [20] * 5
    assert found[quarters[3]]["value"] == "90 to 118.5" and found[quarters[3]]["column"] == "age"
    assert {one["metric"] for one in found.values() if one["kind"] != "class"} == {"accuracy"}


def test_equal_lengths_and_a_column_of_one_value_make_no_slice(answers):
    rows = table(text=["x"] * 40, site=["here"] * 40)
    found = score_slices(answers(np.zeros(40, bool)), "accuracy", judged(rows, ["site"], lengths=np.full(40, 7)))
    assert [one["kind"] for one in found] == ["class", "class"]


def test_columns_that_name_the_rows_hold_free_text_or_are_read_make_no_slice_unless_asked_for(answers):
    rows = table(
        text=[f"text {number % 3}" for number in range(90)],
        label=["a", "b"] * 45,
        ticket_id=[str(number % 4) for number in range(90)],
        remark=[f"remark {number}" for number in range(90)],
        few=["often"] * 70 + ["seldom"] * 20,
        fewer=["often"] * 71 + ["seldom"] * 19,
    )
    some = answers(np.zeros(90, bool))
    columns = {one["column"] for one in score_slices(some, "accuracy", judged(rows)) if one["column"]}
    assert columns == {"few", "fewer"}
    assert "fewer = seldom" not in by_name(score_slices(some, "accuracy", judged(rows)))
    asked = by_name(score_slices(some, "accuracy", judged(rows, ["text", "ticket_id", "remark", "fewer"])))
    assert {one["column"] for one in asked.values()} == {None, "text", "ticket_id", "remark", "fewer"}
    assert asked["fewer = seldom"]["rows"] == 19
    assert sum(one["column"] == "remark" for one in asked.values()) == 50, "the most frequent"


def test_slices_of_under_5_rows_and_their_counterparts_are_counted_and_not_tested(answers):
    rows = table(text=["x"] * 30, site=["far"] * 4 + ["near"] * 26)
    found = by_name(score_slices(answers(np.arange(30) < 4), "accuracy", judged(rows, ["site"])))
    for name, count in (("site = far", 4), ("site = near", 26)):
        one = found[name]
        assert (one["rows"], one["p"], one["p_adjusted"], one["worse"]) == (count, None, None, False)
        assert one["value_of"] == one["difference"] == {"value": None, "low": None, "high": None}
    assert (
        found['label "a"']["p_adjusted"] == pytest.approx(2 * found['label "a"']["p"]) or found['label "a"']["p"] > 0.5
    )


def test_rare_labels_are_held_together(answers):
    codes = np.r_[np.zeros(120, int), np.repeat([1, 2, 3], 8)]
    wrong = (codes > 1) & (np.arange(144) % 2 == 0)
    some = answers(wrong, codes, ("much", "a", "b", "c"), counts=(1000, 60, 70, 700))
    found = by_name(score_slices(some, "accuracy", judged(table(text=["x"] * 144))))
    rare = found["rare labels: a, b"]
    assert (rare["kind"], rare["rows"], rare["value_of"]["value"]) == ("rare", 16, 0.75)


def test_several_labels_a_row_are_judged_by_rows_that_are_right_in_all(case, predictions):
    codes, chances, target = case("multilabel", 200)
    found = score_slices(predictions(codes, chances, target, "multilabel"), "f1_micro", judged(table(text=["x"] * 200)))
    assert [one["rows"] for one in found] == codes.sum(0).astype(int).tolist()
    right = ((chances > 0.5) == (codes > 0.5)).all(1)
    assert found[1]["value_of"]["value"] == pytest.approx(right[codes[:, 1] > 0.5].mean())
    assert {one["metric"] for one in found} == {"accuracy"}


def test_rows_without_a_known_target_are_left_out(answers):
    codes = np.r_[np.arange(60) % 2, np.full(20, -1)]
    rows = table(text=["x"] * 80, site=["a", "b", "c", "d"] * 20)
    found = score_slices(answers(np.zeros(80, bool), codes), "accuracy", judged(rows, ["site"]))
    assert [one["rows"] for one in found] == [30, 30, 15, 15, 15, 15]


def test_images_are_sliced_by_the_pixels_of_their_files(answers):
    def png(side):
        file = io.BytesIO()
        Image.new("RGB", (side, 10)).save(file, "PNG")
        return file.getvalue()

    rows = table(image=[png(8 + row % 4) for row in range(40)])
    found = by_name(
        score_slices(answers(np.zeros(40, bool)), "accuracy", judged(rows, inputs=("image",), modality="image"))
    )
    assert found["image size: largest quarter"]["value"] == "110 pixels"
    assert found["image size: largest quarter"]["kind"] == "size"
    assert found["image size: smallest quarter"]["rows"] == 10
