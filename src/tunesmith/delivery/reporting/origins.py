"""The report's sections on where a Run comes from: its rows and what became of them, and what it forgot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith.delivery.reporting.drawings import Lines, Series
from tunesmith.delivery.reporting.parts import Figure, Section, Table, count, number, plain
from tunesmith.delivery.reporting.reading import Reading
from tunesmith.evaluation.intervals import shown

CHECKED = ("duplicates", "conflicts", "leaks")
"""Steps whose findings are told even where nothing was found."""


def data(reading: Reading) -> Section | None:
    """The ledger: rows read and used, what was left out and why, tokens, duplicates and leaks."""
    words, ledger, known = reading.words, reading.json("ledger.json"), reading.data
    if not ledger:
        return None
    sources = ", ".join(f"{one['name']} ({count(one['rows'])})" for one in known.get("source", []))
    inputs, target = ", ".join(known.get("inputs", [])), ", ".join(known.get("target", []))
    how = known.get("split", {}).get("how", "")
    notes = [words("data.source", sources=sources, inputs=inputs, target=target, how=words.named("how", how))]
    notes += [_found(reading, step, ledger["found"][step]) for step in CHECKED if step in ledger.get("found", {})]
    dropped = sum(entry["rows"] for entry in ledger["entries"] if entry["action"] == "dropped")
    parts = [[words("data.read"), count(sum(ledger["read"].values()))], [words("data.dropped"), count(dropped)]]
    parts += [[words.named("split", part), count(rows)] for part, rows in ledger["used"].items()]
    tables = [Table(words("data.rows"), [words("head.part"), words("head.rows")], parts)]
    if ledger["entries"]:
        tables.append(_entries(reading, ledger["entries"]))
    if ledger.get("tokens"):
        rows = [
            [words.named("split", part), count(one["read"]), count(one["used"]), count(one["read"] - one["used"])]
            for part, one in ledger["tokens"].items()
        ]
        names = ("part", "read", "used", "cut")
        tables.append(Table(words("data.tokens"), [words(f"head.{name}") for name in names], rows))
    return Section("data", notes, tables=tables)


def _found(reading: Reading, step: str, rows: int) -> str:
    return reading.words(f"data.{step}" if rows else f"data.no_{step}", rows=f"{rows:,}")


def _entries(reading: Reading, entries: list[dict[str, Any]]) -> Table:
    """What was done, row by row of the ledger; its reasons are the run's own words."""
    words = reading.words
    rows = [
        [
            words.named("split", entry.get("part", "")) or words("data.all"),
            words.named("action", entry["action"]) + (f" → {entry['to']}" if entry.get("to") else ""),
            count(entry["rows"]),
            entry["why"],
            ", ".join(entry.get("where", [])),
        ]
        for entry in entries
    ]
    return Table(
        words("data.entries"), [words(f"head.{name}") for name in ("part", "action", "rows", "why", "where")], rows
    )


def forgetting(reading: Reading) -> Section | None:
    """What the tuned model still is of the pretrained one: its stages, its old task, its language."""
    words, drift = reading.words, reading.json("drift.json")
    notes, figures, tables = [], [], []
    if source := drift.get("source"):
        values = {key: shown(source[key]) for key in ("before", "after", "difference")}
        metric = words.named("metric", source["metric"])
        notes.append(words("forgetting.source", metric=metric, rows=count(source.get("rows")), **values))
    if language := drift.get("language"):
        before, after = number(plain(language["before"])), number(plain(language["after"]))
        notes.append(
            words("forgetting.language", unit=words.named("unit", language["unit"]), before=before, after=after)
        )
    if stages := drift.get("stages"):
        figure, table = _stages(reading, stages)
        figures += [figure] if figure else []
        tables += [] if figure else [table]
    if blend := drift.get("blend"):
        figures.append(_blend(reading, blend))
    if (kept := drift.get("kept")) and kept.get("share") is not None:
        notes.append(words("forgetting.chosen", share=f"{kept['share']:.0%}", asked=f"{kept['asked']:.0%}"))
    return Section("forgetting", notes, figures, tables) if notes or figures or tables else None


def _stages(reading: Reading, stages: list[dict[str, Any]]) -> tuple[Figure | None, Table]:
    words, title = reading.words, reading.words("forgetting.stages")
    rows = [
        [
            one["stage"],
            number(plain(one.get("cka"))),
            number(plain(one.get("distance")), 4),
            words("yes" if one["moves"] else "no"),
        ]
        for one in stages
    ]
    table = Table(title, [words(f"head.{name}") for name in ("stage", "cka", "distance", "moves")], rows)
    known = [(place, plain(one.get("cka"))) for place, one in enumerate(stages, 1)]
    points = [(place, value) for place, value in known if value is not None]
    if not points:
        return None, table
    drawing = Lines([Series("CKA", points, marks=True)], words("head.depth"), "CKA", whole=True)
    return Figure("drift", title, words("forgetting.stages_about"), drawing, table), table


def _blend(reading: Reading, blend: list[Mapping[str, Any]]) -> Figure:
    """Both tasks along the way from the pretrained to the tuned weights."""
    words, title = reading.words, reading.words("forgetting.blend")
    rows = [[f"{one['share']:.0%}", shown(one["new"]), shown(one["old"])] for one in blend]
    table = Table(title, [words(f"head.{name}") for name in ("share", "new_task", "old_task")], rows)
    series = [
        Series(words(f"head.{key}_task"), [(one["share"], one[key]["value"]) for one in blend], marks=True)
        for key in ("new", "old")
        if all(one[key]["value"] is not None for one in blend)
    ]
    drawing = Lines(series, words("head.share"), words("head.value"))
    return Figure("blend", title, words("forgetting.blend_about"), drawing, table)
