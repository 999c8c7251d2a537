"""Calibration from the rows to every place that gives probabilities: weights, exports, scores, files, verbs, cards."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

import tunesmith as package
from tunesmith.delivery import card, folder
from tunesmith.delivery.summary import summary
from tunesmith.errors import Interrupted, RecipeError, TunesmithError
from tunesmith.evaluation import conformal

# Trained far too long on labels that are half noise: every net is sure of itself then.
OVERFIT = (
    "model.options={width = 32, layers = 2, embedding = 2}",
    "train.lr=2e-2",
    "train.length=40 epochs",
    "train.precision=fp32",
    "train.every.evaluate=never",
    "data.split={name = 'hash', valid = 0.4, test = 0.3}",
    'evaluate.metrics=["accuracy", "log_loss"]',
)


def noisy(num_rows=700, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(size=(num_rows, 3))
    label = np.where(x[:, 0] + 1.2 * random.normal(size=num_rows) > 0, "yes", "no")
    return {"a": x[:, 0].tolist(), "b": x[:, 1].tolist(), "c": x[:, 2].tolist(), "label": label.tolist()}


def numbers(num_rows=300):
    random = np.random.default_rng(0)
    x = random.normal(size=num_rows)
    return {"a": x.tolist(), "y": (3 * x + random.normal(size=num_rows)).tolist()}


def fit(rows, out, *settings, target="label", **options):
    told = []
    options = {"device": "cpu", "tell": told.append, **options}
    return package.fit(rows, "new:mlp", target=target, out=out, settings=[*OVERFIT, *settings], **options), told


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory, write_csv):
    """A Run whose temperature was chosen and applied, what it told, and its rows."""
    place = tmp_path_factory.mktemp("calibration")
    rows = write_csv(place / "rows.csv", noisy())
    return (*fit(rows, place / "run"), rows)


@pytest.fixture(scope="module")
def plain(calibrated, tmp_path_factory):
    """The same Run without a temperature."""
    return fit(calibrated[2], tmp_path_factory.mktemp("plain") / "run", "evaluate.temperature=1")[0]


def kept(run, part):
    return pq.read_table(run.path / "predictions" / f"{part}.parquet").to_pydict()


def logits(run, part, label="yes"):
    chances = np.array(kept(run, part)[f"probability_{label}"])
    return np.log(chances) - np.log1p(-chances)


def test_the_temperature_is_chosen_on_valid_and_the_saved_probabilities_have_it(calibrated, plain):
    run, told, _ = calibrated
    found = run.measured["temperature"]
    assert found["applied"] and found["value"] > 1.3 and found["fitted_on"] == "valid"
    assert found["rows"] == run.read("data.json")["split"]["valid"]
    assert any(line.startswith(f"temperature {found['value']:.3f}, applied: rows that did not") for line in told)
    for part in ("valid", "test"):
        assert logits(run, part) * found["value"] == pytest.approx(logits(plain, part), rel=1e-3, abs=1e-4)
    assert plain.measured["temperature"]["value"] is None


def test_only_the_output_layer_is_divided(calibrated, plain):
    own, others = (load_file(run.weights) for run in (calibrated[0], plain))
    different = {name for name in own if not torch.equal(own[name], others[name])}
    layer = calibrated[0].network["layer"]
    assert different == {f"body.{layer}.weight", f"body.{layer}.bias"}
    for name in different:
        torch.testing.assert_close(own[name] * calibrated[0].measured["temperature"]["value"], others[name])


def test_the_scores_show_off_and_on_and_the_figures_are_those_of_on(calibrated, plain):
    scores, others = calibrated[0].scores["test"], plain.scores["test"]
    found = scores["calibration"]["temperature"]
    assert found["on"]["log_loss"] == pytest.approx(scores["log_loss"]["value"])
    assert found["off"]["log_loss"] == pytest.approx(others["log_loss"]["value"], rel=1e-4)
    assert found["on"]["log_loss"] < found["off"]["log_loss"] and found["on"]["brier"] < found["off"]["brier"]
    assert found["off"]["ece"] == pytest.approx(others["calibration"]["ece"]["value"], abs=1e-3)
    assert found["on"]["ece"] == scores["calibration"]["ece"]["value"] < found["off"]["ece"]
    assert scores["accuracy"] == others["accuracy"]


def test_the_scores_hold_everything_about_probabilities(calibrated):
    scores = calibrated[0].scores
    for part in ("valid", "test"):
        found, rows = scores[part]["calibration"], len(kept(calibrated[0], part)["id"])
        assert found["binning"] == "15 bins of equal mass" and sum(each["rows"] for each in found["bins"]) == rows
        assert found["ece"]["low"] <= found["ece"]["value"] <= found["ece"]["high"]
        assert found["abstention"]["points"][0]["accuracy"] == pytest.approx(scores[part]["accuracy"]["value"])
        assert [each["asked"] for each in found["operating_points"]][:2] == ["precision >= 0.9", "precision >= 0.95"]
    assert "sets" not in scores["valid"]["calibration"], "rows that chose the sets do not judge them"


def test_the_sets_are_chosen_on_valid_and_judged_on_test(calibrated):
    run = calibrated[0]
    found, valid, test = run.scores["test"]["calibration"]["sets"], kept(run, "valid"), kept(run, "test")
    off = [1 - valid[f"probability_{label}"][row] for row, label in enumerate(valid["target"])]
    most = conformal.limit(np.array(off), 0.9)
    assert found["threshold"] == pytest.approx(1 - most) and found["rows"] == len(off)
    held = [1 - test[f"probability_{label}"][row] <= most for row, label in enumerate(test["target"])]
    assert found["coverage"]["value"] == pytest.approx(np.mean(held))
    assert sum(found["sizes"].values()) == len(held)


def test_operating_points_are_chosen_on_valid_with_what_they_have_on_test(calibrated):
    run = calibrated[0]
    chosen, judged = (run.scores[part]["calibration"]["operating_points"] for part in ("valid", "test"))
    at = next(each for each in chosen if each["asked"] == "recall >= 0.9")
    there = next(each for each in judged if each["asked"] == "recall >= 0.9")
    assert at["recall"] >= 0.9 and at["threshold"] == there["threshold"]
    test = kept(run, "test")
    said = np.array(test["probability_yes"]) >= at["threshold"]
    truth = np.array(test["target"]) == "yes"
    assert there["recall"] == pytest.approx((said & truth).sum() / truth.sum())
    assert there["precision"] == pytest.approx((said & truth).sum() / said.sum())


def test_summary_card_and_evaluate_say_it_in_words(calibrated, tunesmith, tmp_path):
    run, _, rows = calibrated
    found = run.scores["test"]["calibration"]["temperature"]
    words = f"; temperature {found['value']:.2f} applied (ECE {found['off']['ece']:.3f} before)"
    for text in (summary(run), (run.path / "README.md").read_text(), (run.model / "README.md").read_text()):
        assert "probabilities: ECE 0." in text and words in text
        assert "sets of labels for 90%" in text and "of the surest 80%" in text
    answer = tunesmith("evaluate", run.path, rows, "-o", tmp_path / "scores.json")
    assert answer.code == 0 and "\nprobabilities: ECE 0." in answer.out and "sets of labels for 90%" in answer.out
    assert json.loads((tmp_path / "scores.json").read_text())["calibration"]["temperature"]["off"]["ece"] > 0


def stopped(monkeypatch, module, name, rows, out, *settings):
    """A run that is killed when it calls `module.name`."""

    def killed(*_arguments, **_more):
        raise Interrupted("killed", 130)

    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr(module, name, killed)
        fit(rows, out, *settings)


@pytest.mark.parametrize(("module", "name"), [(folder, "save_model"), (card, "write")], ids=["folded", "scored"])
def test_a_run_that_is_killed_after_folding_does_not_fold_twice(module, name, calibrated, monkeypatch, tmp_path):
    run, _, rows = calibrated
    stopped(monkeypatch, module, name, rows, tmp_path / "run")
    again = package.fit(resume=tmp_path / "run", quiet=True)
    own, others = (load_file(each.weights) for each in (again, run))
    assert all(torch.equal(own[name], others[name]) for name in own)
    assert again.scores == run.scores and again.measured == run.measured


def test_a_cross_validated_run_is_calibrated_by_the_rows_that_each_fold_held_out(monkeypatch, tmp_path):
    rows = noisy(240)
    settings = ("data.split=all", "train.length=20 epochs", "train.every.evaluate=1 epoch")
    off, _ = fit(rows, tmp_path / "off", *settings, "evaluate.temperature=1")
    given, _ = fit(rows, tmp_path / "given", *settings, "evaluate.temperature=2")
    assert logits(given, "valid") * 2 == pytest.approx(logits(off, "valid"), rel=1e-3, abs=1e-4)
    assert given.scores["valid"]["calibration"]["temperature"]["off"]["log_loss"] == pytest.approx(
        off.scores["valid"]["log_loss"]["value"]
    )
    found, _ = fit(rows, tmp_path / "auto", *settings)
    assert found.measured["temperature"]["fitted_on"] == "cross-validated"
    assert found.measured["temperature"]["rows"] == 240

    def killed(*_arguments, **_more):
        raise Interrupted("killed", 130)

    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr(card, "write", killed)
        fit(rows, tmp_path / "run", *settings, "evaluate.temperature=2")
    again = package.fit(rows, resume=tmp_path / "run", quiet=True)
    assert again.scores == given.scores


@pytest.mark.parametrize("head", ["own", "pooled"])
def test_other_libraries_give_the_calibrated_probabilities(head, bert, csv, tmp_path, quick):
    texts = ["the apple and bread", "an apple", "bread at it no"]
    runs = [
        quick(csv, bert, out=tmp_path / str(value), settings=[f"model.head={head}", f"evaluate.temperature={value}"])
        for value in (1, 4.0)
    ]
    off, on = (package.load(run).probabilities(texts) for run in runs)
    expected = torch.softmax(torch.from_numpy(off).log() / 4, 1).numpy()
    assert on == pytest.approx(expected, abs=1e-5) and np.abs(on - off).max() > 0.01
    if head == "own":
        from transformers import pipeline

        found = pipeline("text-classification", model=str(runs[1].model), device="cpu")(texts, top_k=None)
        given = [[next(each["score"] for each in row if each["label"] == label) for label in ("apple", "bread")]
                 for row in found]  # fmt: skip
    else:
        from sentence_transformers import SentenceTransformer

        outputs = SentenceTransformer(str(runs[1].model), device="cpu").encode(texts, convert_to_tensor=True)
        given = outputs.softmax(1).tolist()
    assert np.array(given) == pytest.approx(on, abs=1e-5)


def test_a_net_whose_outputs_are_no_linear_layers_is_left_as_it_is(tmp_path):
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 3)).astype(np.float32)
    rows = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy((x[:, 0] > 0).astype(np.int64)))
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2), torch.nn.Tanh())
    runs = [
        package.fit(rows, network, out=tmp_path / str(value), device="cpu", quiet=True,
                    settings=["train.length=1 epochs", "train.precision=fp32", f"evaluate.temperature={value}"])
        for value in (1, 3.0)
    ]  # fmt: skip
    found = runs[1].measured["temperature"]
    assert not found["applied"] and "do not come straight from a linear layer" in found["why"]
    own, others = (load_file(run.weights) for run in runs)
    assert all(torch.equal(own[name], others[name]) for name in own)


def test_the_folds_of_a_run_are_calibrated_and_their_figures_averaged(tmp_path):
    run, _ = fit(noisy(300), tmp_path / "run", "data.split={name = 'kfold', k = 2}", "train.length=3 epochs")
    found = run.scores["test"]["calibration"]
    assert len(found["ece"]["folds"]) == 2 and found["ece"]["value"] == pytest.approx(np.mean(found["ece"]["folds"]))
    assert "bins" not in found and found["sets"]["coverage_asked"] == 0.9
    assert "probabilities: ECE 0." in summary(run) and "sets of labels for 90%: they hold" in summary(run)


def test_predict_gives_sets_that_hold_the_label_as_often_as_is_asked(calibrated, tunesmith, tmp_path):
    run, _, rows = calibrated
    answer = tunesmith("predict", run.path, rows, "-o", tmp_path / "out.csv", "--coverage", 0.95)
    assert answer.code == 0, answer.err
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0].replace('"', "") == "a,b,c,label,prediction,prediction_set"
    assert "no|yes" in {line.replace('"', "").split(",")[-1] for line in lines[1:]} <= {"no|yes", "no", "yes", ""}
    table = package.predict(run, noisy(2000, seed=7), coverage=0.9)
    held = [label in found for label, found in zip(table["label"], table["prediction_set"].to_pylist(), strict=True)
            for label in [label.as_py()]]  # fmt: skip
    assert np.mean(held) == pytest.approx(0.9, abs=0.05)
    again = package.predict(run, table, coverage=0.5, tell=(told := []).append)
    assert again.column_names == table.column_names and "replaced by the new ones" in told[-1]


def test_values_have_intervals(tmp_path):
    run, _ = fit(numbers(), tmp_path / "run", 'evaluate.metrics=["mae"]', "train.length=10 epochs", target="y")
    found = run.scores["test"]["calibration"]["intervals"]
    assert found["coverage"]["low"] < 0.9 and found["coverage"]["value"] == pytest.approx(0.9, abs=0.09)
    assert "temperature" not in run.measured and "they hold the value in" in summary(run)
    table = package.predict(run, numbers(), coverage=0.9)
    low, value, high = (table[name].to_numpy() for name in ("prediction_low", "prediction", "prediction_high"))
    assert value - low == pytest.approx(np.full(300, found["half_width"]))
    assert high - value == pytest.approx(np.full(300, found["half_width"]))


def test_sets_that_cannot_be_are_an_error_with_a_remedy(calibrated, tmp_path):
    run, _, rows = calibrated
    with pytest.raises(RecipeError, match="between 0 and 1, not 90"):
        package.predict(run, rows, coverage=90)
    with pytest.raises(RecipeError, match=r"valid rows are too few for a coverage of 0.9999"):
        package.predict(run, rows, coverage=0.9999)
    all_rows = ("data.split={name = 'hash', valid = 0.0, test = 0.3}", "train.length=1 epochs")
    other, _ = fit(rows, tmp_path / "run", *all_rows)
    with pytest.raises(RecipeError, match="no valid rows chose the sets"):
        package.predict(other, rows, coverage=0.9)
    assert other.measured["temperature"]["why"] == "no row was set aside"
    assert "sets" not in other.scores["test"]["calibration"]


def test_a_threshold_for_a_precision_is_chosen_on_valid_and_told(calibrated, tmp_path):
    run, told = fit(calibrated[2], tmp_path / "run", "evaluate.threshold=precision >= 0.85", "train.length=5 epochs")
    found, valid = run.measured["threshold"], kept(run, "valid")
    said, truth = np.array(valid["prediction"]) == "yes", np.array(valid["target"]) == "yes"
    reached = found["reached"]["yes"]
    assert found["asked"] == "precision >= 0.85" and reached["reached"]
    assert (said & truth).sum() / said.sum() == pytest.approx(reached["precision"]) and reached["precision"] >= 0.85
    assert (said & truth).sum() / truth.sum() == pytest.approx(reached["recall"])
    assert any(line.startswith("threshold, chosen for precision >= 0.85 on") for line in told)
    assert "Chosen as best for precision >= 0.85 on" in (run.path / "README.md").read_text()
    assert not [line for line in told if "no threshold has" in line]


def test_a_precision_out_of_reach_is_told_with_the_best_there_is(tmp_path):
    rows = {name: np.sign(column).tolist() if name != "label" else column for name, column in noisy(400).items()}
    run, told = fit(rows, tmp_path / "run", "evaluate.threshold=precision >= 1", "train.length=1 epochs")
    reached = run.measured["threshold"]["reached"]["yes"]
    line = next(line for line in told if "no threshold has precision >= 1" in line)
    assert not reached["reached"] and f"{reached['precision']:.3f} and recall {reached['recall']:.3f}" in line


WRONG = {
    "zero": (["evaluate.temperature=0"], "label", "evaluate.temperature"),
    "of a regression": (["evaluate.temperature=2"], "y", "no effect on a regression"),
    "of a stated one": (["evaluate.temperature=2", "task=regression"], "y", "no effect on a regression"),
    "an aim of another metric": (["evaluate.threshold=f1 >= 0.5"], "label", "evaluate.threshold"),
    "an aim beyond one": (["evaluate.threshold=recall >= 1.5"], "label", "evaluate.threshold"),
}


@pytest.mark.parametrize(("settings", "target", "words"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_is_an_error(settings, target, words, tmp_path):
    rows = noisy(100) | {"y": np.linspace(0, 1, 100).tolist()}
    with pytest.raises(TunesmithError, match=words):
        package.fit(rows, "new:mlp", target=target, settings=settings, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
