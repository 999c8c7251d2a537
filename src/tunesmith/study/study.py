"""A search on disk: the budget and what is used of it, the records of its trials, and who may end it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith.duration import seconds_of
from tunesmith.errors import DataError, TunesmithError
from tunesmith.files import write_json
from tunesmith.recipe import file as recipe_file
from tunesmith.recipe.schema import Recipe
from tunesmith.run import new_run
from tunesmith.study.record import Records

NOTE_SECONDS = 2.0
"""What is used of the budget is written down at most so often."""


@dataclass
class Study:
    """The folder of a search; the process that leads it keeps its clock."""

    path: Path
    recipe: Recipe
    """As it was asked for, with whole paths."""
    began: float
    """The moment (`time.time()`) at which this session of it began."""
    used_before: float = 0.0
    """Seconds of earlier sessions."""
    leads: bool = True
    """Whether this process keeps the clock; one that joined reads it."""
    records: Records = field(init=False)
    _noted: float = 0.0

    def __post_init__(self) -> None:
        self.records = Records(self.trials)

    @property
    def trials(self) -> Path:
        return self.path / "trials"

    @property
    def budget(self) -> float:
        """Seconds."""
        return seconds_of(self.recipe.search.budget)

    @property
    def used(self) -> float:
        """Seconds of all sessions so far."""
        return self.used_before + time.time() - self.began

    @property
    def deadline(self) -> float:
        """The moment at which all must be done."""
        return self.began + self.budget - self.used_before

    def begin_session(self) -> None:
        """Write down from when on this session counts, for those who join."""
        self.note(began=self.began, used_before=self.used_before, state="searching")

    def note(self, **fields: Any) -> None:
        """Write down the time used, now and then, and whatever else is given, at once."""
        if not self.leads or (not fields and time.time() - self._noted < NOTE_SECONDS):
            return
        self._noted = time.time()
        path = self.path / "search.json"
        known = _noted(self.path) if path.is_file() else {}
        write_json(path, known | {"used": round(self.used, 2)} | fields)

    @property
    def measured(self) -> dict[str, Any] | None:
        """What the process that leads measured for all, once it has."""
        return _noted(self.path).get("measured")

    def settle(self, rows: str, measured: Mapping[str, Any]) -> None:
        """Write down which rows these are, and what was measured on them; DataError where the search began with
        others."""
        known = _noted(self.path).get("rows")
        if known not in (None, rows):
            what = "cannot continue: there are other rows than when the search began"
            raise DataError(what, where=str(self.path))
        self.note(rows=rows, measured=measured)

    @property
    def searching(self) -> bool:
        """Whether trials are still wanted, as the process that leads wrote it."""
        return bool(_noted(self.path)["state"] == "searching")


def begin(recipe: Recipe, out: Path | str | None, name: str, began: float) -> Study:
    """Make the folder of a new search, called after `name` if no place is given; TunesmithError where something lies
    there already."""
    path = Path(out) if out is not None else None
    if path is not None and (path / "search.json").is_file():
        remedy = f"choose another --out, or continue it: tunesmith search --resume {path}"
        raise TunesmithError("there is a search in the output folder", where=str(path), remedy=remedy)
    path = new_run(path, f"{name}-search").path
    path.mkdir(parents=True, exist_ok=True)
    study = Study(path, recipe, began)
    study.note(recipe=recipe.model_dump(mode="json", exclude_unset=True))
    study.begin_session()
    return study


def reopen(path: Path | str, began: float) -> Study:
    """The search that was begun in a folder; TunesmithError where there is none, or none that can be read."""
    noted = _noted(Path(path))
    if noted["state"] == "done":
        raise TunesmithError("this search is complete", where=str(path), remedy="its Run lies in the same folder")
    study = Study(Path(path), recipe_file.build(noted["recipe"]), began, used_before=float(noted["used"]))
    study.begin_session()
    return study


def follow(path: Path | str) -> Study:
    """The search that another process leads; TunesmithError where it wants no more trials."""
    noted = _noted(Path(path))
    if noted["state"] != "searching":
        raise TunesmithError("this search wants no more trials", where=str(path))
    recipe = recipe_file.build(noted["recipe"])
    return Study(Path(path), recipe, noted["began"], used_before=noted["used_before"], leads=False)


def _noted(path: Path) -> dict[str, Any]:
    """What search.json says."""
    place = path / "search.json"
    try:
        return dict(json.loads(place.read_text(encoding="utf-8")))
    except FileNotFoundError:
        remedy = "give the folder that a search began in (it holds search.json)"
        raise TunesmithError("this is no search", where=str(path), remedy=remedy) from None
    except json.JSONDecodeError as error:
        raise TunesmithError(f"it is damaged: {error}", where=str(place)) from None
