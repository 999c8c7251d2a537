"""`compare`: Runs beside Runs and other tools, from the command line and from Python, over all that a Run keeps."""

from __future__ import annotations

import csv as csv_format
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import tunesmith as package
from tunesmith.delivery import row_texts
from tunesmith.errors import DataError, TunesmithError
from tunesmith.testing import WORDS, tiny_rows


@pytest.fixture(scope="module")
def runs(fitted, quick, bert, csv, tmp_path_factory):
    """A Run that has learnt the rows, and one on the same rows that has not."""
    other = tmp_path_factory.mktemp("runs") / "short"
    quick(csv, bert, settings=["train.length=1 steps", "train.lr=1e-5"], out=other)
    return fitted, other


def _kept(run, part="test"):
    return pq.read_table(Path(run) / "predictions" / f"{part}.parquet")


def _new_rows(num_rows=60):
    return tiny_rows(num_rows, seed=1)


def test_runs_are_compared_on_the_test_rows_that_they_kept(runs, tunesmith):
    answer = tunesmith("compare", runs[1], runs[0])
    assert answer.code == 0, answer.err
    assert f"accuracy on the same {_kept(runs[0]).num_rows} rows (test)" in answer.out
    assert "messages is better than short: accuracy +0." in answer.out and "McNemar p" in answer.out
    trained = package.Run(runs[0]).read("data.json")["split"]["train"]
    assert f"trained on {trained} rows, " in answer.out


def test_the_text_of_rows_is_read_from_the_data_of_the_run(runs, csv, tunesmith):
    found = package.compare(runs[1], runs[0])
    with open(csv, encoding="utf-8") as file:
        texts = {row["text"]: row["label"] for row in csv_format.DictReader(file)}
    says, target = found.rows["says"].to_pylist(), found.rows["target"].to_pylist()
    assert [texts[text] for text in says] == target
    assert f": {says[found.pairs[0].wins[0]]}" in str(found)


def test_without_its_data_a_row_is_known_by_its_id_alone(runs, tmp_path, monkeypatch):
    # A name that is no file may be a data set of the hub, or standard input: it is not opened to show texts.
    monkeypatch.setattr(row_texts, "read_tables", lambda *_: pytest.fail("read"))
    copies = []
    for run in runs:
        copies.append(shutil.copytree(run, tmp_path / run.name, ignore=shutil.ignore_patterns("checkpoints", "model")))
        recipe = copies[-1] / "recipe.toml"
        recipe.write_text(recipe.read_text().replace("messages.csv", "gone.csv"))
    found = package.compare(copies[1], copies[0])
    assert "says" not in found.rows.column_names
    assert f"    {found.rows['id'][found.pairs[0].wins[0]]} is " in str(found)
    monkeypatch.undo()
    assert found.pairs[0].wins == package.compare(runs[1], runs[0]).pairs[0].wins


def test_valid_rows_are_compared_with_a_caution(runs, tunesmith):
    answer = tunesmith("compare", *runs, "--split", "valid")
    assert answer.out.startswith("these rows chose the weights of the runs: scores are optimistic")
    assert f"{_kept(runs[0], 'valid').num_rows} rows (valid)" in answer.out
    assert "optimistic" not in tunesmith("compare", *runs).out


def test_json_and_the_rows_that_differ(runs, tunesmith, tmp_path):
    answer = tunesmith("compare", *runs, "--json", "-o", tmp_path / "rows.jsonl", "--metric", "f1_macro")
    found = json.loads(answer.out)
    assert found["metric"] == "f1_macro" and found["pairs"][0]["verdict"] == "worse"
    assert {"trained_on", "seconds", "bytes"} < found["scores"][0].keys() and found["scores"][0]["seconds"] > 0
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert {row["id"] for row in rows} >= {*found["pairs"][0]["losses"]}
    assert all(row["prediction_messages"] != row["prediction_short"] for row in rows)


def test_new_labelled_rows_are_answered_now(runs, write_csv, tunesmith, tmp_path):
    data = write_csv(tmp_path / "new.csv", _new_rows())
    answer = tunesmith("compare", *runs, "--data", data)
    assert "on the same 60 rows (" in answer.out and "new.csv)" in answer.out
    expected = package.evaluate(runs[0], data, out=tmp_path / "scores.json", tell=[].append)["accuracy"]
    found = package.compare(*runs, data=_new_rows())
    assert found.contenders[0].score == expected
    assert found.rows["says"].to_pylist() == _new_rows()["text"]


def test_rows_that_a_run_trained_on_or_chose_by_are_left_out(runs):
    new, old = _new_rows(), tiny_rows(200)
    both = {name: [*new[name], *old[name]] for name in new}
    found = package.compare(*runs, data=both)
    parts = pq.read_table(runs[0] / "split.parquet")["split"].to_pylist()
    assert found.rows.num_rows == 60 + parts.count("test")
    learnt = parts.count("train") + parts.count("valid")
    assert found.notes[0] == f"{learnt} rows are left out, because messages trained on their content or chose by it"
    kept = {*found.rows["says"].to_pylist()}
    seen = [row for row in range(200) if old["text"][row] not in kept]
    assert len(seen) > 100
    with pytest.raises(DataError, match=r"no row is left to compare on: .*trained on their content"):
        package.compare(*runs, data={name: [values[row] for row in seen] for name, values in old.items()})


