"""Tracking: the lines of events.jsonl given to the trackers of a recipe as they come, whatever a tracker does."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tunesmith import plugins
from tunesmith.errors import TunesmithError
from tunesmith.recipe.schema import Choice, Part
from tunesmith.run import Run
from tunesmith.training.trackers import Tracked, Tracker

KEPT_FILE = "trackers.json"
SCORED_AS = {"test": "test", "valid": "valid_final"}
"""Split -> the first part of the names of its scores at the end; `valid/` is the curve of the training."""


class Trackers:
    """The trackers of a run. They are fed from events.jsonl alone, from its first line on: what one of them lost with a
    process that was killed is given again by the resume."""

    def __init__(self, run: Run, observers: Sequence[Choice], tell: Callable[[str], None]) -> None:
        """Open them; TunesmithError where the package of one is not installed."""
        self.run, self.tell = run, tell
        self.attempt, self.last, self.bytes_read = 1, 0, 0
        self.phases: dict[str, int] = {}
        self.trackers: dict[str, tuple[Choice, Tracker]] = {}
        self._open(observers)

    def follow(self) -> None:
        """Give on the lines that are new."""
        path = self.run.path / "events.jsonl"
        if not self.trackers or not path.exists() or path.stat().st_size <= self.bytes_read:
            return
        with open(path, "rb") as file:
            file.seek(self.bytes_read)
            lines = [line for line in file.read().splitlines(keepends=True) if line.endswith(b"\n")]
        self.bytes_read += sum(map(len, lines))
        points: dict[int, dict[str, float]] = {}
        for event in map(json.loads, lines):
            if event["event"] == "restart":
                self._log(points)
                self._begin_again()
                points = {}
            elif values := self._values(event):
                points.setdefault(event["step"], {}).update(values)
        self._log(points)

    def finish(self) -> None:
        """The run has its scores: give them on, and close."""
        if self.trackers:
            self._close(dict(_final(self.run.scores)))

    def close(self) -> None:
        """Close what is open; nothing is after `finish`."""
        self._close(None)

    def _open(self, observers: Sequence[Choice]) -> None:
        """Open trackers of this attempt, and keep what they must know again."""
        if not observers:
            return
        stored = self.run.read(KEPT_FILE) if (self.run.path / KEPT_FILE).is_file() else {}
        again = f" attempt {self.attempt}" if self.attempt > 1 else ""
        for choice in observers:
            kept = stored.setdefault(choice.name, {}).setdefault(str(self.attempt), {})
            name = kept.setdefault("name", self.run.path.resolve().name + again)
            tracked = Tracked(self.run.path, name, self.attempt, dict(_flat(self.run.recipe)), kept)
            with self._guarded(choice.name, opening=True):
                self.trackers[choice.name] = choice, plugins.get("observer", choice.name)(tracked, **choice.options)
        self.run.write(KEPT_FILE, stored)

    def _begin_again(self) -> None:
        """The attempt collapsed: the steps of the next begin at 1 again, in trackers of their own."""
        going_on = [choice for choice, _ in self.trackers.values()]
        self._shut(None)
        self.attempt, self.last = self.attempt + 1, 0
        self._open(going_on)

    def _values(self, event: Mapping[str, Any]) -> dict[str, float]:
        """The figures of a line; none of a line about other things."""
        known: dict[str, Any] = {}
        if event["event"] == "evaluate":
            known = {f"valid/{event['metric'].removeprefix('memory:')}": event["value"]}
        elif event["event"] == "step":
            phase = self.phases.setdefault(event["phase"], len(self.phases) + 1)
            speed = event["rows"] / max(event["seconds"], 1e-9)
            known = {"loss": event["loss"], "rate": event["rate"], "rows_per_second": speed, "phase": phase}
            known = {f"train/{name}": value for name, value in known.items()}
        return {name: float(value) for name, value in known.items() if value is not None}

    def _log(self, points: Mapping[int, Mapping[str, float]]) -> None:
        self.last = max(points, default=self.last)
        for name, (_, tracker) in [*self.trackers.items()] if points else ():
            with self._guarded(name):
                tracker.log([*points.items()])

    def _close(self, scores: Mapping[str, float] | None) -> None:
        self.follow()
        self._shut(scores)

    def _shut(self, scores: Mapping[str, float] | None) -> None:
        trackers, self.trackers = self.trackers, {}
        for name, (_, tracker) in trackers.items():
            with self._guarded(name):
                tracker.close(self.last, scores)

    @contextlib.contextmanager
    def _guarded(self, name: str, *, opening: bool = False) -> Iterator[None]:
        """A tracker that fails is told of once and not asked again; its warnings, and what it prints, are its own.
        What a person can mend before the training begins, a package that is missing, is an error."""
        try:
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                yield
        except Exception as error:
            if opening and isinstance(error, TunesmithError):
                self._shut(None)
                raise
            self.trackers.pop(name, None)
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            self.tell(f"the observer {name} failed and is left out from here on; events.jsonl has it all: {reason}")


def _flat(part: Part, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """What of the recipe has a value: dotted field -> value; a choice's name, then its options."""
    for name, value in part:
        field = prefix + name
        if isinstance(value, Choice):
            yield field, value.name
            yield from ((f"{field}.{option}", _plain(given)) for option, given in value.options.items())
        elif isinstance(value, Part):
            yield from _flat(value, f"{field}.")
        elif value not in (None, (), {}):
            yield field, _plain(value)


def _plain(value: Any) -> bool | int | float | str:
    """A value as every tracker takes it."""
    return value if isinstance(value, bool | int | float | str) else str(value)


def _final(scores: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The scores of the finished run, each with the ends of its interval."""
    for split, prefix in SCORED_AS.items():
        for metric, interval in scores.get(split, {}).items():
            for end in ("value", "low", "high"):
                if isinstance(interval, dict) and isinstance(interval.get(end), float | int):
                    yield f"{prefix}/{metric}" + f"_{end}" * (end != "value"), float(interval[end])
