"""What the journeys share: a tiny random BERT, rows that it can learn in a second, and the command line in-process."""

from __future__ import annotations

import csv as csv_format
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tunesmith.testing import tiny_model, tiny_rows

FAST = ("train.length=1 epochs", "train.lr=1e-2", "model.head=pooled")


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in transformers format: BERT with 2 layers of width 16 and random weights."""
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny-bert")


def write_csv(path: Path, columns: dict[str, list[Any]]) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv_format.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


@pytest.fixture(scope="session")
def csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 rows of two classes."""
    return write_csv(tmp_path_factory.mktemp("data") / "messages.csv", tiny_rows(200))


@dataclass(frozen=True)
class Answer:
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


@pytest.fixture
def tunesmith(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """`tunesmith("fit", path, ...)`: the command line in this process."""
    from tunesmith.cli import _run

    def run(*arguments: object) -> Answer:
        capsys.readouterr()
        code = _run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Answer(code, out, err)

    return run


@pytest.fixture(scope="session")
def fitted(bert: Path, csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Run of the tiny BERT on two classes, pooled head, made once for all that only read one."""
    from tunesmith import fit

    out = tmp_path_factory.mktemp("runs") / "messages"
    settings = ["train.length=4 epochs", "train.lr=1e-2", "model.head=pooled"]
    fit(csv, bert, device="cpu", settings=settings, out=out, quiet=True)
    return out
