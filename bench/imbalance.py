"""What helps where one label is rare: class weights, focal loss, balanced sampling, a chosen threshold; test scores.

`new:mlp` on adult with `>50K` made rare (5 % of 8,000 rows): 60 % train, 20 % choose the step and the threshold, 20 %
test. F1 of `>50K` decides; everything else is on "auto" but the length. A seed draws the rows and their parts. Results
are appended to a file as they come, and those in it are not measured again; the table is printed from the file. The
data are read from a folder (by default ../shared/data beside the repository).
Run: python bench/imbalance.py --results imbalance.jsonl"""

from __future__ import annotations

import argparse
import csv
import json
import random
import statistics
import tempfile
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[2] / "shared" / "data"
COLUMNS = "age workclass fnlwgt education education_num marital_status occupation relationship race sex capital_gain "
COLUMNS += "capital_loss hours_per_week native_country income"
RARE = ">50K"
WAYS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "class weights": ("objective.class_weights=balanced",),
    "focal loss": ("objective.loss=focal",),
    "balanced sampling": ("data.sampler=balanced",),
    "threshold": ("evaluate.threshold=auto",),
    "class weights, threshold": ("objective.class_weights=balanced", "evaluate.threshold=auto"),
}
METRICS = ("f1", "average_precision", "log_loss")


def main() -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--results", type=Path, default=Path("imbalance.jsonl"))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--rows", type=int, default=8000)
    parser.add_argument("--share", type=float, default=0.05, help="of the rare label")
    parser.add_argument("--length", default="30 epochs")
    options = parser.parse_args()
    for seed in map(int, options.seeds.split(",")):
        for way in WAYS:
            asked = {"seed": seed, "way": way, "rows": options.rows, "share": options.share, "length": options.length}
            if all(result | asked != result for result in _results(options.results)):
                with tempfile.TemporaryDirectory() as place:
                    found = asked | measure(options.data / "adult" / "adult.data", asked, Path(place))
                with open(options.results, "a", encoding="utf-8") as file:
                    file.write(json.dumps(found) + "\n")
                print(found, flush=True)
    print(table(_results(options.results)))


def measure(source: Path, asked: dict[str, Any], place: Path) -> dict[str, Any]:
    """Fit once: the test scores of the net and, decided in the same way, of the trees."""
    import tunesmith

    with open(source, encoding="utf-8") as file:
        rows = [[cell.strip() for cell in row] for row in csv.reader(file) if len(row) == 15]
    draw = random.Random(asked["seed"])
    draw.shuffle(rows)
    num_rare = round(asked["rows"] * asked["share"])
    kept = [row for row in rows if row[-1] == RARE][:num_rare]
    kept += [row for row in rows if row[-1] != RARE][: asked["rows"] - num_rare]
    draw.shuffle(kept)
    fifth = len(kept) // 5
    parts = {"test": kept[:fifth], "valid": kept[fifth : 2 * fifth], "train": kept[2 * fifth :]}
    for name, some in parts.items():
        with open(place / f"{name}.csv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([COLUMNS.split(), *some])
    settings = [f"task.positive={RARE}", "evaluate.select=f1", f"evaluate.metrics={json.dumps(METRICS)}"]
    settings += [f"train.length={asked['length']}", *WAYS[asked["way"]]]
    files = {name: place / f"{name}.csv" for name in ("valid", "test")}
    options: dict[str, Any] = {"seed": asked["seed"], "device": "cpu", "out": place / "run", "quiet": True}
    run = tunesmith.fit(place / "train.csv", "new:mlp", target="income", settings=settings, **files, **options)
    scores = run.scores["test"]
    found = {name: scores[name]["value"] for name in METRICS}
    found |= {f"trees_{name}": scores["baselines"]["boosted_trees"][name]["value"] for name in METRICS}
    chosen = run.measured.get("threshold", {})
    return found | {"threshold": chosen.get("thresholds", {}).get(RARE), "valid_f1": run.scores["valid"]["f1"]["value"]}


def table(results: list[dict[str, Any]]) -> str:
    """One row a way: F1 by seed and its mean, then the means of what only probabilities decide."""
    lines = ["| way | test F1 by seed | mean | average precision | log loss | threshold |", "|---|---|---|---|---|---|"]
    trees = [
        ("boosted trees, plain", "plain", "trees_"),
        ("boosted trees, threshold", "threshold", "trees_"),
    ]
    for label, way, prefix in [*((way, way, "") for way in WAYS), *trees]:
        some = [result for result in results if result["way"] == way]
        if not some:
            continue
        seeds, (f1, precision, loss) = (
            " ".join(f"{result[prefix + 'f1']:.3f}" for result in some),
            (statistics.mean(result[prefix + name] for result in some) for name in METRICS),
        )
        at = "" if prefix else " ".join(f"{result['threshold']:.2f}" for result in some if result["threshold"])
        lines.append(f"| {label} | {seeds} | {f1:.3f} | {precision:.3f} | {loss:.3f} | {at or '-'} |")
    return "\n".join(lines)


def _results(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


if __name__ == "__main__":
    main()
