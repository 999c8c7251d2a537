"""The report's sections on the training: loss, score and rates along the steps, and which stage moved when."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith.delivery.reporting.drawings import Lines, Move, Series, Stages
from tunesmith.delivery.reporting.parts import Figure, Section, Table, count, number
from tunesmith.delivery.reporting.reading import Reading
from tunesmith.evaluation.intervals import rising

MOST_POINTS = 100
"""Of a line: more are joined to their means, so that the table can be read."""
MOST_STAGES = 16
"""More stages are joined with their neighbours that move alike."""
MOST_RATES = 6
Point = tuple[float, float]


def thinned(points: Sequence[Point], *, mean: bool = True) -> list[Point]:
    """At most `MOST_POINTS` points, each at the last place of so many neighbours: their mean, or the last of them.

    >>> thinned([(1, 4.0), (2, 2.0)])
    [(1, 4.0), (2, 2.0)]
    >>> len(thinned([(step, 1.0) for step in range(999)]))
    100
    """
    if len(points) <= MOST_POINTS:
        return list(points)
    cuts = [round(place * len(points) / MOST_POINTS) for place in range(MOST_POINTS + 1)]
    found = []
    for start, end in itertools.pairwise(cuts):
        some = points[start:end]
        found.append((some[-1][0], math.fsum(y for _, y in some) / len(some) if mean else some[-1][1]))
    return found


def curves(reading: Reading) -> Section | None:
    """Loss and rate of each step, and the scores of the valid rows."""
    steps, words = reading.steps, reading.words
    if not steps:
        return None
    figures = [
        figure for figure in (_loss(reading, steps), _score(reading), _rates(reading, steps)) if figure is not None
    ]
    return Section("curves", [words("curves.note")] if len(steps) > MOST_POINTS else [], figures)


def _borders(reading: Reading) -> list[float]:
    """The last step of each phase but the last."""
    phases: dict[str, float] = {}
    for event in reading.steps:
        phases[event["phase"]] = event["step"]
    return list(phases.values())[:-1]


def _line(reading: Reading, name: str, series: Sequence[Series], ordinate: str) -> Figure:
    """A figure of lines over the steps, with the table of their points."""
    words, title = reading.words, reading.words(f"curves.{name}")
    steps = sorted({x for one in series for x, _ in one.points})
    known = [dict(one.points) for one in series]
    rows = [[count(int(step)), *(number(values.get(step), 4) for values in known)] for step in steps]
    names = [one.name for one in series] if len(series) > 1 else [ordinate]
    table = Table(title, [words("head.step"), *names], rows)
    drawing = Lines(series, words("head.step"), ordinate, _borders(reading), whole=True)
    return Figure(name, title, words(f"curves.{name}_about"), drawing, table)


def _loss(reading: Reading, steps: Sequence[Mapping[str, Any]]) -> Figure | None:
    points = thinned([(event["step"], event["loss"]) for event in steps if event["loss"] is not None])
    ordinate = reading.words("curves.loss")
    return _line(reading, "loss", [Series(ordinate, points)], ordinate) if points else None


def _score(reading: Reading) -> Figure | None:
    scored = [(event["step"], event["value"]) for event in reading.of("evaluate") if event["value"] is not None]
    if not scored:
        return None
    metric = reading.words.named("metric", reading.metric)
    best = max(scored, key=lambda point: (point[1] if rising(reading.metric) else -point[1], -point[0]))
    name = reading.words("curves.best", step=f"{best[0]:,}", value=number(best[1]))
    lines = [Series(metric, thinned(scored), marks=len(scored) <= 30), Series(name, [best], marks=True)]
    return _line(reading, "score", lines, metric)


def _rates(reading: Reading, steps: Sequence[Mapping[str, Any]]) -> Figure | None:
    """The rate of each group of stages that move alike; of many groups some, from the lowest to the head."""
    groups = _alike(reading.json("plan.json"))
    if not groups:
        points = thinned([(event["step"], event["rate"]) for event in steps], mean=False)
        return _line(reading, "rate", [Series(reading.words("curves.rate"), points)], reading.words("curves.rate"))
    trained = {event["phase"] for event in steps}
    moving = [(names, rates) for names, rates in groups if any(rates.get(phase) for phase in trained)]
    if len(moving) > MOST_RATES:
        moving = [moving[round(place * (len(moving) - 1) / (MOST_RATES - 1))] for place in range(MOST_RATES)]
    series = []
    for names, rates in moving:
        points = [(event["step"], event["rate"] * (rates.get(event["phase"]) or 0.0)) for event in steps]
        series.append(Series(names, thinned(points, mean=False)))
    return _line(reading, "rate", series, reading.words("curves.rate")) if series else None


def _alike(plan: Mapping[str, Any]) -> list[tuple[str, dict[str, float | None]]]:
    """Neighbouring stages that move alike in all phases, joined: their names, and phase -> multiple of its rate."""
    if not plan:
        return []
    found: list[tuple[list[str], dict[str, float | None]]] = []
    for name in plan["phases"][0]["stages"]:
        rates = {phase["name"]: phase["stages"][name]["rate"] for phase in plan["phases"]}
        if found and found[-1][1] == rates:
            found[-1][0].append(name)
        else:
            found.append(([name], rates))
    return [(names[0] if len(names) == 1 else f"{names[0]} – {names[-1]}", rates) for names, rates in found]


def plan(reading: Reading) -> Section | None:
    """Stages from top to bottom, steps from left to right: what moves when, and how fast."""
    words, told, steps = reading.words, reading.json("plan.json"), reading.steps
    if not told:
        return None
    stages = told["phases"][0]["stages"]
    each = [(name, {phase["name"]: phase["stages"][name]["rate"] for phase in told["phases"]}) for name in stages]
    groups = (each if len(each) <= MOST_STAGES else _alike(told))[::-1]
    last = steps[-1]["step"] if steps else told["steps"]
    peaks: dict[str, float] = {}
    for event in steps:
        peaks[event["phase"]] = max(peaks.get(event["phase"], 0.0), event["rate"])
    rates = [peak * rate for _, moves in groups for phase, rate in moves.items() if rate and (peak := peaks.get(phase))]
    moves = []
    for row, (_, multiples) in enumerate(groups):
        for phase in told["phases"]:
            start, end, multiple = phase["start"], min(phase["end"], last), multiples[phase["name"]]
            if multiple and phase["name"] in peaks and end > start:
                rate = multiple * peaks[phase["name"]]
                moves.append(Move(row, start, end, f"{rate:.2g}", _strength(rate, rates)))
    names = [name for name, _ in groups]
    drawing = Stages(names, moves, told["steps"], words("head.step"), [phase["end"] for phase in told["phases"]][:-1])
    title = words("plan.figure", strategy=told["strategy"]["name"])
    figure = Figure("stages", title, words("plan.about"), drawing, _plan_table(reading, title, told, peaks))
    notes = [words("plan.note")]
    if last < told["steps"]:
        notes.append(words("plan.stopped", last=f"{last:,}", steps=f"{told['steps']:,}"))
    return Section("plan", notes, [figure])


def _strength(rate: float, rates: Sequence[float]) -> float:
    """0 for the lowest rate, 1 for the highest, by the logarithm."""
    low, high = min(rates), max(rates)
    return 1.0 if high <= low else math.log(rate / low) / math.log(high / low)


def _plan_table(reading: Reading, title: str, told: Mapping[str, Any], peaks: Mapping[str, float]) -> Table:
    words, phases = reading.words, told["phases"]
    rows = []
    for name, stage in reversed(phases[0]["stages"].items()):
        cells = []
        for phase in phases:
            multiple = phase["stages"][name]["rate"]
            peak = peaks.get(phase["name"])
            rate = words("plan.frozen") if not multiple else f"× {multiple:.3g}" if peak is None else ""
            cells.append(rate or f"{multiple * peak:.2g}")
        rows.append([name, count(stage["parameters"]), *cells])
    steps = []
    for phase in phases:
        when = words("plan.steps", start=f"{phase['start'] + 1:,}", end=f"{phase['end']:,}")
        steps.append(f"{phase['name']} ({when})")
    return Table(title, [words("head.stage"), words("head.parameters"), *steps], rows)
