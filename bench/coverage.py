"""Coverage of the 95 % intervals: how often they hold the score of the whole of a real test set, over resamples of it.

The population is a real test set with the predictions of a baseline: SST-2 and TREC by TF-IDF and logistic regression,
the red wines by ridge regression. Of it `--rows` rows are drawn with replacement `--resamples` times, and each metric
is scored on them as `fit` scores it. Run: python bench/coverage.py"""

from __future__ import annotations

import argparse
import csv
import io
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from tunesmith import plugins
from tunesmith.evaluation import intervals
from tunesmith.evaluation.predict import Predictions
from tunesmith.tasks.task import Target

DATA = Path(__file__).parents[2] / "shared" / "data"
OF_LABELS = ("accuracy", "balanced_accuracy", "f1_macro", "auroc", "mcc", "log_loss", "brier")
OF_NUMBERS = ("rmse", "mae", "r2", "spearman")


def main() -> None:
    """Print a line a metric: how many of the intervals hold the truth, and how wide they are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--resamples", type=int, default=200)
    options = parser.parse_args()
    populations = {
        "sst2": lambda: texts(options.data / "sst2", "sentence", "sentiment"),
        "trec": lambda: texts(options.data / "trec", "text", "label"),
        "wine": lambda: wines(options.data / "wine_quality_red"),
    }
    print(f"{'population':<12}{'metric':<20}{'truth':>8}{'covered':>9}{'mean width':>12}")
    for name, open_population in populations.items():
        population = open_population()
        names = OF_NUMBERS if population.task.name == "regression" else OF_LABELS
        rows = [
            np.random.default_rng(number).integers(len(population.ids), size=options.rows)
            for number in range(options.resamples)
        ]
        found = [intervals.score(population.take(some), names, classes=False) for some in rows]
        for metric in names:
            truth = intervals.value(population, metric)
            covered = np.mean([each[metric]["low"] <= truth <= each[metric]["high"] for each in found])
            width = np.mean([each[metric]["high"] - each[metric]["low"] for each in found])
            print(f"{name:<12}{metric:<20}{truth:>8.3f}{covered:>9.3f}{width:>12.3f}", flush=True)


def texts(folder: Path, text: str, label: str) -> Predictions:
    """A test set of texts with the probabilities of a logistic regression."""
    files = [io.StringIO((folder / f"{part}.csv").read_text(encoding="utf-8")) for part in ("train", "test")]
    train, test = (list(csv.DictReader(file)) for file in files)
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    labels = sorted({row[label] for row in train})
    codes = [np.array([labels.index(row[label]) for row in part]) for part in (train, test)]
    model = LogisticRegression(C=10, max_iter=1000).fit(vectors.fit_transform([row[text] for row in train]), codes[0])
    chances = model.predict_proba(vectors.transform([row[text] for row in test]))
    return _predictions(codes[1], chances, "classification", tuple(labels))


def wines(folder: Path) -> Predictions:
    """The red wines that ridge regression did not see."""
    file = next(folder.glob("*.csv"))
    lines = file.read_text(encoding="utf-8-sig").splitlines()
    mark = ";" if ";" in lines[0] else ","
    table = np.array([[float(value) for value in line.split(mark)] for line in lines[1:]])
    table = table[np.random.default_rng(0).permutation(len(table))]
    scale = StandardScaler().fit(table[:600, :-1])
    model = Ridge(1.0).fit(scale.transform(table[:600, :-1]), table[:600, -1])
    outputs = model.predict(scale.transform(table[600:, :-1]))
    return _predictions(table[600:, -1], outputs[:, None], "regression", ("value",))


def _predictions(codes: np.ndarray, outputs: np.ndarray, task: str, labels: tuple[str, ...]) -> Predictions:
    from dataclasses import replace

    same = replace(plugins.get("task", task), probabilities=lambda chances: chances)
    return Predictions(np.arange(len(codes)).astype(str), codes, outputs, same, Target(("y",), labels))


if __name__ == "__main__":
    main()