def test_labelled_rows_with_a_label_that_no_run_knows_count_as_wrong(runs):
    rows = _new_rows(10)
    rows["label"][0] = "cherry"
    found = package.compare(*runs, data=rows)
    assert found.rows.num_rows == 10 and found.rows["loss_messages"][0].as_py() == 1
    assert found.rows["target"][0].as_py() == "cherry"


def test_another_tool_is_matched_by_id_or_by_the_columns_that_the_run_reads(runs, write_csv, tmp_path):
    kept, with_text = _kept(runs[0]), package.compare(*runs).rows
    ids, truth = kept["id"].to_pylist(), kept["target"].to_pylist()
    wrong = [WORDS[label == WORDS[0]] for label in truth]
    by_id = write_csv(tmp_path / "by_id.csv", {"id": ids[::-1], "label": truth[::-1], "probability": [0.9] * len(ids)})
    by_text = write_csv(tmp_path / "by_text.csv", {"text": with_text["says"].to_pylist(), "prediction": wrong})
    found = package.compare(runs[0], by_id, by_text)
    assert [each.score["value"] for each in found.contenders[1:]] == [1.0, 0.0]
    assert found.rows.num_rows == len(ids) and not found.notes
    assert package.compare(by_id, runs[0], metric="log_loss").contenders[0].score["value"] == pytest.approx(
        0.10536, abs=1e-5
    )


def test_what_predict_writes_can_be_compared(runs, write_csv, tunesmith, tmp_path):
    data = write_csv(tmp_path / "new.csv", _new_rows())
    for name, run in zip(("one.csv", "two.csv"), runs, strict=True):
        assert tunesmith("predict", run, data, "--proba", "-o", tmp_path / name).code == 0
    there = package.compare(*runs, data=data, metric="auroc")
    found = package.compare(runs[0], tmp_path / "two.csv", data=data, metric="auroc")
    assert found.pairs[0].difference.gain == pytest.approx(there.pairs[0].difference.gain)
    assert there.pairs[0].difference.gain != 0


def test_a_tool_that_knows_rows_by_ids_of_the_data_is_matched_by_them(runs):
    new = _new_rows(40)
    named = {"id": list(range(100, 140)), **new}
    other = {"id": list(range(139, 99, -1)), "prediction": new["label"][::-1]}
    found = package.compare(runs[0], other, data=named)
    assert found.contenders[1].score["value"] == 1.0 and found.rows["id"].to_pylist() == [
        str(i) for i in range(100, 140)
    ]
    # Ids that do not tell rows apart are no ids.
    assert package.compare(*runs, data={"id": [7] * 40, **new}).rows.num_rows == 40


def test_ids_of_the_data_do_not_hide_rows_that_were_trained_on(runs):
    named = {"id": list(range(200)), **tiny_rows(200)}
    other = {"id": named["id"], "prediction": named["label"]}
    for given in (runs, (runs[0], other), (other, runs[0])):
        found = package.compare(*given, data=named)
        assert found.rows.num_rows == _kept(runs[0]).num_rows
        assert found.part == "dict of columns"


def test_runs_whose_tests_share_no_row_say_who_trained_on_them(runs, quick, bert, tmp_path):
    parts = pq.read_table(runs[0] / "split.parquet")
    tested = {
        row for row, part in zip(parts["id"].to_pylist(), parts["split"].to_pylist(), strict=True) if part == "test"
    }
    found = package.compare(*runs).rows
    assert {*found["id"].to_pylist()} == tested
    rows, texts = tiny_rows(200), {*found["says"].to_pylist()}
    mine = [row for row, text in enumerate(rows["text"]) if text in texts]
    others = [row for row in range(200) if row not in mine]
    take = lambda some: {name: [values[row] for row in some] for name, values in rows.items()}  # noqa: E731
    quick(take([*mine, *others[:120]]), bert, target="label", test=take(others[120:]), out=tmp_path / "apart")
    with pytest.raises(DataError) as raised:
        package.compare(runs[0], tmp_path / "apart")
    assert "no row was answered by all" in str(raised.value) and "--data FILE" in str(raised.value)
    assert f"apart trained on or chose by {len(tested)} of the {len(tested)} rows of messages" in str(raised.value)


def test_a_run_without_test_rows_says_what_to_give(runs, quick, bert, csv, tmp_path):
    quick(csv, bert, settings=["data.split={name='hash', test=0.0}"], out=tmp_path / "untested")
    with pytest.raises(
        TunesmithError, match=r"untested: this run has no test rows(?s:.*)--split valid, or --data FILE"
    ):
        package.compare(runs[0], tmp_path / "untested")


def test_mistakes_on_the_command_line_are_told(runs, tunesmith, tmp_path):
    assert "nothing to compare with" in tunesmith("compare", runs[0]).err
    assert "is given twice" in tunesmith("compare", runs[0], runs[0]).err
    (tmp_path / "empty").mkdir()
    assert "is not a run folder" in tunesmith("compare", runs[0], tmp_path / "empty").err
    assert "its format is not known" in tunesmith("compare", *runs, "-o", "rows.xlsx").err
    answer = tunesmith("compare", *runs, "--split", "train")
    assert answer.code == 1 and "test" in answer.err
