"""`check DATA` without a model, and the ledger that every run leaves."""

from __future__ import annotations

import csv
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

import tunesmith as package
from tunesmith.testing import tiny_pictures, tiny_rows

FAST = ("train.length=1 steps", "train.lr=1e-2", "model.head=pooled", 'evaluate.metrics=["accuracy"]')


def sets(*settings):
    return [word for setting in (*FAST, *settings) for word in ("--set", setting)]


@pytest.fixture
def reviews(tmp_path, write_csv):
    """300 rows: one empty text, ten rows twice, three of them with another label, and a column that gives it away."""
    rows = tiny_rows(300)
    texts = [f"{text} in line {number} of the paper" for number, text in enumerate(rows["text"])]
    labels = list(rows["label"])
    texts[290:300], labels[290:300] = texts[:10], labels[:10]
    labels[297:300] = [label + "s" for label in labels[297:300]]
    labels[297:300] = [{"apples": "bread", "breads": "apple"}[label] for label in labels[297:300]]
    texts[50] = ""
    return write_csv(
        tmp_path / "reviews.csv", {"text": texts, "label": labels, "told": [f"{label}!" for label in labels]}
    )


def test_it_says_what_is_in_the_data_what_is_wrong_and_what_to_do(tunesmith, reviews):
    answer = tunesmith("check", reviews, "--target", "label")
    assert answer.code == 0, answer.err
    assert "reviews.csv: 300 rows, 3 columns" in answer.out and 'reads text: "text"' in answer.out
    assert "300 read, 1 left out" in answer.out and "row 51" in answer.out
    assert '"told" gives "label" away' in answer.out and "--set data.clean.missing=drop" in answer.out
    assert "repeat another" in answer.out and "another target" in answer.out
    assert "next: tunesmith check" in answer.out
    assert "about" in answer.out and "tokens an epoch" in answer.out


def test_as_json_it_is_the_same_and_of_a_model_it_is_refused(tunesmith, reviews, bert):
    found = json.loads(tunesmith("check", reviews, "--target", "label", "--json").out)
    assert found["rows"] == 300 and found["ledger"]["read"] == {"": 300}
    assert {finding["kind"] for finding in found["findings"]} >= {"missing", "giveaway", "rows"}
    refused = tunesmith(
        "check", reviews, "--model", bert, "--target", "label", "--json", *sets("data.clean.missing=drop")
    )
    assert refused.code == 1 and "--json is about the data alone" in refused.err
    refused = tunesmith("check", reviews, "--target", "label", "--plan")
    assert refused.code == 1 and "--plan is about a model" in refused.err


def test_a_target_that_cannot_be_told_is_asked_for_beside_what_was_found(tunesmith, tmp_path, write_csv):
    write_csv(tmp_path / "t.csv", {"a": list(range(40)), "b": [1.5, 2.5] * 20, "c": ["x"] * 40})
    answer = tunesmith("check", tmp_path / "t.csv")
    assert answer.code == 0 and "--target" in answer.out and "\"c\" is always 'x'" in answer.out
    assert "\nrows:" not in answer.out, "no split without a target"


def test_what_would_stop_a_fit_is_told_first(tunesmith, tmp_path, write_csv):
    path = write_csv(tmp_path / "t.csv", {"text": [f"text number {row}" for row in range(30)], "label": ["a"] * 30})
    answer = tunesmith("check", path, "--target", "label")
    assert answer.code == 0 and "nothing to tell apart" in answer.out


def test_rows_that_can_be_read_once_are_read_once(tunesmith, reviews, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(reviews.read_bytes())))
    answer = tunesmith("check", "-", "--target", "label")
    assert answer.code == 0 and "300 read, 1 left out" in answer.out, answer.out


def test_pictures_are_opened_and_compared_by_what_is_in_them(tunesmith, tmp_path):
    folder = tiny_pictures(tmp_path / "pictures", 12)
    for part in ("train", "test"):
        shutil.copytree(folder, tmp_path / "set" / part)
    for number, path in enumerate(sorted((tmp_path / "set" / "test").rglob("*.png"))):
        if number >= 4:
            Image.effect_noise((20, 24), 60 + number).convert("RGB").save(path)
    (tmp_path / "set" / "train" / "red" / "3.png").write_bytes(b"\x89PNG broken")
    answer = tunesmith("check", tmp_path / "set")
    assert answer.code == 0, answer.err
    assert "cannot be read" in answer.out and "3.png" in answer.out and "1 left out" in answer.out
    assert "of 36 test rows 4 are the same as a row of a part before" in answer.out


def test_a_picture_that_was_saved_again_is_found_in_the_other_part(tunesmith, tmp_path):
    draw = np.random.default_rng(0)
    for part, number in (("train", 30), ("test", 12)):
        for row in range(number):
            folder = tmp_path / "set" / part / ("red", "blue")[row % 2]
            folder.mkdir(parents=True, exist_ok=True)
            rough = Image.fromarray(draw.integers(0, 256, (5, 6, 3)).astype(np.uint8))
            rough.resize((120, 100), Image.Resampling.BICUBIC).save(folder / f"{row}.png")
    first = Image.open(tmp_path / "set" / "train" / "red" / "4.png")
    first.point(lambda value: 0.9 * value + 10).save(tmp_path / "set" / "test" / "red" / "again.jpg", quality=80)
    answer = tunesmith("check", tmp_path / "set")
    assert "of 13 test rows 0 are the same as a row of a part before, and 1 nearly the same" in answer.out, answer.out


