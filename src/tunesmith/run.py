"""The run folder: its files, read and written; every later verb takes one."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tunesmith import files
from tunesmith.errors import TunesmithError
from tunesmith.recipe import file as recipe_file
from tunesmith.recipe.schema import Recipe


@dataclass(frozen=True)
class Run:
    """A folder: recipe.toml, measured.json, environment.json, data.json, split.parquet, events.jsonl, checkpoints/,
    predictions/, scores.json, model/ and tunesmith.safetensors."""

    path: Path

    @property
    def weights(self) -> Path:
        """The whole net."""
        return self.path / "tunesmith.safetensors"

    @property
    def model(self) -> Path:
        """The model in the format of a library that people have."""
        return self.path / "model"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def folds(self) -> Path:
        """The Runs of the folds, numbered from 1, where the recipe splits into folds."""
        return self.path / "folds"

    @property
    def seeds(self) -> Path:
        """The Runs of further seeds, each by its seed, where the recipe asks for them."""
        return self.path / "seeds"

    @property
    def finished(self) -> bool:
        """Whether the last of its files, the card, has been written."""
        return (self.path / "README.md").is_file() and self.weights.is_file()

    @property
    def recipe(self) -> Recipe:
        return recipe_file.read(self.path / "recipe.toml")

    @property
    def scores(self) -> dict[str, Any]:
        """split -> metric -> {value, low, high}; `classes` and `baselines` beside the metrics."""
        return dict(self.read("scores.json"))

    @property
    def drift(self) -> dict[str, Any]:
        """How far each stage of the body moved, and what the model could do before and can do now."""
        return dict(self.read("drift.json"))

    @property
    def measured(self) -> dict[str, Any]:
        """What was measured on the rows before training: the target's labels, the head, the micro-batch, the length."""
        return dict(self.read("measured.json"))

    @property
    def network(self) -> dict[str, Any]:
        """What a network that is no transformers folder is built from again: name, options, head's place, encoder."""
        return dict(self.read("network.json"))

    def read(self, name: str) -> Any:
        """One of the JSON files."""
        path = self.path / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise TunesmithError(f"{self.path} has no {name}", remedy=self._remedy()) from None
        except json.JSONDecodeError as error:
            raise TunesmithError(f"{path} is damaged: {error}") from None

    def write(self, name: str, value: Any) -> None:
        """Replace one of the JSON files in one step."""
        files.write_json(self.path / name, value)

    def append_event(self, event: str, **fields: Any) -> None:
        """Add one line to events.jsonl and flush it."""
        self.append_events([{"event": event, **fields}])

    def append_events(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Add lines to events.jsonl and flush them together."""
        if lines:
            with open(self.path / "events.jsonl", "a", encoding="utf-8") as opened:
                opened.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))

    def _remedy(self) -> str:
        if (self.path / "recipe.toml").is_file():
            return f"the run did not finish: tunesmith fit --resume {self.path}"
        return "give the folder that a fit left"


def events_of(run: Run) -> list[dict[str, Any]]:
    """The whole lines of events.jsonl; none where nothing has happened yet."""
    path = run.path / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


STUDY = {"trials", "best", "search.json", "search.html", "leaderboard.json"}
"""What a search writes into the folder in which the Run of its winner will lie."""
FIRST = ("environment.json", "recipe.toml", "split.parquet", "ledger.json")
"""The files that are written before data.json, in this order."""


def is_run(path: Path) -> bool:
    """Whether `path` is a run folder."""
    return (path / "recipe.toml").is_file() and (path / "data.json").is_file()


def is_free(path: Path) -> bool:
    """Whether a run may begin at `path`: absent, empty, or with no more than a run left that was killed before its
    data.json was written."""
    if not path.exists():
        return True
    names = {entry.name for entry in path.iterdir()} if path.is_dir() else {""}
    names -= STUDY | {name for name in names for first in (*FIRST, "data.json") if fnmatch(name, f".{first}.*.tmp")}
    return not names or (FIRST[0] in names and names <= set(FIRST))


def open_run(path: Path | str, *, finished: bool = True) -> Run:
    """The Run at `path`; an error that says what it is instead, or how to finish it."""
    run = Run(Path(path))
    if not is_run(run.path):
        what, remedy = "is not a run folder", "give the folder that a fit left (it holds recipe.toml and data.json)"
        if not run.path.exists():
            what = "no such folder"
        elif (run.path / FIRST[0]).is_file() and is_free(run.path):
            what, remedy = "this run was stopped before it had begun", "give the command again that began it"
        raise TunesmithError(what, where=str(path), remedy=remedy)
    if finished and not run.finished:
        raise TunesmithError("this run did not finish", where=str(path), remedy=f"tunesmith fit --resume {path}")
    return run


def new_run(out: Path | str | None, name: str) -> Run:
    """A Run at `out`, which must be free (`is_free`), or at the first absent `runs/NAME-DATE-N`."""
    if out is None:
        day = time.strftime("%Y%m%d")
        number = 1
        while (path := Path("runs") / f"{name}-{day}-{number}").exists():
            number += 1
    else:
        path = Path(out)
        if not is_free(path):
            resume = f", or continue it: tunesmith fit --resume {path}" if is_run(path) else ""
            remedy = f"choose another --out{resume}"
            raise TunesmithError("the output folder is not empty", where=str(path), remedy=remedy)
    return Run(path)
