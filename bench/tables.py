"""Nets on tables beside boosted trees, and what a net tuned on a large table brings to a small one: test scores.

Everything is on "auto" but the model and the seed. A seed draws 80 % of the rows for training, 10 % that choose the
step and 10 % to test; the trees learn from the same training rows. `transfer`: `new:mlp` on 20,000 rows of
california_housing, then tuned on 200 others that lack two columns (160 train, 40
choose), against the 200 alone; tested on the 440 that are left. Results are appended to a file as they come, and those
in it are not measured again; the table is printed from the file. The data are read from a folder (by default
../shared/data beside the repository).
Run: python bench/tables.py --results tables.jsonl"""

from __future__ import annotations

import argparse
import csv
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[2] / "shared" / "data"
SETS = {
    "california": ("california_housing/housing.csv", "median_house_value", "regression", "rmse"),
    "wine": ("wine_quality_red/winequality-red.csv", "quality", "regression", "rmse"),
    "adult": ("adult/adult.data", "income", "classification", "accuracy"),
}
ADULT = "age workclass fnlwgt education education_num marital_status occupation relationship race sex capital_gain "
ADULT += "capital_loss hours_per_week native_country income"
MODELS = ("new:mlp", "new:ft_transformer")
GONE = ("median_income", "total_bedrooms")


def main() -> None:
    """Measure what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--results", type=Path, default=Path("tables.jsonl"))
    parser.add_argument("--sets", default=",".join([*SETS, "transfer"]))
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--rows", type=int, help="only so many rows of each set, by the seed")
    parser.add_argument("--set", action="append", default=[], help="passed on to fit")
    options = parser.parse_args()
    for seed in map(int, options.seeds.split(",")):
        for name in options.sets.split(","):
            for model in options.models.split(",") if name != "transfer" else ("new:mlp",):
                asked = {"data": name, "model": model, "seed": seed, "rows": options.rows, "set": options.set}
                if all(result | asked != result for result in _results(options.results)):
                    with tempfile.TemporaryDirectory() as place:
                        measure = transfer if name == "transfer" else compare
                        found = asked | measure(options.data, asked, Path(place))
                    with open(options.results, "a", encoding="utf-8") as file:
                        file.write(json.dumps(found) + "\n")
                    print(found, flush=True)
    print(table(_results(options.results)))


def compare(data: Path, asked: dict[str, Any], place: Path) -> dict[str, Any]:
    """Fit once: the test score of the net and of the trees, and the seconds of both."""
    file, target, task, metric = SETS[asked["data"]]
    header, rows = _read(data / file)
    random.Random(asked["seed"]).shuffle(rows)
    rows = rows[: asked["rows"]]
    tenth = len(rows) // 10
    parts = {"test": rows[:tenth], "valid": rows[tenth : 2 * tenth], "train": rows[2 * tenth :]}
    for name, some in parts.items():
        _write(place / f"{name}.csv", header, some)
    run, seconds = _fit(place, asked["model"], target, task, asked)
    scores = run.scores["test"]
    events = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    trees = sum(event["seconds"] for event in events if event["event"] == "baseline" and event["name"] == TREES)
    return {
        "metric": metric,
        "score": scores[metric]["value"],
        "trees": scores["baselines"][TREES][metric]["value"],
        "seconds": round(seconds, 1),
        "trees_seconds": trees,
        "steps": [event["step"] for event in events if event["event"] == "step"][-1],
    }


TREES = "boosted_trees"


def transfer(data: Path, asked: dict[str, Any], place: Path) -> dict[str, Any]:
    """Three fits: the large table; the small one from that Run; the small one from nothing."""
    file, target, task, metric = SETS["california"]
    header, rows = _read(data / file)
    random.Random(asked["seed"]).shuffle(rows)
    large, small, test = rows[:20_000], rows[20_000:20_200], rows[20_200:]
    for folder in ("large", "small"):
        (place / folder).mkdir()
    for name, some in {"train": large[2000:], "valid": large[:1000], "test": large[1000:2000]}.items():
        _write(place / "large" / f"{name}.csv", header, some)
    kept = [index for index, name in enumerate(header) if name not in GONE]
    for name, some in {"train": small[40:], "valid": small[:40], "test": test}.items():
        cut = [[row[index] for index in kept] for row in some]
        _write(place / "small" / f"{name}.csv", [header[index] for index in kept], cut)
    source, seconds = _fit(place / "large", asked["model"], target, task, asked)
    tuned, _ = _fit(place / "small", str(source.path), target, task, asked)
    alone, _ = _fit(place / "small", asked["model"], target, task, asked)
    found = {name: run.scores["test"][metric]["value"] for name, run in {"tuned": tuned, "alone": alone}.items()}
    trees = alone.scores["test"]["baselines"][TREES][metric]["value"]
    return {"metric": metric, "score": found["tuned"], "alone": found["alone"], "trees": trees, "seconds": seconds}


def _fit(place: Path, model: str, target: str, task: str, asked: dict[str, Any]) -> tuple[Any, float]:
    import tunesmith

    started = time.perf_counter()
    run = tunesmith.fit(
        place / "train.csv",
        model,
        target=target,
        task=task,
        valid=place / "valid.csv",
        test=place / "test.csv",
        out=place / f"run-{len(list(place.iterdir()))}",
        seed=asked["seed"],
        settings=asked["set"],
        quiet=True,
    )
    return run, time.perf_counter() - started


def table(results: list[dict[str, Any]]) -> str:
    """The mean of each set and model over its seeds, with the standard deviation."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for result in results:
        key = (result["data"], str(result["rows"] or "all"), result["model"], " ".join(result["set"]))
        groups.setdefault(key, []).append(result)
    lines = ["| data | rows | model | metric | net | boosted trees | alone | seeds | seconds |", "|---" * 9 + "|"]
    for (data, rows, model, settings), some in groups.items():
        told = [_spread([result[key] for result in some if key in result]) for key in ("score", "trees", "alone")]
        seconds = statistics.mean(result["seconds"] for result in some)
        cells = [data, rows, f"{model} {settings}".strip(), some[0]["metric"], *told, str(len(some)), f"{seconds:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    if not values:
        return ""
    digits = 0 if abs(values[0]) > 1000 else 3
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.reader(file, skipinitialspace=True) if row]
    return (ADULT.split(), rows) if path.suffix == ".data" else (rows[0], rows[1:])


def _write(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def _results(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


if __name__ == "__main__":
    main()
