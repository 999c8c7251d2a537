"""Every kind of source and of split, from its rows to a Run: files, folders, and objects in memory."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

import tunesmith as package
from tunesmith.testing import tiny_rows


def _rows(path):
    return pq.read_table(path).to_pylist()


@pytest.fixture
def told():
    """What a verb says, line by line: pass `tell=told.append`."""
    return []


def my_loss(outputs, targets):
    import torch.nn.functional as F

    return F.cross_entropy(outputs, targets, reduction="none")


@pytest.mark.parametrize("kind", ["frame", "columns", "pair", "datasets"])
def test_objects_in_memory_are_rows_like_those_of_a_file(kind, bert, quick, tmp_path):
    rows = tiny_rows(120)
    pandas, datasets = pytest.importorskip("pandas"), pytest.importorskip("datasets")
    data = {
        "frame": lambda: pandas.DataFrame({"text": rows["text"], "label": [int(w == "bread") for w in rows["label"]]}),
        "columns": lambda: rows,
        "pair": lambda: (rows["text"], rows["label"]),
        "datasets": lambda: datasets.Dataset.from_dict(rows),
    }[kind]()
    run = quick(data, bert, out=tmp_path / "run")
    assert run.recipe.data.source.startswith("memory:")
    labels = package.load(run, device="cpu").labels
    assert labels == (("0", "1") if kind == "frame" else ("apple", "bread"))
    assert package.evaluate(run, data, tell=str)["rows"] == 120


class Items:
    """A torch Dataset that counts what is read of it."""

    def __init__(self, rows):
        self.rows = list(zip(rows["text"], rows["label"], strict=True))
        self.read = 0

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        self.read += 1
        return self.rows[index]


def test_a_torch_dataset_is_read_in_place_and_never_copied(bert, quick, tmp_path):
    items = Items(tiny_rows(120))
    run = quick(items, bert, settings=["train.batch=64"], out=tmp_path / "run")
    assert run.finished
    assert items.read > 120, "items are read when they are needed, not kept"
    ids = [row["id"] for row in _rows(run.path / "split.parquet")]
    assert sorted(ids, key=lambda name: int(name.partition("-")[2])) == [f"row-{i}" for i in range(120)]


def test_the_name_of_an_object_in_memory_follows_its_content():
    from tunesmith.given import _digest

    rows = tiny_rows(20)
    other = {**rows, "label": rows["label"][::-1]}
    assert _digest(rows) == _digest({**rows})
    assert _digest(rows) != _digest(other)


def test_resuming_a_run_of_an_object_in_memory_asks_for_the_object(bert, quick, tmp_path, tunesmith):
    rows = tiny_rows(120)
    run = quick(rows, bert, loss=my_loss, out=tmp_path / "run", settings=["data.split=hash"])
    (run.path / "README.md").unlink()
    answer = tunesmith("fit", "--resume", run.path)
    assert answer.code == 1
    assert "data and loss came from memory" in answer.err
    assert "tunesmith.fit(data, loss=loss, resume=RUN)" in answer.err
    assert package.fit(rows, loss=my_loss, resume=run.path, quiet=True).finished


@pytest.mark.parametrize(("num_rows", "with_test"), [(40, False), (40, True), (190, False)])
def test_few_rows_all_train_and_are_judged_by_cross_validation(
    bert, quick, tmp_path, write_csv, num_rows, with_test, told
):
    train = write_csv(tmp_path / "few.csv", tiny_rows(num_rows))
    test = write_csv(tmp_path / "later.csv", tiny_rows(20, seed=5)) if with_test else None
    run = quick(train, bert, test=test, out=tmp_path / "run", quiet=False, tell=told.append)
    assert any(f"all {num_rows} rows train" in line for line in told)
    assert len(_rows(run.path / "predictions" / "valid.parquet")) == num_rows
    assert set(run.scores) == ({"valid", "test"} if with_test else {"valid"})
    assert run.measured["length"]["folds"] >= 2
    assert "did not train on it" in (run.path / "README.md").read_text()


def test_train_valid_and_test_files_are_the_parts(bert, csv, quick, tmp_path, write_csv):
    valid = write_csv(tmp_path / "v.csv", tiny_rows(30, seed=1))
    test = write_csv(tmp_path / "t.csv", tiny_rows(20, seed=2))
    run = quick(csv, bert, valid=valid, test=test, out=tmp_path / "run")
    assert json.loads((run.path / "data.json").read_text())["split"] == {
        "train": 200,
        "valid": 30,
        "test": 20,
        "how": "given",
    }


def test_a_split_column_decides_who_trains(bert, quick, tmp_path):
    rows = {**tiny_rows(200), "part": ["test" if i < 20 else "dev" if i < 50 else "train" for i in range(200)]}
    run = quick(rows, bert, settings=["data.split.column=part"], out=tmp_path / "run")
    assert json.loads((run.path / "data.json").read_text())["split"] == {
        "train": 150,
        "valid": 30,
        "test": 20,
        "how": "column",
    }


def test_a_folder_of_files_is_one_source(bert, quick, tmp_path, write_csv):
    folder = tmp_path / "rows"
    folder.mkdir()
    write_csv(folder / "train.csv", tiny_rows(120))
    write_csv(folder / "test.csv", tiny_rows(20, seed=3))
    run = quick(folder, bert, out=tmp_path / "run")
    assert len(_rows(run.path / "predictions" / "test.parquet")) == 20
