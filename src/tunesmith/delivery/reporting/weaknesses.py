"""The report's sections on weaknesses: slices of the rows, over- and underfitting, and the most confident mistakes."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith.delivery.mistakes import FILE, FOLDER, MOST
from tunesmith.delivery.reporting.drawings import Intervals, Lines, Series
from tunesmith.delivery.reporting.parts import Figure, Section, Table, count, number, plain
from tunesmith.delivery.reporting.reading import Reading
from tunesmith.delivery.reporting.results import MOST_DRAWN, drawn, is_known
from tunesmith.delivery.verdict import FINDINGS
from tunesmith.evaluation.intervals import shown
from tunesmith.run import Run

MEDIA = {"picture": "image/png", "sound": "audio/wav"}
MOST_SLICES = 100


def slices(reading: Reading) -> Section | None:
    """Parts of the rows beside the rest of them, the worst first."""
    words, found = reading.words, reading.judged.get("slices") or []
    if not found:
        return None
    order = sorted(found, key=lambda one: (not one["worse"], plain(one["difference"]) or 0.0))[:MOST_SLICES]
    rows = [
        [
            str(one["slice"]),
            count(one["rows"]),
            words.named("metric", one["metric"]),
            shown(one["value_of"]),
            number(plain(one["rest"])),
            shown(one["difference"]),
            number(one.get("p_adjusted")),
            words("yes" if one["worse"] else "no"),
        ]
        for one in order
    ]
    names = ("slice", "rows", "metric", "value", "rest", "difference", "p_adjusted", "worse")
    table = Table(words("slices.table"), [words(f"head.{name}") for name in names], rows)
    drawable = [one for one in order if is_known(one["difference"])][:MOST_DRAWN]
    figures = []
    if drawable:
        lines = [drawn(str(one["slice"]), one["difference"], strong=bool(one["worse"])) for one in drawable]
        figures = [Figure("slices-drawn", words("slices.figure"), words("slices.about"), Intervals(lines, 0.0), table)]
    worse = sum(1 for one in found if one["worse"])
    note = words("slices.worse", count=worse, of=len(found)) if worse else words("slices.none", of=len(found))
    return Section("slices", [note], figures, [] if figures else [table])


def diagnosis(reading: Reading) -> Section | None:
    """Whether the model fits its training rows too well or too badly, and what would help."""
    words, found = reading.words, reading.json("diagnosis.json")
    if not found:
        return None
    notes = []
    if found.get("finding") in FINDINGS:
        notes.append(words(f"finding.{found['finding'].replace(' ', '_')}"))
    if words.language == "en" and found.get("sentence"):
        notes.append(found["sentence"])
    if opened := found.get("opened"):
        notes.append(words("diagnosis.opened", step=f"{opened['step']:,}"))
    metric = words.named("metric", found["metric"])
    parts = [("train", "train"), ("judged", found.get("judged_on", "valid")), ("gap", "gap")]
    rows = [[words.named("split", name), shown(found[key])] for key, name in parts if found.get(key)]
    tables = [Table(words("diagnosis.table"), [words("head.part"), metric], rows)] if rows else []
    figures = [figure for figure in (_gap(reading, found), _more_rows(reading, found, metric)) if figure]
    return Section("diagnosis", notes, figures, tables)


def _gap(reading: Reading, found: Mapping[str, Any]) -> Figure | None:
    """The training loss; the valid score, which has another unit, stands beside it in the table."""
    curve = [one for one in found.get("curve") or [] if one.get("train_loss") is not None]
    if not curve:
        return None
    words, title = reading.words, reading.words("diagnosis.curve")
    rows = [[count(one["step"]), number(one["train_loss"], 4), number(plain(one.get("valid")), 4)] for one in curve]
    table = Table(title, [words("head.step"), words("curves.loss"), words("split.valid")], rows)
    line = Series(words("curves.loss"), [(one["step"], one["train_loss"]) for one in curve], marks=True)
    borders = [found["opened"]["step"]] if found.get("opened") else []
    drawing = Lines([line], words("head.step"), words("curves.loss"), borders, whole=True)
    return Figure("gap", title, words("diagnosis.curve_about"), drawing, table)


def _more_rows(reading: Reading, found: Mapping[str, Any], metric: str) -> Figure | None:
    curve = [one for one in found.get("rows_curve") or [] if is_known(one)]
    if not curve:
        return None
    words, title = reading.words, reading.words("diagnosis.rows")
    rows = [[count(one["rows"]), *(number(one[key]) for key in ("value", "low", "high"))] for one in curve]
    table = Table(title, [words("head.rows"), *(words(f"head.{name}") for name in ("value", "low", "high"))], rows)
    points, spread = [(one["rows"], one["value"]) for one in curve], [(one["low"], one["high"]) for one in curve]
    drawing = Lines([Series(metric, points, spread, marks=True)], words("head.train_rows"), metric, whole=True)
    return Figure("more-rows", title, words("diagnosis.rows_about"), drawing, table)


def mistakes(reading: Reading) -> Section | None:
    """The rows that were decided wrongly with the highest confidence, with their content embedded."""
    kept = [row for home in reading.homes for row in _kept(home)]
    if reading.homes[0] != reading.run.path and not kept:
        kept = _kept(reading.run.path)
    if not kept:
        return None
    words, regression = reading.words, reading.task == "regression"
    worst = sorted(kept, key=lambda row: -row["confidence"])[:MOST]
    for row in worst:
        row["measure"] = words("head.error" if regression else "head.confidence")
        row["confidence"] = number(row["confidence"]) if regression else f"{row['confidence']:.1%}"
        for name in ("target", "prediction"):
            row[name] = _said(row[name], words("mistakes.no_label"))
    about = words("mistakes.about_regression" if regression else "mistakes.about", count=len(worst))
    return Section("mistakes", [about], rows=worst, title="errors" if regression else "")


def _said(value: Any, nothing: str) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or nothing
    return number(value) if isinstance(value, float) else str(value)


def _kept(home: Path) -> list[dict[str, Any]]:
    """What a run kept of its mistakes, with pictures and sounds as data: URIs; of a file that is gone nothing."""
    if not (home / FOLDER / FILE).is_file():
        return []
    rows: list[dict[str, Any]] = Run(home / FOLDER).read(FILE)["rows"]
    for row in rows:
        for kind, medium in MEDIA.items():
            path = home / FOLDER / str(row.pop(kind, ""))
            if path.is_file():
                row[kind] = f"data:{medium};base64,{base64.b64encode(path.read_bytes()).decode()}"
    return rows
