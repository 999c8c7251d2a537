"""A threshold from the recipe to every place that decides: training, scores, baselines, files, verbs and cards."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import sklearn.metrics as sk

import tunesmith as package
from tunesmith.delivery.scores import Thresholds
from tunesmith.errors import Interrupted, RecipeError
from tunesmith.evaluation.predict import Predictions
from tunesmith.evaluation.thresholds import best_thresholds
from tunesmith.recipe import file as recipe_file
from tunesmith.tasks.task import Target

SMALL = (
    "model.options={width = 8, layers = 2, embedding = 2}",
    "train.lr=1e-2",
    "train.precision=fp32",
    'evaluate.metrics=["f1", "auroc", "log_loss"]',
    "train.length=6 epochs",
)
AUTO = ("evaluate.threshold=auto", "evaluate.select=f1")


def _rows(num_rows=600, seed=0):
    """One row of eight is "rare", by a number that tells it half."""
    random = np.random.default_rng(seed)
    size = random.normal(size=num_rows)
    label = np.where(size + random.normal(size=num_rows) > 1.65, "rare", "usual")
    return {"size": size.tolist(), "other": random.normal(size=num_rows).tolist(), "label": label.tolist()}


def _several(num_rows=300, seed=0):
    random = np.random.default_rng(seed)
    size = random.normal(size=(num_rows, 2))
    labels = (size + random.normal(size=(num_rows, 2)) > (1.2, 0.6)).astype(int)
    return {
        "size": size[:, 0].tolist(),
        "width": size[:, 1].tolist(),
        "hot": labels[:, 0].tolist(),
        "wet": labels[:, 1].tolist(),
    }


def _fit(rows, out, settings=AUTO, model="new:mlp", target="label", **options):
    told = []
    options = {"device": "cpu", "tell": told.append, **options}
    mine = [setting for setting in SMALL if model == "new:mlp" or not setting.startswith("model.")]
    positive = ["task.positive=rare"] if target == "label" else []
    run = package.fit(rows, model, out=out, target=target, settings=[*mine, *positive, *settings], **options)
    return run, told


def _fit_again(rows, out):
    told = []
    return package.fit(rows, resume=out, tell=told.append), told


def _kept(run, part):
    return pq.read_table(run.path / "predictions" / f"{part}.parquet").to_pydict()


@pytest.fixture(scope="module")
def chosen(tmp_path_factory, write_csv):
    """A Run whose threshold was chosen for F1, what it told, and its rows."""
    folder = tmp_path_factory.mktemp("threshold")
    rows = write_csv(folder / "rows.csv", _rows())
    return (*_fit(rows, folder / "run"), rows)


def test_the_threshold_is_the_best_for_the_valid_predictions_of_the_saved_model(chosen):
    run = chosen[0]
    kept, valid = run.measured["threshold"], _kept(run, "valid")
    chances = np.array(valid["probability_rare"])
    codes = np.array([["rare", "usual"].index(label) for label in valid["target"]])
    best = max(sk.f1_score(codes == 0, chances >= cut, zero_division=0) for cut in [*np.unique(chances), 0.5])
    assert kept["value"] == pytest.approx(best)
    assert kept["value"] > kept["default_value"]
    assert (kept["metric"], kept["chosen_on"], kept["rows"]) == ("f1", "valid", len(codes))
    assert kept["rows_with_label"] == {"rare": int((codes == 0).sum())}


def test_the_recipe_of_the_run_says_where_the_threshold_stands(chosen):
    lines = (chosen[0].path / "recipe.toml").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith('threshold = "auto"') and "measured.json" in line]


@pytest.mark.parametrize("part", ["valid", "test"])
def test_scores_and_kept_predictions_are_decided_at_it_and_the_default_stands_beside(chosen, part):
    run = chosen[0]
    threshold, kept, scores = run.measured["threshold"]["thresholds"]["rare"], _kept(run, part), run.scores[part]
    truth, chances = np.array(kept["target"]) == "rare", np.array(kept["probability_rare"])
    assert [label == "rare" for label in kept["prediction"]] == (chances >= threshold).tolist()
    assert scores["f1"]["value"] == pytest.approx(sk.f1_score(truth, chances >= threshold))
    default = scores["default_threshold"]["f1"]
    assert default["value"] == pytest.approx(sk.f1_score(truth, chances >= 0.5, zero_division=0))
    assert default["low"] <= default["value"] <= default["high"]
    assert scores["auroc"]["value"] == pytest.approx(sk.roc_auc_score(truth, chances))


def test_predict_evaluate_and_load_decide_alike(chosen):
    run, _, rows = chosen
    threshold = run.measured["threshold"]["thresholds"]["rare"]
    table = package.predict(run, rows, proba=True)
    decided = table["prediction"].to_pylist()
    assert [label == "rare" for label in decided] == (table["probability_rare"].to_numpy() >= threshold).tolist()
    between = (table["probability_rare"].to_numpy() >= threshold) != (table["probability_rare"].to_numpy() >= 0.5)
    assert between.any()
    assert package.load(run).predict(rows) == decided
    scores = package.evaluate(run, rows, tell=[].append)
    truth = [label == "rare" for label in table["label"].to_pylist()]
    assert scores["f1"]["value"] == pytest.approx(sk.f1_score(truth, [label == "rare" for label in decided]))
    default = sk.f1_score(truth, table["probability_rare"].to_numpy() >= 0.5, zero_division=0)
    assert scores["default_threshold"]["f1"]["value"] == pytest.approx(default)


def test_the_command_line_shows_the_score_without_a_threshold_too(chosen, tunesmith, tmp_path):
    answer = tunesmith("evaluate", chosen[0].path, chosen[2], "-o", tmp_path / "scores.json")
    assert re.search(r"^f1 +0\.\d+ .*\n(.*\n)*  no threshold: f1 +0\.\d+", answer.out)


def test_training_is_judged_at_the_best_threshold_of_each_step(chosen):
    run, told, _ = chosen
    shown = f"best valid f1: {run.measured['threshold']['value']:.3f} at step"
    assert any(line.startswith(shown) for line in told)


def test_what_chose_it_is_told_with_its_caution(chosen):
    run, told, _ = chosen
    kept = run.measured["threshold"]
    at = next(number for number, line in enumerate(told) if line.startswith("threshold, chosen for f1 on"))
    assert f"{kept['rows']} valid rows" in told[at] and str(kept["thresholds"]["rare"]) in told[at]
    assert f"{kept['value']:.3f}" in told[at + 1] and f"{kept['default_value']:.3f}" in told[at + 1]
    assert "optimistic" in told[at + 1]
    assert f"few rows chose it: {kept['rows_with_label']['rare']} of the {kept['rows']}" in told[at + 2]


def test_enough_rows_are_not_called_few(tmp_path):
    _, told = _fit(_rows(3000), tmp_path / "run", [*AUTO, "train.length=1 epochs", "data.split.valid=0.4"])
    assert any(line.startswith("threshold, chosen for f1") for line in told)
    assert not [line for line in told if "few rows" in line]


def test_each_baseline_is_decided_at_its_own_best_threshold(chosen):
    baselines = chosen[0].scores["valid"]["baselines"]
    share = chosen[0].measured["threshold"]["rows_with_label"]["rare"] / chosen[0].measured["threshold"]["rows"]
    # At 0.5 the majority never says "rare"; at its best threshold it always does.
    assert baselines["majority"]["f1"]["value"] == pytest.approx(2 * share / (1 + share))


def test_a_baseline_is_tested_at_the_threshold_that_valid_rows_chose():
    target = Target(("y",), ("no", "yes"), positive=1)
    job = SimpleNamespace(
        recipe=recipe_file.build({"data": "rows.csv", "model": "new:mlp", "evaluate": {"threshold": "auto"}}),
        select="accuracy",
        objects=SimpleNamespace(metrics=()),
    )
    task = SimpleNamespace(probabilities=lambda outputs: outputs)

    def made(codes, chances):
        chances = np.array(chances)
        return Predictions(
            np.arange(len(codes)).astype(str), np.array(codes), np.stack([1 - chances, chances], 1), task, target
        )

    thresholds = Thresholds(job)
    valid, test = made([0, 1], [0.1, 0.3]), made([0, 1], [0.6, 0.8])
    assert thresholds.decided("trees", "valid", valid).target.thresholds == (0.2,)
    assert thresholds.decided("trees", "test", test).target.thresholds == (0.2,)
    assert best_thresholds(test, "accuracy") == (0.7,)
    assert thresholds.decided("majority", "valid", made([0, 1], [0.7, 0.9])).target.thresholds == (0.8,)


def test_the_cards_say_the_threshold_and_their_lines_apply_it(chosen):
    run = chosen[0]
    threshold = run.measured["threshold"]["thresholds"]["rare"]
    for card in (run.path / "README.md", run.model / "README.md"):
        text = card.read_text(encoding="utf-8")
        assert f"`rare` from {threshold} on" in text and "optimistic" in text
        assert "when to stop and the threshold" in text
        assert "Without a threshold this model has valid f1 0." in text
        lines = re.search(r"torch knows nothing of the threshold.*?```python\n(.*?)```", text, re.DOTALL)[1]
        for chance, expected in ((threshold, ["rare"]), (threshold - 1e-6, ["usual"])):
            shown = []
            row = f'row = {{"rare": {chance}, "usual": 0}}\n'
            exec(re.sub(r"row = .*\n", row, lines), {"print": shown.append})
            assert shown == [expected]


def test_the_summary_says_the_threshold_and_that_other_libraries_do_not_apply_it(chosen):
    from tunesmith.delivery.summary import summary

    text, threshold = summary(chosen[0]), chosen[0].measured["threshold"]["thresholds"]["rare"]
    assert f'threshold: "rare" {threshold}; each baseline has its own' in text
    assert re.search(r"this model .*\n    no threshold .*\n  majority", text)
    assert "model/README.md says how to apply it" in text


def test_a_run_without_a_threshold_says_nothing_of_one(tmp_path):
    run, told = _fit(_rows(), tmp_path / "run", ["evaluate.select=f1"])
    assert "threshold" not in run.measured and "default_threshold" not in run.scores["valid"]
    assert not [line for line in told if line.startswith(("threshold", "the threshold"))]
    assert "hreshold of" not in (run.path / "README.md").read_text(encoding="utf-8")


def test_a_resumed_run_ends_at_the_same_threshold(chosen, killed, tmp_path):
    run, _, rows = chosen
    with killed(2):
        _fit(rows, tmp_path / "run")
    again = package.fit(resume=tmp_path / "run", quiet=True)
    assert again.measured["threshold"] == run.measured["threshold"]
    assert again.scores == run.scores


def test_a_number_decides_in_training_scores_and_baselines(chosen, tmp_path):
    run, told = _fit(chosen[2], tmp_path / "run", ["evaluate.threshold=0.25", "evaluate.select=f1"])
    kept = _kept(run, "valid")
    truth, chances = np.array(kept["target"]) == "rare", np.array(kept["probability_rare"])
    expected = sk.f1_score(truth, chances >= 0.25)
    assert run.scores["valid"]["f1"]["value"] == pytest.approx(expected)
    assert any(line.startswith(f"best valid f1: {expected:.3f} at step") for line in told)
    assert package.load(run).predict(chosen[2]) == package.predict(run, chosen[2])["prediction"].to_pylist()
    assert run.scores["valid"]["default_threshold"]["f1"]["value"] == pytest.approx(sk.f1_score(truth, chances >= 0.5))
    assert "`rare` from 0.25 on" in (run.model / "README.md").read_text(encoding="utf-8")


def test_a_cross_validated_run_chooses_on_the_rows_that_each_fold_held_out(tmp_path):
    rows = _rows(240)
    run, told = _fit(rows, tmp_path / "run", [*AUTO, "train.length=2 epochs", "data.split=all"])
    kept, valid = run.measured["threshold"], _kept(run, "valid")
    assert (kept["chosen_on"], kept["rows"]) == ("cross-validated", 240)
    assert any("on 240 cross-validated rows" in line for line in told)
    assert len(valid["target"]) == 240
    chances, truth = np.array(valid["probability_rare"]), np.array(valid["target"]) == "rare"
    best = max(sk.f1_score(truth, chances >= cut, zero_division=0) for cut in np.unique(chances))
    assert run.scores["valid"]["f1"]["value"] == pytest.approx(best)
    # Trees know the rows that they have learnt from by heart; of those held out they cannot.
    assert run.scores["valid"]["baselines"]["boosted_trees"]["f1"]["value"] < 0.9


def test_a_cross_validated_run_killed_after_its_scores_ends_the_same(tmp_path, monkeypatch):
    from tunesmith.delivery import card

    def killed(*_arguments, **_options):
        raise Interrupted("killed", 130)

    settings = [*AUTO, "train.length=2 epochs", "data.split=all"]
    whole, _ = _fit(_rows(120), tmp_path / "whole", settings)
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr(card, "write", killed)
        _fit(_rows(120), tmp_path / "run", settings)
    again, _ = _fit_again(_rows(120), tmp_path / "run")
    assert again.scores == whole.scores
    assert again.measured["threshold"] == whole.measured["threshold"]
    assert not (again.path / "predictions" / "folds.npy").exists()


def test_several_labels_have_a_threshold_each(tmp_path):
    settings = ["evaluate.threshold=auto", 'evaluate.metrics=["f1_macro"]', "evaluate.select=f1_micro"]
    settings += ["data.split={name = 'hash', valid = 0.3, test = 0.2}"]
    run, _ = _fit(_several(), tmp_path / "run", settings, target=["hot", "wet"])
    thresholds = run.measured["threshold"]["thresholds"]
    assert [*thresholds] == ["hot", "wet"] and len({*thresholds.values()}) == 2
    kept = _kept(run, "test")
    for label, threshold in thresholds.items():
        decided = [label in labels for labels in kept["prediction"]]
        assert decided == [chance >= threshold for chance in kept[f"probability_{label}"]]
    assert run.scores["valid"]["f1_micro"]["value"] > run.scores["valid"]["default_threshold"]["f1_micro"]["value"]
    assert package.predict(run, _several())["prediction"].to_pylist() == package.load(run).predict(_several())
    text = (run.model / "README.md").read_text(encoding="utf-8")
    assert "`hot` from" in text and "`wet` from" in text and "or [" not in text


def profit(truth, told):
    return sum((10 if true == "rare" else -1) for true, said in zip(truth, told, strict=True) if said == "rare")


def test_a_function_of_your_own_chooses_too(tmp_path):
    run, _ = _fit(
        _rows(),
        tmp_path / "run",
        ["evaluate.threshold=auto", "evaluate.select=profit", 'evaluate.metrics=["memory:profit"]'],
        metrics=[profit],
    )
    kept = run.measured["threshold"]
    assert kept["metric"] == "profit" and kept["value"] > kept["default_value"]


def test_a_run_that_goes_on_from_another_says_what_becomes_of_its_threshold(chosen, tmp_path):
    run, _, rows = chosen
    threshold = run.measured["threshold"]["thresholds"]["rare"]
    for settings, words in ((["train.length=1 epochs"], "has none"), (["evaluate.threshold=0.4"], "has 0.4")):
        out = tmp_path / words.replace(" ", "")
        _, told = _fit(rows, out, settings, model=str(run.path))
        assert f'the threshold of {run.path} ("rare" {threshold}) is not taken over: this run {words}' in "\n".join(
            told
        )
    assert "default_threshold" not in package.evaluate(tmp_path / "hasnone", rows, tell=[].append)


WRONG = {
    "probabilities": ([*AUTO, "evaluate.select=auroc"], "label", 'no threshold changes "auroc".*f1_macro'),
    "three classes": (AUTO[:1], "three", "decides between two labels, and this target has 3.*leave it out"),
    "a number": (["evaluate.threshold=0.4"], "size", "no effect on a regression.*leave it out"),
    "a stated regression": (["evaluate.threshold=auto", "task=regression"], "size", "no effect on a regression"),
    "no valid rows": ([*AUTO, "data.split={name = 'hash', valid = 0.0}"], "label", "no row is set aside.*data.valid"),
    "out of range": (["evaluate.threshold=1.5"], "label", "evaluate.threshold"),
}


@pytest.mark.parametrize("settings, target, words", WRONG.values(), ids=WRONG)
def test_a_threshold_that_cannot_be_is_an_error_with_a_remedy(settings, target, words, tmp_path):
    rows = _rows(200) | {"three": ["a", "b", "c", "a"] * 50}
    with pytest.raises(RecipeError) as raised:
        package.fit(rows, "new:mlp", target=target, settings=settings, out=tmp_path / "run", quiet=True)
    assert re.search(words, str(raised.value), re.DOTALL)
    assert not (tmp_path / "run").exists()
