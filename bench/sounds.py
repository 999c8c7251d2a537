"""A new network on spoken digits: test accuracy beside the plain baseline, over seeds and over speakers.

`official` is the split of the Free Spoken Digit Dataset (test = takes 0 to 4 of each digit and speaker); the other
lines leave one speaker out of training and test on that one. A tenth of the training rows chooses the step. Results are
appended to a file as they come, and those in it are not measured again. The recordings are named digit_speaker_take.
Run: python bench/sounds.py --results sounds.jsonl"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[2] / "shared" / "data"
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")


def main() -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--results", type=Path, default=Path("sounds.jsonl"))
    parser.add_argument("--splits", default=",".join(("official", *SPEAKERS)))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--set", action="append", default=[], help="passed on to fit")
    options = parser.parse_args()
    folder = options.data / "fsdd_subset" / "recordings"
    if not folder.is_dir():
        raise SystemExit(f"not measured: {folder} is absent")
    known = {(result["split"], result["seed"]) for result in _results(options.results)}
    for seed in map(int, options.seeds.split(",")):
        for split in options.splits.split(","):
            if (split, seed) not in known:
                found = {"split": split, "seed": seed, **measure(folder, split, seed, options.set)}
                with open(options.results, "a", encoding="utf-8") as file:
                    file.write(json.dumps(found) + "\n")
    print(table(_results(options.results)))


def measure(folder: Path, split: str, seed: int, settings: list[str]) -> dict[str, Any]:
    """Fit once; accuracy of the network and of the plain baseline on test, seconds, steps."""
    import tunesmith

    parts: dict[str, list[Path]] = {"train": [], "test": []}
    for path in sorted(folder.glob("*.wav")):
        _, speaker, take = path.stem.split("_")
        held_out = int(take) < 5 if split == "official" else speaker == split
        parts["test" if held_out else "train"].append(path)
    with tempfile.TemporaryDirectory() as out:
        for part, paths in parts.items():
            with open(Path(out) / f"{part}.csv", "w", newline="", encoding="utf-8") as file:
                rows = csv.writer(file)
                rows.writerows([("sound", "digit"), *((path, path.name[0]) for path in paths)])
        started = time.perf_counter()
        run = tunesmith.fit(
            Path(out) / "train.csv",
            "new:cnn",
            target="digit",
            task="classification",
            test=Path(out) / "test.csv",
            seed=seed,
            out=Path(out) / "run",
            settings=['evaluate.metrics=["accuracy"]', *settings],
            quiet=True,
        )
        seconds = time.perf_counter() - started
        events = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
        test = run.scores["test"]
        return {
            "accuracy": test["accuracy"]["value"],
            "plain_logistic": test["baselines"]["plain_logistic"]["accuracy"]["value"],
            "seconds": round(seconds, 1),
            "steps": max(event["step"] for event in events if event["event"] == "step"),
            "set": settings,
        } | (run.measured.get("augment") or {})


def table(results: list[dict[str, Any]]) -> str:
    """A line a split."""
    lines = ["| test on | new:cnn by seed | mean | plain_logistic | seconds |", "|---|---|---|---|---|"]
    means = []
    for split in ("official", *SPEAKERS):
        found = sorted((r for r in results if r["split"] == split), key=lambda result: result["seed"])
        if found:
            values = [result["accuracy"] for result in found]
            plain, seconds = (statistics.mean(r[key] for r in found) for key in ("plain_logistic", "seconds"))
            means += [(statistics.mean(values), plain)] if split != "official" else []
            shown = " ".join(f"{value:.3f}" for value in values)
            lines.append(f"| {split} | {shown} | {statistics.mean(values):.3f} | {plain:.3f} | {seconds:.0f} |")
    if means:
        own, plain = (statistics.mean(pair[index] for pair in means) for index in (0, 1))
        lines.append(f"| mean of {len(means)} speakers | | {own:.3f} | {plain:.3f} | |")
    return "\n".join(lines)


def _results(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


if __name__ == "__main__":
    main()
