"""The parts of the report that are pure: the verdict, the words, the scales, which mistakes are the surest."""

from __future__ import annotations

import re
import string
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tunesmith
from tunesmith.delivery import mistakes, plan_file, verdict, words
from tunesmith.delivery.reporting.curves import MOST_POINTS, thinned
from tunesmith.delivery.reporting.drawings import Interval, Intervals, Lines, Matrix, Scale, Series, spanning
from tunesmith.delivery.verdict import Facts
from tunesmith.delivery.words import LANGUAGES, Words
from tunesmith.evaluation.predict import Predictions
from tunesmith.strategies.plan import Phase, Plan, Rule
from tunesmith.tasks import classification, multilabel, regression
from tunesmith.tasks.task import Target

DELIVERY = Path(tunesmith.__file__).parent / "delivery"
FINITE = st.floats(-1e6, 1e6).map(lambda value: round(value, 6))


def interval(value: float, reach: float = 0.02) -> dict[str, float]:
    return {"value": value, "low": value - reach, "high": value + reach}


def facts(own: float, others: dict[str, float], *, rows: int = 500, metric: str = "accuracy", **more: Any) -> Facts:
    """A model and baselines by one metric, each with an interval of ± 0.02."""
    test = {metric: interval(own), "baselines": {name: {metric: interval(value)} for name, value in others.items()}}
    seconds = more.pop("baseline_seconds", {})
    return Facts({"test": test | more}, metric, rows, 12.0, baseline_seconds=seconds)


def said(known: Facts, language: str = "en") -> str:
    return " ".join(verdict.verdict(known, Words(language)).sentences)


@pytest.mark.parametrize(
    ("known", "standing", "sentence"),
    [
        (facts(0.9, {"majority": 0.3, "tfidf_logistic": 0.8}), "better", "word counts + logistic regression (0.800"),
        (facts(0.9, {"tfidf_logistic": 0.89}), "same", "take the baseline"),
        (facts(0.5, {"majority": 0.5}), "same", "nothing shows that the model has learnt"),
        (facts(0.3, {"majority": 0.5}), "worse", "something is wrong"),
        (facts(0.8, {"tfidf_logistic": 0.9}), "worse", "Use the baseline"),
        (facts(0.9, {"frozen_logistic": 0.9}), "same", "the strategy head would do"),
        (facts(0.5, {"mean": 1.0, "tfidf_ridge": 0.9}, metric="rmse"), "better", "ridge regression (0.900"),
        (facts(0.9, {"mean": 0.5}, metric="rmse"), "worse", "-0.400"),
        (facts(0.9, {}), "alone", "nothing to compare"),
        (Facts({}, "accuracy", 0), "unknown", "No row was set aside"),
    ],
)
def test_the_verdict_says_how_the_model_stands_and_what_to_do(known, standing, sentence):
    found = verdict.verdict(known, Words())
    assert found.standing == standing
    assert sentence in " ".join(found.sentences)
    assert all(verdict.verdict(known, Words("zh")).sentences)


def test_the_paired_interval_decides_where_there_is_one():
    own = facts(0.9, {"tfidf_logistic": 0.89}, against={"tfidf_logistic": interval(0.01, 0.005)})
    assert verdict.verdict(own, Words()).standing == "better"
    assert "+0.010 [0.005, 0.015]" in said(own)
    own = facts(0.9, {"tfidf_logistic": 0.8}, against={"tfidf_logistic": interval(0.1, 0.2)})
    assert verdict.verdict(own, Words()).standing == "same"


def test_the_cost_of_a_baseline_that_is_as_good_is_told():
    own = facts(0.9, {"frozen_logistic": 0.9}, baseline_seconds={"frozen_logistic": 3.2})
    assert "That baseline learns in 3.2 s." in said(own)
    assert "learns in" not in said(facts(0.9, {"frozen_logistic": 0.5}, baseline_seconds={"frozen_logistic": 3.2}))


def test_few_rows_and_rows_that_chose_are_told():
    assert "60 rows are few" in said(facts(0.9, {"tfidf_logistic": 0.9}, rows=60))
    assert "few" not in said(facts(0.9, {"tfidf_logistic": 0.9}, rows=600))
    valid = Facts({"valid": facts(0.9, {"majority": 0.1}).judged}, "accuracy", 500)
    assert "also chose the model" in said(valid)


def test_the_third_figure_is_the_calibration_error_else_the_gap_else_the_time():
    def third(known: Facts) -> str:
        return verdict.verdict(known, Words()).figures[2].name

    own = facts(0.9, {"majority": 0.1})
    assert third(own) == "Training time"
    gap = {"finding": "cannot be told", "gap": interval(0.1)}
    assert third(Facts(own.scores, "accuracy", 500, 12.0, gap)) == "Gap to training rows"
    error = facts(0.9, {"majority": 0.1}, calibration={"ece": interval(0.03)})
    assert third(Facts(error.scores, "accuracy", 500, 12.0, gap)) == "Calibration error"


def test_a_metric_that_the_rows_do_not_define_is_no_score():
    undefined = {"auroc": {"value": None, "low": None, "high": None}, "baselines": {}}
    found = verdict.verdict(Facts({"test": undefined}, "auroc", 5), Words())
    assert found.standing == "unknown" and not found.figures and "AUROC" in found.sentences[0]


def test_all_words_are_there_in_every_language_and_fill_in_the_same():
    for key, versions in words.table().items():
        assert len(versions) == len(LANGUAGES) and all(versions), key
        names = [sorted(name for _, name, _, _ in string.Formatter().parse(text) if name) for text in versions]
        assert names[0] == names[1], key


