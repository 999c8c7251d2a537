"""Every source gives the same Table for the same rows, and unknown sources are told what would do."""

import gzip
import json

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from tunesmith import plugins
from tunesmith.data.sources import known_extensions, open_source
from tunesmith.errors import DataError

TEXTS = ["good, really", 'she said "no"\nand left', "été 好", "plain", "no label here"]
LABELS = ["pos", "neg", "pos", "neg", None]
COLUMNS = {"text": TEXTS, "label": LABELS}
ROWS = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]
FRAME = pd.DataFrame(COLUMNS)


def written(folder, name):
    path = folder / name
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
    if name.endswith((".csv", ".csv.gz")):
        FRAME.to_csv(path, index=False)
    elif name.endswith(".tsv"):
        FRAME.to_csv(path, index=False, sep="\t")
    elif name == "semicolons.txt":
        FRAME.to_csv(path, index=False, sep=";", encoding="utf-8-sig")
    elif name == "bars.txt":
        FRAME.to_csv(path, index=False, sep="|", encoding="utf-16")
    elif name.endswith(".parquet"):
        pa.parquet.write_table(pa.table(COLUMNS), path)
    elif name.endswith((".arrow", ".feather")):
        pa.feather.write_feather(pa.table(COLUMNS), str(path))
    elif name == "array.json":
        path.write_text(json.dumps(ROWS, indent=1), encoding="utf-8")
    elif name.endswith(".gz"):
        path.write_bytes(gzip.compress(lines.encode()))
    else:
        path.write_text(lines, encoding="utf-8")
    return path


FILES = ["a.csv", "a.csv.gz", "a.tsv", "semicolons.txt", "bars.txt", "a.jsonl", "a.ndjson", "a.json", "array.json"]
FILES += ["a.jsonl.gz", "a.parquet", "a.arrow", "a.feather"]
OBJECTS = {
    "DataFrame": lambda: FRAME,
    "categories": lambda: FRAME.astype({"label": "category"}),
    "objects": lambda: pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in COLUMNS.items()}),
    "dict": lambda: COLUMNS,
    "arrays": lambda: {name: np.array(values, dtype=object) for name, values in COLUMNS.items()},
    "rows": lambda: ROWS,
    "pair": lambda: (np.array(TEXTS), np.array(LABELS, dtype=object)),
    "lists": lambda: (TEXTS, LABELS),
    "arrow": lambda: pa.table(COLUMNS),
    "datasets": lambda: datasets.Dataset.from_dict(COLUMNS),
    "shuffled": lambda: datasets.Dataset.from_dict(COLUMNS).select([4, 3, 2, 1, 0]).select([4, 3, 2, 1, 0]),
}


def assert_same(table):
    assert table.column_names == ("text", "label")
    assert table.column("text").to_pylist() == TEXTS
    assert table.column("label").to_pylist() == LABELS
    reference = open_source(COLUMNS)[""].identified(["text"])
    assert table.identified(["text"]).ids().tolist() == reference.ids().tolist()
    assert table.fingerprint(["text", "label"]) == reference.fingerprint(["text", "label"])


@pytest.mark.parametrize("name", FILES)
def test_files_give_the_same_table(tmp_path, name):
    table = open_source(str(written(tmp_path, name)))[""]
    assert_same(table)
    assert table.where(4) == f"{name}, row 5"


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_give_the_same_table(name):
    assert_same(open_source(OBJECTS[name]())[""])


def test_a_home_folder_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    written(tmp_path, "a.csv")
    assert_same(open_source("~/a.csv")[""])


def test_the_folder_is_the_registry():
    expected = [
        "arrays",
        "class_folders",
        "delimited",
        "folder",
        "hub",
        "jsonl",
        "memory",
        "opaque",
        "parquet",
        "stdin",
    ]
    assert plugins.names("source") == expected
    assert {".csv", ".jsonl", ".parquet"} <= set(known_extensions())


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("reviws.csv", 'did you mean "reviews.csv"'),
        ("nowhere/reviews.csv", "there is no folder"),
        ("page.html", 'the extension ".html" is not known'),
        ("README", "no extension"),
    ],
)
def test_unknown_files_are_told_what_would_do(tmp_path, monkeypatch, name, what):
    monkeypatch.chdir(tmp_path)
    for file in ("reviews.csv", "page.html", "README"):
        (tmp_path / file).write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=what):
        open_source(name)


@pytest.mark.parametrize("source", [3, None, ["a", "b"], {1, 2}, (x for x in "ab")])
def test_unknown_objects_are_told_what_would_do(source):
    with pytest.raises(DataError, match="pandas DataFrame"):
        open_source(source)
