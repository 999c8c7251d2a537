"""The report's section on calibration: whether probabilities, sets and intervals hold what they promise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith.delivery.reporting.drawings import Lines, Series
from tunesmith.delivery.reporting.parts import Figure, Section, Table, count, number, plain
from tunesmith.delivery.reporting.reading import Reading
from tunesmith.evaluation.intervals import shown


def calibration(reading: Reading) -> Section | None:
    """What `calibration` of the scores holds, each part only where it is there."""
    words, known = reading.words, reading.judged.get("calibration") or {}
    notes = []
    if error := known.get("ece"):
        notes.append(words("calibration.ece", value=shown(error), binning=known.get("binning", "")))
    if "brier" in known:
        notes.append(words("calibration.brier", value=shown(known["brier"])))
    notes += [words(*told[:1], **told[1]) for told in (_temperature(known), _sets(known), _intervals(known)) if told]
    figures = [figure for figure in (_reliability(reading, known), _abstention(reading, known)) if figure]
    tables = [
        table for table in (_off_and_on(reading, known), _sizes(reading, known), _points(reading, known)) if table
    ]
    return Section("calibration", notes, figures, tables) if notes or figures or tables else None


Told = tuple[str, dict[str, Any]] | None
"""A key of the words, and what is filled in."""


def _temperature(known: Mapping[str, Any]) -> Told:
    found = known.get("temperature")
    if not found or (found["value"] is None and not found.get("rows")):
        return None
    key = "calibration.temperature" if found["applied"] else "calibration.no_temperature"
    return "calibration.few_rows" if found["value"] is None else key, {
        "value": number(found["value"]),
        "rows": count(found.get("rows")),
    }


def _sets(known: Mapping[str, Any]) -> Told:
    found = known.get("sets")
    if not found:
        return None
    values = {"asked": f"{found['coverage_asked']:.0%}", "coverage": shown(found["coverage"])}
    return "calibration.sets", values | {"size": f"{found['mean_size']:.2f}"}


def _intervals(known: Mapping[str, Any]) -> Told:
    found = known.get("intervals")
    if not found:
        return None
    values = {"asked": f"{found['coverage_asked']:.0%}", "coverage": shown(found["coverage"])}
    return "calibration.intervals", values | {"half": number(found["half_width"])}


def _reliability(reading: Reading, known: Mapping[str, Any]) -> Figure | None:
    bins = [one for one in known.get("bins") or [] if one["rows"]]
    if not bins:
        return None
    words, title = reading.words, reading.words("calibration.reliability")
    points = [(one["confidence"], one["accuracy"]) for one in bins]
    spread = [(one["accuracy_low"], one["accuracy_high"]) for one in bins]
    rows = [
        [
            f"{number(one['low'])} – {number(one['high'])}",
            count(one["rows"]),
            *(number(one[key]) for key in ("confidence", "accuracy", "accuracy_low", "accuracy_high")),
        ]
        for one in bins
    ]
    names = ("bin", "rows", "confidence", "accuracy", "low", "high")
    table = Table(title, [words(f"head.{name}") for name in names], rows)
    series = [Series(words("head.accuracy"), points, spread, marks=True)]
    drawing = Lines(
        series, words("head.confidence"), words("head.accuracy"), diagonal=words("calibration.perfect"), unit=True
    )
    return Figure("reliability", title, words("calibration.reliability_about"), drawing, table)


def _abstention(reading: Reading, known: Mapping[str, Any]) -> Figure | None:
    points = (known.get("abstention") or {}).get("points") or []
    if not points:
        return None
    words, title = reading.words, reading.words("calibration.abstention")
    rows = [[f"{one['coverage']:.0%}", number(one["accuracy"]), number(one.get("confidence"))] for one in points]
    table = Table(title, [words(f"head.{name}") for name in ("coverage", "accuracy", "least_confidence")], rows)
    line = Series(words("head.accuracy"), [(one["coverage"], one["accuracy"]) for one in points])
    drawing = Lines([line], words("head.coverage"), words("head.accuracy"))
    return Figure("abstention", title, words("calibration.abstention_about"), drawing, table)


def _off_and_on(reading: Reading, known: Mapping[str, Any]) -> Table | None:
    """What the temperature changes."""
    words, found = reading.words, known.get("temperature") or {}
    if not found.get("off") or not found.get("on"):
        return None
    rows = [
        [words.named("metric", name), number(plain(found["off"].get(name))), number(plain(found["on"].get(name)))]
        for name in found["off"]
    ]
    return Table(words("calibration.scaling"), [words(f"head.{name}") for name in ("metric", "off", "on")], rows)


def _sizes(reading: Reading, known: Mapping[str, Any]) -> Table | None:
    sizes = (known.get("sets") or {}).get("sizes")
    if not sizes:
        return None
    words, total = reading.words, sum(sizes.values())
    rows = [[str(size), count(rows), f"{rows / total:.0%}"] for size, rows in sizes.items()]
    return Table(words("calibration.sizes"), [words(f"head.{name}") for name in ("size", "rows", "share")], rows)


def _points(reading: Reading, known: Mapping[str, Any]) -> Table | None:
    points = known.get("operating_points")
    if not points:
        return None
    rows = [
        [str(one["label"]), str(one["asked"]), *(number(one.get(key)) for key in ("threshold", "precision", "recall"))]
        for one in points
    ]
    names = ("label", "asked", "threshold", "precision", "recall")
    return Table(reading.words("calibration.points"), [reading.words(f"head.{name}") for name in names], rows)