def test_every_key_that_is_used_has_words_and_every_word_is_used():
    files = [path for path in sorted(DELIVERY.rglob("*")) if path.suffix in (".py", ".jinja")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    keys = words.table().keys()
    used = set(re.findall(r'words\(\s*"([a-z_.]*[a-z])"', text))
    assert len(used) > 90 and not used - keys
    # Put together: f"cost.{kind}", words.named("metric", name).
    built = set(re.findall(r'f"([a-z]+)\.\{|named\("([a-z]+)"', text))
    kinds = {kind for pair in built for kind in pair if kind}
    assert not [key for key in keys if f'"{key}"' not in text and key.split(".")[0] not in kinds]


@given(st.lists(FINITE, min_size=1, max_size=20))
def test_a_scale_that_spans_values_keeps_each_inside_and_in_order(values):
    scale = spanning(values, 10, 110)
    places = [scale(value) for value in sorted(values)]
    assert places == sorted(places) and places[0] >= 10 and places[-1] <= 110
    assert all(10 <= place <= 110 for place, _ in scale.ticks)


def test_what_lies_outside_a_scale_is_drawn_at_its_end():
    assert Scale(0, 1, 10, 110)(7) == 110 and Scale(0, 1, 110, 10)(-7) == 110


@pytest.mark.parametrize(
    "drawing",
    [
        Intervals([Interval("one", "1", 1.0, 1.0, 1.0)], zero=0.0),
        Lines([Series("flat", [(1, 0.0), (2, 0.0)])], "step", "loss"),
        Lines([Series("one", [(5, 2.0)])], "step", "loss", diagonal="exact"),
        Matrix(["a", "b" * 50], [[0, 0], [0, 0]], "predicted", "true"),
    ],
)
def test_drawings_of_values_that_are_all_the_same_have_a_size(drawing):
    assert drawing.height > 0
    if drawing.kind == "lines":
        assert drawing.x.low < drawing.x.high and drawing.y.low < drawing.y.high


@given(st.integers(1, 5000))
def test_a_thinned_line_keeps_its_last_step_and_its_mean(count):
    points = [(step, float(step % 7)) for step in range(1, count + 1)]
    found = thinned(points)
    assert len(found) == min(count, MOST_POINTS) and found[-1][0] == count
    assert min(y for _, y in points) <= min(y for _, y in found) and max(y for _, y in found) <= 6


def predictions(task: Any, target: Target, codes: Any, outputs: Any) -> Predictions:
    outputs = np.asarray(outputs, np.float32)
    return Predictions(np.arange(len(outputs)).astype(str), np.asarray(codes), outputs, task, target)


def test_a_wrong_class_is_as_sure_as_its_probability_and_a_right_one_or_an_unknown_target_is_none():
    target = Target(("y",), ("a", "b"), positive=1)
    outputs = np.log([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.2, 0.8]])
    found = mistakes.wrongness(predictions(classification.TASK, target, [0, 1, 0, -1], outputs))
    assert found == pytest.approx([0, 0.9, 0.8, 0], abs=1e-6)


def test_a_threshold_decides_which_class_is_wrong():
    target = Target(("y",), ("a", "b"), positive=1).at([0.05])
    found = mistakes.wrongness(predictions(classification.TASK, target, [0], np.log([[0.9, 0.1]])))
    assert found == pytest.approx([0.1], abs=1e-6)


def test_of_several_labels_the_most_surely_wrong_one_counts():
    target = Target(("y",), ("a", "b", "c"))
    chances = np.array([[0.9, 0.6, 0.05], [0.9, 0.2, 0.2]])
    outputs = np.log(chances / (1 - chances))
    codes = np.array([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]], np.float32)
    found = mistakes.wrongness(predictions(multilabel.TASK, target, codes, outputs))
    assert found == pytest.approx([0.95, 0], abs=1e-6)


def test_of_a_regression_the_distance_counts():
    target = Target(("y",), ("value",))
    found = mistakes.wrongness(predictions(regression.TASK, target, [1.0, np.nan, 3.0], [[1.5], [9.0], [1.0]]))
    assert found == pytest.approx([0.5, 0, 2.0])


def test_the_plan_names_what_moves_in_each_phase_and_how_fast():
    kinds = {"block.0/a.weight": "linear", "block.0/a.bias": "bias", "head/weight": "linear"}
    addresses = {name: np.zeros(6) for name in kinds}
    net = SimpleNamespace(
        kinds=lambda: kinds,
        address=lambda: {name: SimpleNamespace(numel=lambda: 6) for name in addresses},
    )
    top = Phase("top", (Rule("head/*", 1.0), Rule("*", None)), 0.25)
    rest = Phase("rest", (Rule("head/*", 1.0), Rule("*", None, kind="bias"), Rule("*", 0.5)), 0.75)
    job = SimpleNamespace(
        plan=Plan((top, rest)),
        strategy=None,
        recipe=SimpleNamespace(strategy=SimpleNamespace(name="own", options={})),
        minimised=lambda _phase: SimpleNamespace(name="supervised"),
    )
    cadence = SimpleNamespace(total=8, ends=lambda _plan: [2, 8])
    found = plan_file.plan_json(job, net, cadence)
    assert [(phase["start"], phase["end"]) for phase in found["phases"]] == [(0, 2), (2, 8)]
    assert found["phases"][0]["stages"]["block.0"] == {"rate": None, "moving": 0, "parameters": 12}
    assert found["phases"][1]["stages"]["block.0"] == {"rate": 0.5, "moving": 6, "parameters": 12}
    assert found["phases"][1]["stages"]["head"] == {"rate": 1.0, "moving": 6, "parameters": 6}
