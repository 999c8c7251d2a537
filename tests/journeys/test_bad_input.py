"""Bad input: a clear message and exit code 1, no traceback, and nothing left half-written."""

from __future__ import annotations

import collections
import shutil
from pathlib import Path

import pytest
import torch

from tunesmith.testing import tiny_rows


@pytest.fixture
def refused(tunesmith, tmp_path):
    """`refused(words, verb, ...)`: exit code 1, every word told, no traceback, and no file more than before."""

    def run(words, *arguments, fast=False):
        before = sorted(tmp_path.rglob("*"))
        answer = tunesmith(*arguments, fast=fast)
        assert answer.code == 1, answer.err
        assert "Traceback" not in answer.err
        assert answer.out == ""
        for word in words:
            assert word in answer.err, answer.err
        assert sorted(tmp_path.rglob("*")) == before
        return answer.err

    return run


def _fit(path, model, tmp_path, *more):
    return ("fit", path, "--model", model, "--out", tmp_path / "run", *more)


DATA = {
    "an empty file": ("", ("rows.csv", "empty")),
    "a header alone": ("text,label\n", ("rows.csv", "header and no rows", "->")),
    "one class only": (
        "text,label\n" + "".join(f"a b {i},spam\n" for i in range(30)),
        ('"spam"', "nothing to tell", "->"),
    ),
    "a label that numbers the rows": (
        "text,label\n" + "".join(f"a b {i % 7},{i}\n" for i in range(40)),
        ('"label"', "numbers the rows", "--target"),
    ),
    "labels that all differ": (
        "text,label\n" + "".join(f"a b {i % 7},case {i} x\n" for i in range(40)),
        ("40 different values in 40 rows", "--target"),
    ),
    "missing labels": (
        "text,label\n" + "".join(f"a b {i},{'' if i == 4 else 'xy'[i % 2]}\n" for i in range(40)),
        ("rows.csv", "row 5", "data.clean.missing=drop"),
    ),
    "numbers with a word among them": (
        "text,score\n" + "".join(f"a b {i},{'high' if i == 6 else i / 7}\n" for i in range(40)),
        ("rows.csv, row 7", '"high"', "->"),
    ),
    "an unclosed quote": ('text,label\n"a b,x\nc d,y\n', ("rows.csv, line 2", "quotes")),
    "two columns of one name": ("text,text\na,b\n", ('two columns are called "text"', "->")),
}


@pytest.mark.parametrize(("text", "words"), DATA.values(), ids=DATA.keys())
def test_rows_that_cannot_be_used_are_named(refused, bert, tmp_path, text, words):
    path = tmp_path / "rows.csv"
    path.write_text(text, encoding="utf-8")
    refused(words, *_fit(path, bert, tmp_path))


def test_a_missing_file_names_the_nearest_one(refused, bert, tmp_path, csv):
    shutil.copy(csv, tmp_path / "reviews.csv")
    refused(
        ('there is no file "revews.csv"', 'did you mean "reviews.csv"?'), *_fit(tmp_path / "revews.csv", bert, tmp_path)
    )


def test_rows_with_missing_values_can_be_left_out_which_is_told(tunesmith, bert, tmp_path, write_csv):
    rows = tiny_rows(120)
    rows["label"][3] = rows["text"][9] = ""
    path = write_csv(tmp_path / "rows.csv", rows)
    answer = tunesmith(*_fit(path, bert, tmp_path, "--set", "data.clean.missing=drop"), fast=True)
    assert answer.code == 0, answer.err
    assert "2 rows dropped: no value in text or label" in answer.err


def test_a_broken_row_in_the_middle_of_a_large_file_is_named_by_its_number(refused, bert, tmp_path):
    lines = [f"a b {i},{'xy'[i % 2]}" for i in range(20_000)]
    lines[12_344] = "a, b, c"
    path = tmp_path / "large.csv"
    path.write_text("text,label\n" + "\n".join(lines) + "\n", encoding="utf-8")
    refused(("large.csv, row 12345 (line 12346)", "found 3", "->"), *_fit(path, bert, tmp_path))


