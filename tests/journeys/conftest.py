"""What the journeys share: a tiny random BERT, rows that it can learn in a second, and the command line in-process."""

from __future__ import annotations

import csv as csv_format
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tunesmith.testing import tiny_model, tiny_rows

FAST = ("train.length=1 epochs", "train.lr=1e-2", "model.head=pooled", 'evaluate.metrics=["accuracy"]')
"""Settings that make a fit short: one pass, nothing measured, one metric."""


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in transformers format: BERT with 2 layers of width 16 and random weights."""
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.fixture(scope="session")
def write_csv() -> Callable[[Path, dict[str, list[Any]]], Path]:
    """`write_csv(path, columns)` is the path of a CSV file with these columns."""
    return _write_csv


def _write_csv(path: Path, columns: dict[str, list[Any]]) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv_format.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


@pytest.fixture(scope="session")
def csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 rows of two classes."""
    return _write_csv(tmp_path_factory.mktemp("data") / "messages.csv", tiny_rows(200))


@dataclass(frozen=True)
class Answer:
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


@pytest.fixture
def tunesmith(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """`tunesmith("fit", path, ..., fast=True)`: the command line in this process."""
    from tunesmith.cli import _run

    def run(*arguments: object, fast: bool = False) -> Answer:
        if fast:
            arguments = (*arguments, "--device", "cpu", *(part for setting in FAST for part in ("--set", setting)))
        capsys.readouterr()
        code = _run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Answer(code, out, err)

    return run


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], AbstractContextManager[None]]:
    """`with killed(2): fit(...)`: the run ends, as by a signal, once it has written its second checkpoint."""
    from tunesmith.delivery import folder
    from tunesmith.errors import Interrupted

    @contextmanager
    def after(saves: int) -> Iterator[None]:
        save, done = folder.save_checkpoint, []

        def save_and_stop(*arguments: Any) -> None:
            save(*arguments)
            done.append(1)
            if len(done) == saves:
                raise Interrupted("killed", 130)

        with monkeypatch.context() as patched:
            patched.setattr(folder, "save_checkpoint", save_and_stop)
            with pytest.raises(Interrupted, match="killed"):
                yield

    return after


@pytest.fixture(scope="session")
def quick() -> Callable[..., Any]:
    """`quick(data, model, ..., settings=[...])`: a short and silent fit on the CPU."""
    from tunesmith import fit

    def run(*arguments: Any, settings: Sequence[str] = (), **options: Any) -> Any:
        options = {"device": "cpu", "quiet": True, **options}
        return fit(*arguments, settings=[*FAST, *settings], **options)

    return run


@pytest.fixture(scope="session")
def fitted(bert: Path, csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Run of the tiny BERT on two classes with a pooled head, made once for all that only read one."""
    from tunesmith import fit

    out = tmp_path_factory.mktemp("runs") / "messages"
    settings = ["train.length=4 epochs", "train.lr=1e-2", "model.head=pooled"]
    fit(csv, bert, device="cpu", settings=settings, out=out, quiet=True)
    return out


@pytest.fixture(scope="session")
def fitted_own(bert: Path, csv: Path, quick: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Run with the model's own head."""
    out = tmp_path_factory.mktemp("runs") / "own"
    quick(csv, bert, settings=["train.length=3 epochs", "model.head=own"], out=out)
    return out
