"""Tiny runs in real processes, and what makes two runs equal."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SETTINGS = {
    "data.split": "hash",
    "model.head": "pooled",
    "train.lr": "1e-2",
    "train.batch": 8,
    "train.micro": 3,
    "train.precision": "fp32",
    "train.patience": 0,
    "evaluate.metrics": ["accuracy"],
}


@pytest.fixture(scope="session")
def process() -> Iterator[Callable[..., tuple[int, str]]]:
    """`process(arguments, signal=..., step=...)` runs the command line and gives its exit code (of all ranks the
    largest in size) and its output."""
    server = Path(__file__).with_name("process_server.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen([sys.executable, server], stdin=pipe, stdout=pipe, text=True, env=environment) as running,
    ):
        assert running.stdin is not None and running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        number = 0

        def run(*arguments: Any, **order: Any) -> tuple[int, str]:
            nonlocal number
            number += 1
            log = Path(folder) / f"{number}.log"
            line = json.dumps(order | {"arguments": [str(argument) for argument in arguments], "log": str(log)})
            running.stdin.write(line + "\n")
            running.stdin.flush()
            codes = json.loads(running.stdout.readline())
            return max(codes, key=abs), log.read_text()

        yield run
        running.stdin.close()


@pytest.fixture(scope="session")
def write_rows() -> Callable[..., Path]:
    """Columns as a CSV file."""

    def write(path: Path, columns: dict[str, list[Any]]) -> Path:
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))
        return path

    return write


@pytest.fixture(scope="session")
def settings() -> Callable[..., list[str]]:
    """`--set` arguments: those of all tiny runs, and others."""

    def build(**others: Any) -> list[str]:
        named = {name.replace("__", "."): value for name, value in others.items()}
        return [
            word
            for name, value in (SETTINGS | named).items()
            for word in ("--set", f"{name}={json.dumps(value) if isinstance(value, list) else value}")
        ]

    return build


@pytest.fixture(scope="session")
def steps_of() -> Callable[[Path], list[tuple[Any, ...]]]:
    """The steps and scores that events.jsonl tells, without what a clock decides."""

    def read(run: Path) -> list[tuple[Any, ...]]:
        events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
        steps = [(e["event"], e["step"], e.get("loss"), e.get("rate"), e.get("rows"), e.get("value")) for e in events
                 if e["event"] in ("step", "evaluate")]  # fmt: skip
        assert [e["event"] for e in events].count("prepare") == 1
        return steps

    return read