def test_labels_in_lists_beside_files_with_words_in_their_names(tmp_path, tone):
    names = [str(tone(tmp_path / f"{row}_{('anna', 'bert')[row % 2]}.wav", 300 + row)) for row in range(12)]
    report = package.check({"sound": names, "tags": [["a"], ["a", "b"], ["b"]] * 4}, target="tags", task="multilabel")
    assert any("anna, bert" in str(finding) for finding in report.findings)


def test_a_run_keeps_its_ledger_and_every_row_and_token_is_in_it(tunesmith, reviews, bert, tmp_path):
    steps = [f"data.clean.{step}=drop" for step in ("missing", "duplicates", "conflicts", "leaks")]
    arguments = ["fit", reviews, "--model", bert, "--target", "label", "--out", tmp_path / "run"]
    answer = tunesmith(*arguments, *sets(*steps, "data.max_length=8", "data.split=hash"))
    assert answer.code == 0, answer.err
    ledger = json.loads((tmp_path / "run" / "ledger.json").read_text())
    dropped = {entry["step"]: entry["rows"] for entry in ledger["entries"] if entry["action"] == "dropped"}
    assert dropped["missing"] == 1 and ledger["found"]["conflicts"] == 6
    left_out = sum(entry["rows"] for entry in ledger["entries"] if entry["action"] == "dropped")
    assert sum(ledger["used"].values()) + left_out == 300
    for part, tokens in ledger["tokens"].items():
        cut = sum(e["amount"] for e in ledger["entries"] if e["action"] == "cut" and e["part"] == part)
        assert tokens["read"] == tokens["used"] + cut and cut > 0
    assert "of all tokens are lost" in answer.err


@pytest.mark.parametrize(
    ("limit", "said"),
    [("dropped = 0.001", "dropped: 0.33%"), ("conflicts = 0.0", "conflicts:"), ("cut = 0.01", "cut:")],
)
def test_a_limit_stops_the_run_before_anything_is_trained(limit, said, tunesmith, reviews, bert, tmp_path):
    arguments = ["fit", reviews, "--model", bert, "--target", "label", "--out", tmp_path / "run"]
    settings = ("data.clean.missing=drop", "data.max_length=8", f"data.limits={{{limit}}}")
    answer = tunesmith(*arguments, *sets(*settings))
    assert answer.code == 1 and said in answer.err and "data.limits" in answer.err
    assert not (tmp_path / "run").exists()


def test_a_limit_of_something_else_is_refused(tunesmith, reviews, bert):
    answer = tunesmith("check", reviews, "--model", bert, "--target", "label", *sets("data.limits={drop = 0.1}"))
    assert answer.code == 1 and '"drop"' in answer.err and "dropped" in answer.err


def test_wrong_labels_are_ranked_and_written(tunesmith, tmp_path, write_csv, bert):
    rows = tiny_rows(400)
    labels = list(rows["label"])
    for row in range(0, 400, 40):
        labels[row] = "bread" if labels[row] == "apple" else "apple"
    path = write_csv(tmp_path / "rows.csv", {"text": rows["text"], "label": labels})
    arguments = ["check", path, "--model", bert, "--target", "label"]
    answer = tunesmith(*arguments, "--labels", "-o", tmp_path / "suspects.csv")
    assert answer.code == 0, answer.err
    assert "labels look wrong" in answer.out and "more like" in answer.out
    with open(tmp_path / "suspects.csv", encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    places = [int(one["where"].rpartition(" ")[2]) - 1 for one in found]
    assert sum(row % 40 == 0 for row in places) >= 4 and places[0] % 40 == 0
    assert found[0]["likely"] in rows["text"][places[0]].split() and found[0]["likely"] != found[0]["label"]
    refused = tunesmith(*arguments, "-o", tmp_path / "x.csv")
    assert refused.code == 1 and "--out has no effect without --labels" in refused.err
    refused = tunesmith(*arguments, "--labels", "--plan")
    assert refused.code == 1 and "answers apart" in refused.err


FOUND = {
    "trec/train.csv": ((), ('"fine" gives "label" away',)),
    "chnsenticorp_htl/ChnSentiCorp_htl_all.csv": ((), ("row 6375", "imbalanced")),
    "wine_quality_red/winequality-red.csv": (("--target", "quality"), ("rows of train repeat another",)),
    "hymenoptera": ((), ("imageNotFound.gif",)),
    "adult/adult.data": ((), ("'?' counts as missing", "a header is missing")),
    "california_housing/housing.csv": (
        ("--target", "median_house_value", "--task", "regression"),
        ('"total_bedrooms" has no value in 207', "500001, its largest value, in 965"),
    ),
    "fsdd_subset/recordings": ((), ("george, jackson, lucas, nicolas, theo, yweweler",)),
}
"""Data -> what is said of it, and what is found without being told."""


@pytest.mark.real
@pytest.mark.parametrize("name", FOUND)
def test_the_traps_of_real_data_are_found_without_being_told(name, tunesmith, real_data):
    folder, _, file = name.partition("/")
    said, found = FOUND[name]
    answer = tunesmith("check", real_data(folder) / file if file else real_data(folder), *said)
    assert answer.code == 0, answer.err
    assert all(words in answer.out for words in found), answer.out