def test_bytes_that_are_no_text_name_the_file_and_the_remedy(refused, bert, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(b"text,label\n" + bytes(range(128, 256)) * 3 + b"\x00\x01,x\n" + b"\x00" * 300)
    refused(("rows.csv", "->"), *_fit(path, bert, tmp_path))


def test_mixed_types_in_json_lines_name_both_rows(refused, bert, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", "label": "x"}\n{"text": "b", "label": 1}\n', encoding="utf-8")
    refused(("rows.jsonl, row 1", "row 2", "mixed types"), *_fit(path, bert, tmp_path))


def test_a_broken_line_of_json_is_named(refused, bert, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", "label": "x"}\n{"text": "b", "lab\n', encoding="utf-8")
    refused(("rows.jsonl, line 2", "whole JSON"), *_fit(path, bert, tmp_path))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no/such/folder/here", ("no/such/folder/here", "no such model folder")),
        ("no-such-name", ("no-such-name", "HF_HUB_OFFLINE")),
        ("package:nosuch", ("nosuch", "->")),
    ],
)
def test_an_unknown_model_is_told(refused, csv, tmp_path, name, words):
    refused(words, *_fit(csv, name, tmp_path))


def test_truncated_weights_are_told(refused, csv, bert, tmp_path):
    folder = shutil.copytree(bert, tmp_path / "cut")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    refused(("model.safetensors", "cut short or damaged"), *_fit(csv, folder, tmp_path))


def test_pickled_weights_are_never_opened(refused, csv, bert, tmp_path):
    folder = shutil.copytree(bert, tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    torch.save({"a": torch.zeros(1)}, folder / "pytorch_model.bin")
    refused(("pytorch_model.bin", "can run code", "safetensors"), *_fit(csv, folder, tmp_path))


def test_a_disk_without_space_is_told_before_anything_is_written(refused, csv, bert, tmp_path, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10**12, 10**12 - 1000, 1000))
    refused(("needs", "1.0 kB free", "--out"), *_fit(csv, bert, tmp_path))


def test_an_output_folder_that_is_not_empty_is_never_touched(refused, csv, bert, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    refused(("not empty", "--out"), *_fit(csv, bert, tmp_path))


COMMANDS = {
    "no such verb": (("frobnicate",), ("No such command", "Usage:")),
    "no such option": (("fit", "--frob"), ("No such option", "--frob", "Usage:")),
    "an argument is missing": (("predict",), ("Missing argument", "Usage:")),
    "a value of the wrong type": (("fit", "x.csv", "--seed", "often"), ("--seed", "integer")),
    "no data": (("fit",), ('"data" is missing', '"model" is missing', "--model")),
    "no such kind": (("list", "metrik"), ("metrik", 'did you mean "metric"?')),
    "a recipe of another name": (("new", "recipe.txt"), ("recipe.toml",)),
    "no such Run": (("predict", "no-run", "x.csv"), ("no-run", "no such folder")),
}


@pytest.mark.parametrize(("arguments", "words"), COMMANDS.values(), ids=COMMANDS.keys())
def test_a_wrong_command_line_exits_with_1(refused, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    refused(words, *arguments)


SETTINGS = {
    "a strategy": (("--strategy", "fulll"), ("fulll", 'did you mean "full"?')),
    "a key": (("--set", "train.leraning=1"), ('unknown key "train.leraning"',)),
    "a value": (("--set", "train.batch=many"), ("train.batch", "many")),
    "a setting without =": (("--set", "train.lr"), ("sets nothing",)),
    "a metric of another task": (("--set", "evaluate.select=rmse"), ("rmse", "does not fit a classification")),
    "a metric of another task among others": (
        ("--set", 'evaluate.metrics=["accuracy", "r2"]'),
        ("r2", "does not fit"),
    ),
    "a length beyond the model": (("--set", "data.max_length=4096"), ("4096", "64 tokens at most")),
    "a device": (("--device", "cuda"), ("cuda", "--device")),
    "a device of no kind": (("--device", "tpu9"), ("tpu9", "--device")),
    "a column": (("--target", "lable"), ("lable", 'did you mean "label"?')),
    "a positive label": (("--set", "task.positive=cheese"), ("cheese", "does not occur")),
}


@pytest.mark.parametrize(("more", "words"), SETTINGS.values(), ids=SETTINGS.keys())
def test_a_setting_that_cannot_be_is_told_before_training(refused, csv, bert, tmp_path, more, words, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused(words, *_fit(csv, bert, tmp_path, *more))


def test_a_metric_of_the_positive_label_needs_two_classes(refused, bert, tmp_path, write_csv):
    path = write_csv(tmp_path / "three.csv", tiny_rows(90, 3))
    refused(("f1", "does not fit", "3 labels"), *_fit(path, bert, tmp_path, "--set", "evaluate.select=f1"))


def test_predict_names_the_column_that_is_missing(refused, fitted, tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("message\nhello\n")
    refused(('"text"', "message"), "predict", fitted, path)


def test_predict_refuses_a_format_before_it_predicts(refused, fitted, csv, tmp_path, monkeypatch):
    monkeypatch.setattr("tunesmith.verbs.load", lambda *_a, **_k: pytest.fail("it loaded the model first"))
    refused(("out.xyz", ".csv"), "predict", fitted, csv, "-o", tmp_path / "out.xyz")


def test_evaluate_refuses_another_format_and_rows_without_any_known_label(refused, fitted, csv, tmp_path):
    refused(("scores.json",), "evaluate", fitted, csv, "-o", tmp_path / "scores.csv")
    path = tmp_path / "other.csv"
    path.write_text("text,label\nwe at,cat\nan egg,dog\n")
    refused(("other.csv", "apple, bread"), "evaluate", fitted, path)


def test_a_place_that_cannot_be_written_is_told(refused, fitted, csv, tmp_path):
    (tmp_path / "taken").write_text("a file, not a folder")
    refused(("out.csv", "could not be written"), "predict", fitted, csv, "-o", tmp_path / "taken" / "out.csv")
    refused(("could not be written",), "evaluate", fitted, csv, "-o", tmp_path / "taken" / "out.json")


def test_a_run_that_did_not_finish_says_how_to_finish_it(refused, fitted, csv, tmp_path):
    broken = shutil.copytree(fitted, tmp_path / "broken")
    (broken / "README.md").unlink()
    for verb in ("predict", "evaluate"):
        refused(("did not finish", "--resume", str(broken)), verb, broken, csv)


@pytest.mark.parametrize("name", ["measured.json", "recipe.toml", "tunesmith.safetensors"])
def test_a_damaged_run_names_the_damaged_file(refused, fitted, csv, tmp_path, name):
    broken = shutil.copytree(fitted, tmp_path / "broken")
    content = (broken / name).read_bytes()
    (broken / name).write_bytes(content[: len(content) // 2] + b"\x00")
    refused((name,), "predict", broken, csv)


def test_a_folder_that_is_no_run_is_told(refused, csv, tmp_path):
    refused((str(tmp_path), "not a run folder", "a fit left"), "predict", tmp_path, csv)


def test_settings_beside_resume_are_refused(refused, fitted, csv, tmp_path):
    told = refused(
        ("no effect with --resume",), "fit", csv, "--resume", fitted, "--set", "seed=3", "--strategy", "head"
    )
    assert all(word in told for word in ("DATA", "--set", "--strategy"))


def test_a_wrong_recipe_file_names_the_line(refused, bert, tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(f'data = "rows.csv"\nmodel = "{bert}"\nstratgy = "full"\n')
    refused(("r.toml, line 3", 'did you mean "strategy"?'), "fit", path)
    refused(("nosuch.toml", "no such recipe"), "fit", Path(tmp_path / "nosuch.toml"))
