"""A Run as the report reads it: each of its files once, and nothing where a file or a key is absent."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tunesmith.delivery.card import num_folds
from tunesmith.delivery.verdict import Facts
from tunesmith.delivery.words import Words
from tunesmith.recipe.schema import Recipe
from tunesmith.run import Run


@dataclass(frozen=True)
class Reading:
    """The files of a finished Run, and the words of the report's language."""

    run: Run
    words: Words

    def json(self, name: str) -> Any:
        """One of the JSON files; an empty mapping where it is absent."""
        return self.run.read(name) if (self.run.path / name).is_file() else {}

    @functools.cached_property
    def recipe(self) -> Recipe:
        return self.run.recipe

    @functools.cached_property
    def data(self) -> Mapping[str, Any]:
        return dict(self.json("data.json"))

    @functools.cached_property
    def target(self) -> Mapping[str, Any]:
        """What was learnt of the target: its labels ..."""
        return dict(self.run.measured["target"])

    @functools.cached_property
    def task(self) -> str:
        return "" if self.recipe.task == "auto" else self.recipe.task.name

    @property
    def metric(self) -> str:
        """The deciding metric."""
        return self.recipe.evaluate.select.removeprefix("memory:")

    @functools.cached_property
    def facts(self) -> Facts:
        """What the verdict is made from."""
        scores, rows = self.json("scores.json"), self.predictions
        seconds = [event["seconds"] for event in self.steps]
        return Facts(
            scores,
            self.metric,
            0 if rows is None else rows.num_rows,
            sum(seconds) if seconds else None,
            self.json("diagnosis.json") or None,
            self.json("drift.json") or None,
            {event["name"]: event["seconds"] for event in self.of("baseline")},
        )

    @property
    def judged(self) -> Mapping[str, Any]:
        """The scores of the part that judges."""
        return self.facts.judged

    @functools.cached_property
    def homes(self) -> list[Path]:
        """The folders that hold the judged rows: those of the folds, where the folds judged."""
        folds = num_folds(self.json("scores.json"))
        return [self.run.folds / str(number) for number in range(1, folds + 1)] if folds else [self.run.path]

    @functools.cached_property
    def predictions(self) -> pa.Table | None:
        """id, target, prediction, probabilities of the rows that judge."""
        split = "test" if "test" in self.json("scores.json") else "valid"
        paths = [home / "predictions" / f"{split}.parquet" for home in self.homes]
        found = [pq.read_table(path) for path in paths if path.is_file()]
        return pa.concat_tables(found, promote_options="permissive") if found else None

    @functools.cached_property
    def events(self) -> list[dict[str, Any]]:
        """The whole lines of events.jsonl; of a run that began again, only the last attempt's steps."""
        path, found = self.run.path / "events.jsonl", list[dict[str, Any]]()
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            try:
                event = json.loads(line)
            except json.JSONDecodeError:
                continue  # Killed in the middle of a line.
            if event["event"] == "restart":
                found = [earlier for earlier in found if earlier["event"] not in ("step", "evaluate")]
            found.append(event)
        return found

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The events of one kind."""
        return [event for event in self.events if event["event"] == kind]

    @property
    def steps(self) -> list[dict[str, Any]]:
        return self.of("step")
