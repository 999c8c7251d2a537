"""Decoding photographs one by one, in threads (as Tunesmith does) and in processes, alternating: seconds and ratios.

Reads hymenoptera from a folder (by default ../shared/data beside the repository). Run: python bench/decoding.py"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tunesmith.data import media
from tunesmith.data.encoders import image
from tunesmith.data.sources import open_source

DATA = Path(__file__).parents[2] / "shared" / "data"
ENCODER = image.ImageEncoder(224, 224, (0.0,) * 3, (1.0,) * 3, resize=256)


def main() -> None:
    """Print a line a round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    folder = options.data / "hymenoptera" / "train"
    if not folder.is_dir():
        print(f"not measured: {folder} is absent")
        return
    table = open_source(folder)[""]
    files = media.values_of(table, "image", range(table.num_rows))
    print(f"{len(files)} photographs, {os.cpu_count()} cores")
    with ProcessPoolExecutor() as pool:
        list(pool.map(decoded, files))
        for _ in range(options.rounds):
            alone = seconds(lambda: [decoded(file) for file in files])
            threads = seconds(lambda: list(image._decoded(table, "image", ENCODER)))
            processes = seconds(lambda: list(pool.map(decoded, files, chunksize=16)))
            shown = f"one by one {alone:.2f} s, threads {threads:.2f} s ({alone / threads:.2f}x)"
            print(f"{shown}, processes {processes:.2f} s ({alone / processes:.2f}x)", flush=True)


def decoded(file: Any) -> Any:
    """One photograph's pixels."""
    return image._read(file, ENCODER)


def seconds(work: Callable[[], Any]) -> float:
    """How long it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
