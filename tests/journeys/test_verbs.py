"""The verbs on a tiny net: what each leaves, says and promises, from the command line and from Python."""

from __future__ import annotations

import io
import json
import math
import sys
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pyarrow.parquet as pq
import pytest

import tunesmith as package
from tunesmith.run import Run
from tunesmith.testing import tiny_rows
from tunesmith.verbs import Model

FILES = (
    "recipe.toml environment.json data.json split.parquet events.jsonl measured.json scores.json README.md "
    "predictions/valid.parquet predictions/test.parquet tunesmith.safetensors model/README.md"
)


def _rows(path):
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def told():
    """What a verb says, line by line: pass `tell=told.append`."""
    return []


def test_fit_leaves_every_file_of_a_run(fitted):
    assert [name for name in FILES.split() if not (fitted / name).is_file()] == []
    assert any((fitted / "checkpoints").iterdir())
    run = Run(fitted)
    assert set(run.scores) == {"valid", "test"}
    value = run.scores["test"]["accuracy"]
    assert value["low"] <= value["value"] <= value["high"]
    events = [line["event"] for line in _rows(fitted / "events.jsonl")]
    assert {"prepare", "step", "evaluate", "save", "score"} <= {*events}
    parts = [row["split"] for row in _rows(fitted / "split.parquet")]
    counts = {part: parts.count(part) for part in ("train", "valid", "test")}
    assert counts | {"how": "hash"} == json.loads((fitted / "data.json").read_text())["split"]
    assert sum(counts.values()) == 200
    assert json.loads((fitted / "environment.json").read_text())["packages"]["torch"]


