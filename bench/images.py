"""Strategies on photographs of ants and bees, with small ImageNet bodies: test accuracy over seeds.

A tenth of the training photographs chooses the step; the `val` folder of the data set is the test. The networks below
are a person's own modules for weights that others trained: the names in the files differ from theirs (`module.` before
each, dicts inside dicts), and Tunesmith says what matched. MobileNetV2 comes from torchvision where that is installed.
Results are appended to a file as they come. Run: python bench/images.py --results images.jsonl"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

DATA = Path(__file__).parents[2] / "shared" / "data"
STRATEGIES = ("head", "last", "full")
IMAGENET = "mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225]"


class Fire(nn.Module):
    """SqueezeNet's block (Iandola et al. 2016)."""

    def __init__(self, width: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(width, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, states: Tensor) -> Tensor:
        states = self.squeeze(states).relu()
        return torch.cat([self.expand1x1(states), self.expand3x3(states)], 1).relu()


class SqueezeNet(nn.Module):
    """SqueezeNet 1.1; its head is a convolution with ReLU and a mean behind it."""

    def __init__(self) -> None:
        super().__init__()
        pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        fires = [(64, 16, 64), (128, 16, 64), (), (128, 32, 128), (256, 32, 128), ()]
        fires += [(256, 48, 192), (384, 48, 192), (384, 64, 256), (512, 64, 256)]
        parts = [Fire(*sizes) if sizes else pool for sizes in fires]
        self.features = nn.Sequential(nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool, *parts)
        self.classifier = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(512, 1000, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images)).flatten(1)


def _narrow(before: int, after: int, stride: int = 1) -> nn.Sequential:
    parts = [nn.Conv2d(before, before, 3, stride, 1, groups=before, bias=False), nn.BatchNorm2d(before)]
    more = [nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.1)]
    return nn.Sequential(*parts, nn.LeakyReLU(0.1), *more)


class MobileNetV1(nn.Module):
    """MobileNetV1 (Howard et al. 2017) at a quarter of its width, with LeakyReLU."""

    def __init__(self) -> None:
        super().__init__()
        first = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.LeakyReLU(0.1))
        one = [_narrow(8, 16), _narrow(16, 32, 2), _narrow(32, 32), _narrow(32, 64, 2), _narrow(64, 64)]
        self.stage1 = nn.Sequential(first, *one)
        self.stage2 = nn.Sequential(_narrow(64, 128, 2), *[_narrow(128, 128) for _ in range(5)])
        self.stage3 = nn.Sequential(_narrow(128, 256, 2), _narrow(256, 256))
        self.fc = nn.Linear(256, 1000)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.stage3(self.stage2(self.stage1(images))).mean((2, 3)))


class Basic(nn.Module):
    """ResNet's block for CIFAR (He et al. 2016), with a shortcut that has no parameters."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)
        self.stride, self.more = stride, after - before

    def forward(self, states: Tensor) -> Tensor:
        made = self.bn2(self.conv2(self.bn1(self.conv1(states)).relu()))
        passed = states[:, :, :: self.stride, :: self.stride]
        return (made + nn.functional.pad(passed, (0, 0, 0, 0, self.more // 2, self.more // 2))).relu()


class CifarResNet(nn.Module):
    """ResNet-20, -32 or -56 for CIFAR."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        for number, (before, after) in enumerate(((16, 16), (16, 32), (32, 64)), 1):
            first = Basic(before, after, 1 if number == 1 else 2)
            setattr(
                self, f"layer{number}", nn.Sequential(first, *[Basic(after, after, 1) for _ in range(depth // 6 - 1)])
            )
        self.linear = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        states = self.bn1(self.conv1(images)).relu()
        return self.linear(self.layer3(self.layer2(self.layer1(states))).mean((2, 3)))


def _photographs(size: int, resize: int) -> str:
    return f"model.expects={{size = {size}, resize = {resize}, {IMAGENET}}}"


BODIES: dict[str, tuple[Callable[[], nn.Module] | str, str, str]] = {
    "mobilenet_v2": (
        "torchvision:mobilenet_v2",
        "mobilenet_v2_imagenet/mobilenet_v2_torchvision_keys_backbone.safetensors",
        "model.expects={size = 224}",
    ),
    "squeezenet": (
        SqueezeNet,
        "squeezenet1_1_imagenet/squeezenet1_1_torchvision_keys.safetensors",
        _photographs(224, 256),
    ),
    "mobilenet_v1": (
        MobileNetV1,
        "mobilenet_v1_025_imagenet/mobilenetV1X0.25_pretrain.tar",
        _photographs(224, 256),
    ),
    "resnet20": (lambda: CifarResNet(20), "resnet_cifar10/resnet20-12fca82f.th", _photographs(64, 72)),
    "resnet56": (lambda: CifarResNet(56), "resnet_cifar10/resnet56-4bfd9763.th", _photographs(64, 72)),
}
"""Body -> the module or its name, its file of weights, and what it reads."""


def main() -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--results", type=Path, default=Path("images.jsonl"))
    parser.add_argument("--bodies", default=",".join(BODIES))
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--set", action="append", default=[], help="passed on to fit")
    options = parser.parse_args()
    if not (options.data / "hymenoptera").is_dir():
        print(f"not measured: {options.data / 'hymenoptera'} is absent")
        return
    known = {tuple(result[key] for key in ("body", "strategy", "seed")) for result in _results(options.results)}
    for seed in map(int, options.seeds.split(",")):
        for body in options.bodies.split(","):
            if body == "mobilenet_v2" and importlib.util.find_spec("torchvision") is None:
                print("mobilenet_v2: not measured, torchvision is not installed")
                continue
            for strategy in options.strategies.split(","):
                if (body, strategy, seed) not in known:
                    found = {"body": body, "strategy": strategy, "seed": seed}
                    found |= measure(options.data, body, strategy, seed, options.set)
                    with open(options.results, "a", encoding="utf-8") as file:
                        file.write(json.dumps(found) + "\n")
    print(table(_results(options.results)))


def measure(data: Path, body: str, strategy: str, seed: int, settings: list[str]) -> dict[str, Any]:
    """Fit once: test accuracy with its interval, and seconds."""
    import tunesmith

    model, weights, expects = BODIES[body]
    photographs = data / "hymenoptera"
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        run = tunesmith.fit(
            photographs / "train",
            model if isinstance(model, str) else model(),
            test=photographs / "val",
            strategy=strategy,
            seed=seed,
            out=Path(out) / "run",
            settings=[f"model.weights={data / 'weights' / weights}", expects, *settings],
            quiet=True,
        )
        score = run.scores["test"]["accuracy"]
        found = {"accuracy": score["value"], "seconds": round(time.perf_counter() - started, 1)}
        return found | (run.measured.get("augment") or {})


def table(results: list[dict[str, Any]]) -> str:
    """A line a body and strategy."""
    lines = ["| body | strategy | test accuracy by seed | mean | seconds |", "|---|---|---|---|---|"]
    for body, strategy in dict.fromkeys((result["body"], result["strategy"]) for result in results):
        some = [result for result in results if (result["body"], result["strategy"]) == (body, strategy)]
        values = [result["accuracy"] for result in sorted(some, key=lambda result: int(result["seed"]))]
        shown, seconds = " ".join(f"{value:.3f}" for value in values), statistics.mean(r["seconds"] for r in some)
        lines.append(f"| {body} | {strategy} | {shown} | {statistics.mean(values):.3f} | {seconds:.0f} |")
    return "\n".join(lines)


def _results(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


if __name__ == "__main__":
    main()
