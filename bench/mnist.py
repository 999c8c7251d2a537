"""Grey digits: 1,000 to train on, 2,000 as test; `new:cnn`, and CIFAR's ResNet-20 with its colour weights and without.

The first convolution of the ResNet is made to read grey: its weights are summed. Reads the data from a folder (by
default ../shared/data beside the repository). Run: python bench/mnist.py"""

from __future__ import annotations

import argparse
import gzip
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from images import DATA, CifarResNet


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], help="passed on to fit")
    options = parser.parse_args()
    folder = options.data / "mnist10k"
    if not folder.is_dir():
        print(f"not measured: {folder} is absent")
        return
    weights = options.data / "weights" / "resnet_cifar10" / "resnet20-12fca82f.th"
    runs = {
        "new:cnn": ("new:cnn", []),
        "ResNet-20 of CIFAR, full": (CifarResNet(20), [f"model.weights={weights}"]),
        "ResNet-20 of CIFAR, head": (CifarResNet(20), [f"model.weights={weights}", "strategy=head"]),
        "ResNet-20 from nothing": (CifarResNet(20), ["train.lr=1e-3"]),
    }
    print("| net | test accuracy by seed | mean | seconds |\n|---|---|---|---|")
    for name, (model, settings) in runs.items():
        found = [measure(folder, model, seed, [*settings, *options.set]) for seed in range(options.seeds)]
        values, seconds = [value for value, _ in found], statistics.mean(taken for _, taken in found)
        shown = " ".join(f"{value:.3f}" for value in values)
        print(f"| {name} | {shown} | {statistics.mean(values):.3f} | {seconds:.0f} |", flush=True)


def measure(folder: Path, model: object, seed: int, settings: list[str]) -> tuple[float, float]:
    """Test accuracy and seconds of one fit; the seed draws the training rows."""
    import tunesmith

    images = np.frombuffer(gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    pictures = images.reshape(-1, 28, 28)
    order = np.random.default_rng(seed).permutation(8000)
    train, valid, test = order[:1000], order[1000:1200], np.arange(8000, 10_000)
    parts = {name: (pictures[rows], labels[rows]) for name, rows in (("valid", valid), ("test", test))}
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        run = tunesmith.fit(
            (pictures[train], labels[train]),
            model,
            seed=seed,
            out=Path(out) / "run",
            settings=['evaluate.metrics=["accuracy"]', *settings],
            quiet=True,
            **parts,
        )
        return run.scores["test"]["accuracy"]["value"], time.perf_counter() - started


if __name__ == "__main__":
    main()