def test_fit_on_the_command_line_ends_with_the_score_its_baselines_and_the_next_commands(
    tunesmith, bert, csv, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    first = tunesmith("fit", csv, "--model", bert, fast=True)
    assert first.code == 0, first.err
    assert "positive label" in first.err
    for word in ("test accuracy", "this model", "majority", "tfidf_logistic", "tunesmith predict runs/messages-"):
        assert word in first.out
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")}
    second = tunesmith("fit", csv, "--model", bert, "--quiet", fast=True)
    assert (second.code, second.out, second.err) == (0, "", "")
    assert len(list((tmp_path / "runs").iterdir())) == 2
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


def test_evaluate_says_where_it_wrote_and_the_file_is_there(tunesmith, fitted, csv, tmp_path):
    answer = tunesmith("evaluate", fitted, csv)
    path = fitted / "evaluations" / "messages.json"
    assert f"wrote {path}" in answer.err
    assert json.loads(path.read_text())["rows"] == 200
    assert len(_rows(path.with_suffix(".parquet"))) == 200
    assert answer.out.startswith("accuracy ")
    assert tunesmith("evaluate", fitted, csv, "-o", tmp_path / "here.json").code == 0
    assert (tmp_path / "here.json").is_file()


def test_evaluate_agrees_with_the_scores_of_the_run(fitted, csv, tmp_path):
    test_ids = {row["id"]: row for row in _rows(fitted / "predictions" / "test.parquet")}
    package.evaluate(fitted, csv, out=tmp_path / "all.json", tell=str)
    again = {row["id"]: row for row in _rows(tmp_path / "all.parquet") if row["id"] in test_ids}
    assert again.keys() == test_ids.keys()
    for name, row in test_ids.items():
        assert again[name]["probability_apple"] == pytest.approx(row["probability_apple"], abs=1e-6)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_predict_keeps_rows_and_columns_in_every_format(tunesmith, fitted, tmp_path, write_csv, suffix):
    columns = {"n": [str(i) for i in range(9)], "text": tiny_rows(9)["text"], "note": ['a "b", c', *"bcdefghi"]}
    out = tmp_path / f"out{suffix}"
    answer = tunesmith("predict", fitted, write_csv(tmp_path / "new.csv", columns), "-o", out, "--proba")
    assert answer.code == 0, answer.err
    assert answer.out == ""
    assert f"wrote 9 rows to {out}" in answer.err
    if suffix in (".jsonl", ".parquet"):
        rows = _rows(out)
    else:
        from tunesmith.data.sources import open_source

        rows = open_source(out)[""].arrow.to_pylist()
    assert list(rows[0]) == ["n", "text", "note", "prediction", "probability_apple", "probability_bread"]
    assert {name: [row[name] for row in rows] for name in columns} == columns
    for row in rows:
        chances = {label: float(row[f"probability_{label}"]) for label in ("apple", "bread")}
        assert sum(chances.values()) == pytest.approx(1, abs=1e-6)
        assert row["prediction"] == max(chances, key=lambda label: chances[label])


@pytest.mark.parametrize("text", ["text,n\nan apple,1\na bread,2\n", '{"text": "an apple"}\n{"text": "a bread"}\n'])
def test_predict_reads_standard_input_and_writes_standard_output(tunesmith, fitted, monkeypatch, text):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
    answer = tunesmith("predict", fitted, "-")
    header, *rows = answer.out.splitlines()
    assert header.replace('"', "").endswith("prediction")
    assert [row.rpartition(",")[2].strip('"') for row in rows] == ["apple", "bread"]


def test_predict_tells_of_empty_texts_and_of_a_column_that_it_writes_anew(tunesmith, fitted, tmp_path, write_csv):
    columns = {"text": ["an apple", ""], "prediction": ["mine", "mine"]}
    answer = tunesmith("predict", fitted, write_csv(tmp_path / "new.csv", columns), "-o", tmp_path / "out.jsonl")
    assert "read as an empty text: 1 of its rows" in answer.err
    assert "its own prediction columns are replaced" in answer.err
    assert _rows(tmp_path / "out.jsonl")[0]["prediction"] == "apple"


def test_a_loaded_model_stays_in_memory_between_calls(fitted, monkeypatch):
    from tunesmith.models.loaders import transformers

    loads = []
    real = transformers.load
    monkeypatch.setattr(transformers, "load", lambda *a, **k: loads.append(a) or real(*a, **k))
    model = package.load(fitted, device="cpu")
    assert model.predict(["an apple", "a bread"]) == ["apple", "bread"]
    assert model.predict({"text": ["the bread"]}) == ["bread"]
    assert model.probabilities(np.array(["an apple"])).shape == (1, 2)
    assert model.predict([]) == []
    assert len(loads) == 1
    with pytest.raises(package.DataError, match="reads 1 texts a row and got 2"):
        model.predict([("a", "b")])
    with pytest.raises(package.DataError, match="name of a file"):
        model.predict("an apple")


@pytest.mark.parametrize("head", ["pooled", "own"])
def test_fit_continues_from_an_earlier_run(fitted, fitted_own, csv, quick, tmp_path, told, head):
    earlier = fitted if head == "pooled" else fitted_own
    settings = ["model.head=auto", "train.lr=1e-6", "train.batch=64"]
    run = quick(csv, earlier, settings=settings, out=tmp_path / "run", quiet=False, tell=told.append)
    assert run.measured["head"]["name"] == head
    assert any("it was trained for these labels" in line for line in told)
    before, after = (Run(path).scores["valid"]["accuracy"]["value"] for path in (earlier, run.path))
    assert after >= before


def test_fit_from_a_run_with_other_labels_makes_the_head_new_and_says_so(fitted, fitted_own, quick, tmp_path, told):
    rows = tiny_rows(240, 3)
    for number, earlier in enumerate((fitted, fitted_own)):
        run = quick(rows, earlier, out=tmp_path / str(number), quiet=False, tell=told.append)
        assert package.load(run, device="cpu").labels == ("apple", "bread", "cheese")
        assert any("newly made: " in line and "nothing newly made" not in line for line in told)
        told.clear()


def test_the_positive_label_can_be_set_and_labels_keep_a_stable_order(bert, csv, quick, tmp_path, told):
    settings = ["task.positive=apple", 'evaluate.metrics=["f1"]']
    run = quick(csv, bert, settings=settings, out=tmp_path / "run", quiet=False, tell=told.append)
    assert any('positive label: "apple"' in line for line in told)
    assert run.recipe.task.options == {"positive": "apple"}
    classes = run.scores["test"]["classes"]
    assert list(classes) == ["apple", "bread"]
    assert run.scores["test"]["f1"]["value"] == pytest.approx(classes["apple"]["f1"]["value"])
    assert "positive label `apple`" in (run.path / "README.md").read_text()


def test_an_unseen_label_is_told_and_its_rows_are_left_out(bert, csv, quick, tmp_path, write_csv, told):
    rows = tiny_rows(30, 3, seed=1)
    test = write_csv(tmp_path / "test.csv", rows)
    run = quick(csv, bert, test=test, out=tmp_path / "run", quiet=False, tell=told.append)
    assert any("test has labels that no training row has (cheese): 10 rows are left out" in line for line in told)
    assert len(_rows(run.path / "predictions" / "test.parquet")) == 20
    told.clear()
    package.evaluate(run, test, tell=told.append)
    assert any("never saw" in line and "cheese" in line for line in told)


def test_text_pairs_are_learnt_predicted_and_evaluated(bert, quick, tmp_path, tunesmith, write_csv):
    rows = tiny_rows(240)
    columns = {"premise": rows["text"], "hypothesis": ["so it is"] * 240, "label": rows["label"]}
    path = write_csv(tmp_path / "pairs.csv", columns)
    run = quick(path, bert, settings=["train.length=8 epochs"], out=tmp_path / "run")
    assert run.recipe.data.inputs == ("premise", "hypothesis")
    assert package.load(run, device="cpu").predict([("an apple", "so it is")]) == ["apple"]
    assert tunesmith("predict", run.path, path, "-o", tmp_path / "out.csv").code == 0
    assert package.evaluate(run, path, tell=str)["accuracy"]["value"] > 0.8


def test_several_labels_a_row_come_back_as_lists_or_as_text(bert, quick, tmp_path, told):
    rows = tiny_rows(240)
    columns = {
        "text": rows["text"],
        "labels": [[label, "any"] if i % 3 else [label] for i, label in enumerate(rows["label"])],
    }
    run = quick(columns, bert, settings=['evaluate.metrics=["f1_micro"]'], out=tmp_path / "run")
    assert run.recipe.task.name == "multilabel"
    table = package.predict(run, {"text": ["an apple", "zzz"], "seen": [["x"], []]}, tmp_path / "out.csv", proba=True)
    assert {"probability_any", "probability_apple", "probability_bread"} < {*table.column_names}
    assert all(isinstance(labels, list) for labels in table.column("prediction").to_pylist())
    assert "x" in (tmp_path / "out.csv").read_text()
    more = {"text": ["an apple", "a bread"], "labels": [["apple", "fruit"], ["bread"]]}
    package.evaluate(run, more, tell=told.append)
    assert any("fruit" in line for line in told)


def test_numbers_are_predicted_in_their_own_unit(bert, quick, tmp_path):
    rows = tiny_rows(240)
    columns = {"text": rows["text"], "score": [100.5 if label == "apple" else 200.25 for label in rows["label"]]}
    settings = ["train.length=4 epochs", 'evaluate.metrics=["rmse", "r2"]', "task=regression"]
    run = quick(columns, bert, settings=settings, out=tmp_path / "run")
    table = package.predict(run, {"text": ["an apple", "a bread"]}, proba=True)
    assert table.column_names == ["text", "prediction"]
    low, high = table.column("prediction").to_pylist()
    assert 60 < low < 150 < high < 240
    assert package.evaluate(run, columns, tell=str)["rmse"]["value"] < 40


def my_loss(outputs, targets):
    import torch.nn.functional as F

    my_loss.calls += 1
    return F.cross_entropy(outputs, targets, reduction="none")


def my_metric(truth, predictions):
    return float(np.mean([t == p for t, p in zip(truth, predictions, strict=True)]))


def test_a_loss_and_a_metric_of_ones_own_are_used(bert, csv, quick, tmp_path, told):
    my_loss.calls = 0
    settings = ["evaluate.select=my_metric", 'evaluate.metrics=["accuracy", "memory:my_metric"]']
    run = quick(csv, bert, loss=my_loss, metrics=["accuracy", my_metric], settings=settings, out=tmp_path / "run")
    assert my_loss.calls > 5
    assert run.recipe.objective.name == "memory:my_loss"
    assert run.recipe.evaluate.select == "memory:my_metric"
    test = run.scores["test"]
    assert test["my_metric"]["value"] == pytest.approx(test["accuracy"]["value"])
    assert "my_metric" in (run.path / "README.md").read_text()
    result = package.evaluate(run, csv, tell=told.append)
    assert "accuracy" in result
    assert any("without memory:my_metric" in line for line in told)
    assert "my_metric" in package.evaluate(run, csv, metrics=[my_metric], tell=str)


class FakeHub:
    """Stands in for huggingface_hub.HfApi: nothing leaves this machine in a test."""

    fails = False
    pushed: ClassVar[list] = []

    def create_repo(self, name, **options):
        assert options["private"]

    def upload_folder(self, repo_id, folder_path):
        if self.fails:
            raise OSError("403 Forbidden")
        self.pushed.append((repo_id, sorted(path.name for path in folder_path.iterdir())))
        return f"https://huggingface.co/{repo_id}"


def test_push_uploads_the_model_and_a_failure_keeps_the_run(bert, csv, tunesmith, tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "HfApi", FakeHub)
    monkeypatch.setattr(FakeHub, "pushed", [])
    answer = tunesmith("fit", csv, "--model", bert, "--out", tmp_path / "a", "--push", "me/mine", fast=True)
    assert answer.code == 0, answer.err
    assert FakeHub.pushed[0][0] == "me/mine"
    assert "README.md" in FakeHub.pushed[0][1]
    assert "me/mine" in (tmp_path / "a" / "model" / "README.md").read_text()
    monkeypatch.setattr(FakeHub, "fails", True)
    answer = tunesmith("fit", csv, "--model", bert, "--out", tmp_path / "b", "--push", "me/mine", fast=True)
    assert answer.code == 1
    assert "403 Forbidden" in answer.err
    assert f"hf upload me/mine {tmp_path / 'b' / 'model'}" in answer.err
    assert Run(tmp_path / "b").finished
    assert len(FakeHub.pushed) == 1


def test_nothing_is_pushed_unless_asked(fitted):
    assert Run(fitted).recipe.deliver.push is None


def test_list_shows_kinds_names_and_the_schema(tunesmith):
    everything = tunesmith("list").out
    assert all(f"\n{kind}\n" in f"\n{everything}" for kind in ("strategy", "task", "head", "metric", "optimizer"))
    heads = tunesmith("list", "head").out.splitlines()
    assert [row.split()[0] for row in heads] == ["head", "own", "pooled"]
    assert "properties" in json.loads(tunesmith("list", "--schema").out)


def test_new_writes_a_recipe_that_checks_and_never_writes_over_one(tunesmith, bert, csv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = tunesmith("new", "mine.toml", "--data", csv, "--model", bert)
    assert answer.code == 0, answer.err
    text = (tmp_path / "mine.toml").read_text()
    assert tunesmith("new", "mine.toml").code == 1
    assert (tmp_path / "mine.toml").read_text() == text
    answer = tunesmith("check", "mine.toml", "--device", "cpu")
    assert answer.code == 0, answer.err
    assert 'name = "mine"' in answer.out


def test_check_prints_the_recipe_what_trains_and_the_cost_and_leaves_nothing(
    tunesmith, bert, csv, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    answer = tunesmith("check", csv, "--model", bert, "--strategy", "head", "--device", "cpu")
    assert answer.code == 0, answer.err
    for word in (
        "lr = 0.003  # only the new head moves",
        "head ",
        "frozen",
        "time: about",
        "memory: about",
        "disk: about",
    ):
        assert word in answer.out
    assert list(tmp_path.iterdir()) == []


def test_resuming_a_finished_run_changes_nothing(fitted, tunesmith):
    before = (fitted / "scores.json").stat().st_mtime_ns
    answer = tunesmith("fit", "--resume", fitted)
    assert answer.code == 0
    assert "complete" in answer.err
    assert (fitted / "scores.json").stat().st_mtime_ns == before


def gentle(stages, *, share: float = 1.0):
    """Only the head, gently: a strategy of somebody else's."""
    from tunesmith.strategies.plan import Phase, Plan, Rule

    gentle.asked.append(share)
    return Plan((Phase("gentle", (Rule("head/*", lr=share), Rule("*", lr=None))),))


def test_an_installed_plug_in_is_listed_and_usable(bert, csv, quick, tunesmith, tmp_path, monkeypatch):
    import importlib.metadata

    real, gentle.asked = importlib.metadata.entry_points, []
    entry = SimpleNamespace(name="gentle", value="other.package:gentle", load=lambda: gentle)
    monkeypatch.setattr(
        importlib.metadata,
        "entry_points",
        lambda **k: [entry] if k.get("group") == "tunesmith.strategy" else real(**k),
    )
    assert "gentle               Only the head, gently" in tunesmith("list", "strategy").out
    run = quick(csv, bert, settings=['strategy={name="gentle", share=0.5}'], out=tmp_path / "run")
    assert run.recipe.strategy.name == "gentle"
    assert set(gentle.asked) == {0.5}
    assert {row["phase"] for row in _rows(run.path / "events.jsonl") if row["event"] == "step"} == {"gentle"}


@pytest.mark.parametrize("kind", ["pooled", "own"])
def test_the_python_lines_of_the_cards_run_as_they_stand(kind, fitted, fitted_own, monkeypatch, capsys):
    run = fitted if kind == "pooled" else fitted_own
    if kind == "pooled":
        pytest.importorskip("sentence_transformers")
    own = _python(run / "model" / "README.md")
    blocks = _python(run / "README.md")
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    monkeypatch.chdir(run / "model")
    for block in own:
        exec(compile(block, "model/README.md", "exec"), {})
    assert capsys.readouterr().out.count("\n") >= 3


def _python(path):
    text = path.read_text(encoding="utf-8")
    return [part.partition("```")[0] for part in text.split("```python\n")[1:]]


def test_the_card_of_the_model_names_no_folder_of_the_maker(fitted):
    text = (fitted / "model" / "README.md").read_text()
    assert str(fitted.parent) not in text
    assert text.startswith("---\nlibrary_name: sentence-transformers\n")
    assert "base_model" not in text


def test_a_loaded_model_is_made_of_its_loaded_net(fitted):
    assert isinstance(package.load(fitted, device="cpu"), Model)
    assert math.isclose(package.load(fitted, device="cpu").probabilities(["an apple"]).sum(), 1.0)
