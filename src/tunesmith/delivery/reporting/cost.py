"""The report's sections on what a Run cost, in time and memory, and on how it is made again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from tunesmith.delivery.reporting.parts import Section, Table, count
from tunesmith.delivery.reporting.reading import Reading
from tunesmith.delivery.words import duration
from tunesmith.files import size

KINDS = ("prepare", "cache", "step", "evaluate", "baseline", "score")
"""Events whose seconds are counted; those of `baseline` are a part of those of `score`."""


def cost(reading: Reading) -> Section | None:
    """Seconds of each kind of work, memory, and what the cache saved."""
    words = reading.words
    spent = {kind: [event["seconds"] for event in reading.of(kind)] for kind in KINDS}
    rows = [
        [words(f"cost.{kind}"), count(len(seconds)), duration(sum(seconds))]
        for kind, seconds in spent.items()
        if seconds
    ]
    if not rows:
        return None
    whole = sum(sum(seconds) for kind, seconds in spent.items() if kind != "baseline")
    notes = [words("cost.whole", time=duration(whole))]
    if memory := (reading.of("memory") or [{}])[-1]:
        notes.append(words("cost.memory", process=size(memory["process"])))
        notes += [words("cost.device", device=size(memory["device"]))] if "device" in memory else []
    notes += [_saved(reading, event) for event in reading.of("cache")]
    tables = [Table(words("cost.table"), [words(f"head.{name}") for name in ("work", "times", "time")], rows)]
    return Section("cost", notes, tables=tables)


def _saved(reading: Reading, event: Mapping[str, Any]) -> str:
    """Rows that went through the frozen stages once and not in every pass; the time where their price was measured."""
    read = sum(step["rows"] for step in reading.steps if step["phase"] == event["phase"])
    values = {
        "phase": event["phase"],
        "stages": event["stages"],
        "read": count(read),
        "computed": count(event["computed"]),
    }
    told = [reading.words("cache.read", **values, found=count(event["found"]))]
    if event["computed"] and (spared := read - event["computed"]) > 0:
        time = duration(event["seconds"] / event["computed"] * spared)
        told.append(reading.words("cache.saved", time=time))
    return reading.words.sentences(told)


def reproduce(reading: Reading) -> Section | None:
    """The line that makes the run again, and all that its figures depend on."""
    words, recipe, known = reading.words, reading.recipe, reading.json("environment.json")
    again = shlex.quote(str(reading.run.path / "recipe.toml"))
    places = (recipe.data.source, recipe.data.valid, recipe.data.test, recipe.model.name)
    memory = any(place is not None and place.startswith("memory:") for place in places)
    rows = [
        (words("reproduce.data"), recipe.data.source),
        (words("reproduce.rows"), reading.data.get("rows")),
        (words("reproduce.model"), recipe.model.name),
        (words("reproduce.weights"), reading.data.get("model")),
        (words("reproduce.seed"), recipe.seed),
        (words("reproduce.command"), shlex.join(known.get("command", []))),
        (words("reproduce.commit"), known.get("commit")),
        ("Python", known.get("python")),
        *known.get("packages", {}).items(),
        *((words(f"reproduce.{name}"), known.get(name)) for name in ("platform", "device", "cores", "threads")),
        *((words(f"reproduce.{name}"), known.get(name)) for name in ("precision", "ranks")),
    ]
    shown = [[str(name), str(value)] for name, value in rows if value not in (None, "")]
    table = Table(words("reproduce.table"), [words("head.what"), words("head.is")], shown)
    head = reading.run.measured.get("head", {})
    exact = known.get("device") == "cpu" or recipe.train.deterministic
    notes = [words("reproduce.memory" if memory else "reproduce.exact" if exact else "reproduce.near")]
    if head:
        notes.append(words("reproduce.head", head=head["name"]))
    return Section("reproduce", notes, tables=[table], code="" if memory else f"tunesmith fit {again} --out again")
