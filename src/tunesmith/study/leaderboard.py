"""What the records of a search say: who leads, what else is worth having, and what became of the rest."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tunesmith.delivery.drawing import fitting
from tunesmith.delivery.outcome import COSTS, Arm, Ended, Interval, Outcome, Tried, inside, spent, told
from tunesmith.delivery.words import Words, duration
from tunesmith.evaluation.intervals import shown
from tunesmith.study.record import Record

CHEAPER = 0.8
"""Of the winner's cost: what costs more saves too little, and may be noise of the clock."""
SHOWN = 10
"""Settings and reasons that the command line shows."""
ROLES = ("finalist", "trial", "refit")
STATES = ("done", "pruned", "stopped", "failed", "running", "waiting")
FIGURES = re.compile(r"\d+(?:[.,:]\d+)*(?:e[-+]?\d+)?")


def entries(records: Sequence[Record], rising: bool, winner: int | None = None) -> list[dict[str, Any]]:
    """The lines of leaderboard.json, one a training: those of the winner first, then as `tried` ranks the settings.
    A score that is not known, or no number, is null."""
    places = {_key(one): place for place, one in enumerate(tried(records, rising, winner))}

    def place(record: Record) -> tuple[int, int, int]:
        return places.get(_key(record), len(places)), ROLES.index(record.role), record.number

    return [
        {
            "number": record.number,
            "strategy": record.arm,
            "role": record.role,
            "state": record.state,
            **dict(zip(("score", "low", "high"), _scored(record, rising).values(), strict=True)),
            "seconds": record.seconds,
            "predicted": record.predicted,
            "settings": record.settings,
            "why": record.why,
            "parameters": record.cost.get("parameters"),
            "bytes": record.cost.get("bytes"),
            "row_seconds": record.cost.get("row_seconds"),
        }
        for record in sorted(records, key=place)
    ]


def tried(records: Sequence[Record], rising: bool, winner: int | None = None) -> list[Tried]:
    """Each setting once, the best first: the one of the record `winner`, then those that were scored again on rows that
    did not choose them, then the others, each by its score. The best of many trials owes part of its score to chance
    (the winner's curse), so a score from the rows that chose never stands above one from rows that did not."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(_key(record), []).append(record)
    found = [_tried(group, rising) for group in groups.values() if any(one.role != "refit" for one in group)]
    own = next((_key(record) for record in records if record.number == winner), None)

    def place(one: Tried) -> tuple[bool, bool, bool, float, int]:
        value = one.score["value"]
        return _key(one) != own, not one.again, value is None, _worse(value, rising), one.number

    return sorted(found, key=place)


def outcome(
    records: Sequence[Record],
    *,
    name: str,
    model: str,
    metric: str,
    rising: bool,
    seconds: float,
    began: float | None = None,
    winner: int | None = None,
    importance: Mapping[str, float] | None = None,
    **more: Any,
) -> Outcome:
    """All that is told of a search that took `seconds`, `began` at that Unix time and chose the record `winner`;
    `more` are the other fields of Outcome that no record holds: budget, test, earlier, recipe, command."""
    ranked = tried(records, rising, winner)
    first = ranked[0] if ranked and ranked[0].score["value"] is not None else None
    trials = [record for record in records if record.role == "trial"]
    fronts = {cost: front(ranked, cost, rising) for cost in COSTS} if first else {}
    return Outcome(
        name=name,
        model=model,
        metric=metric,
        rising=rising,
        tried=ranked,
        states=_states(trials),
        seconds=seconds,
        arms=_arms(trials, ranked),
        ended=_ended(trials),
        curve=_curve(trials, rising, began),
        fronts={cost: points for cost, points in fronts.items() if _spread(ranked, cost)},
        worth=worth(ranked, rising) if first else {},
        importance=dict(importance or {}),
        error=cost_error(records),
        refit=any(record.role == "refit" and record.state == "done" for record in records),
        **more,
    )


def front(ranked: Iterable[Tried], cost: str, rising: bool) -> list[Tried]:
    """The settings to which no other is both cheaper and at least as good, from the cheapest to the best, by the scores
    of their trials: those all have the same rows. A pruned trial has no model that could be had."""
    known = [one for one in ranked if _usable(one) and cost in one.costs]
    found: list[Tried] = []
    for one in sorted(known, key=lambda one: (one.costs[cost], _worse(one.first["value"], rising), one.number)):
        if not found or _worse(one.first["value"], rising) < _worse(found[-1].first["value"], rising):
            found.append(one)
    return found


def worth(ranked: Sequence[Tried], rising: bool) -> dict[str, Tried]:
    """Cost -> the cheapest setting whose trial lies inside the interval of the winner's and that saves a fifth."""
    winner, found = ranked[0], dict[str, Tried]()
    for cost in COSTS:
        for one in front(ranked, cost, rising):
            if cost in winner.costs and one.costs[cost] <= CHEAPER * winner.costs[cost] and inside(one, winner, rising):
                found[cost] = one
                break
    return found


def cost_error(records: Iterable[Record]) -> tuple[float, int] | None:
    """By which share of the seconds used those foretold miss them, in the median, and of how many trainings: those that
    were not cut. One that stopped early is held against its part of what was foretold."""
    misses = []
    for record in records:
        if record.state == "done" and record.predicted is not None and record.seconds > 0:
            share = record.steps / record.length if 0 < record.steps < record.length else 1.0
            misses.append(abs(record.predicted * share - record.seconds) / record.seconds)
    return (statistics.median(misses), len(misses)) if misses else None


def lines(found: Outcome) -> list[str]:
    """What the command line prints at the end: the best settings, why trials ended as they did, and the findings."""
    words = Words()
    printed = _table(found)
    for one in found.ended[:SHOWN]:
        like = ", such as" if len(one.numbers) > 1 else ""
        printed.append(f"  {len(one.numbers):>3} x {one.state}{like}: {fitting(one.why or 'no reason told', 90)}")
    if len(found.ended) > SHOWN:
        printed.append(f"  ... and {len(found.ended) - SHOWN} other reasons")
    return [*printed, *found.earlier, *told(found, words), *spent(found, words)]


def _table(found: Outcome) -> list[str]:
    """The best settings in columns."""
    scored = [one for one in found.tried if one.score["value"] is not None][:SHOWN]
    if not scored:
        return []
    rows = [("trial", "strategy", found.metric, "time", "what was set")]
    for one in scored:
        mark = "*" if one.again else " "
        rows.append((f"{one.number}{mark}", one.arm, shown(one.score), duration(one.seconds), one.choices))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    table = [
        f"  {row[0]:>{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:<{widths[2]}}  {row[3]:>{widths[3]}}  {row[4]}"
        for row in rows
    ]
    note = ["  * scored on rows that did not choose it"] if any(one.again for one in scored) else []
    return [fitting(line.rstrip(), 120) for line in table] + note


def _key(record: Record | Tried) -> str:
    """What is the same of all trainings of a setting."""
    return json.dumps([record.arm, record.settings], sort_keys=True, default=str)


def _worse(value: float | None, rising: bool) -> float:
    """A score as what is to be small."""
    return math.inf if value is None else -value if rising else value


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _scored(record: Record, rising: bool) -> Interval:
    """The score of a record; of one that has none yet, the best that it has reported."""
    if _number(record.value) is not None:
        return {"value": record.value, "low": _number(record.low), "high": _number(record.high)}
    reported = [value for _, value in record.reports if math.isfinite(value)]
    best = (max if rising else min)(reported) if reported else None
    return {"value": best, "low": None, "high": None}


def _mean(scores: Sequence[Interval]) -> Interval:
    """Of several scores of a setting; the ends are means too, which is wide rather than narrow."""
    known = [score for score in scores if score["value"] is not None]
    if not known:
        return {"value": None, "low": None, "high": None}
    spread = all(score["low"] is not None and score["high"] is not None for score in known)
    ends = ("value", "low", "high") if spread else ("value",)
    return {"low": None, "high": None} | {end: statistics.fmean(score[end] for score in known) for end in ends}


def _tried(group: Sequence[Record], rising: bool) -> Tried:
    """The trainings of one setting as one."""
    trials = [record for record in group if record.role == "trial"]
    finals = [record for record in group if record.role == "finalist"]
    one = min(trials or finals, key=lambda record: (STATES.index(record.state), record.number))
    first = _mean([_scored(record, rising) for record in trials if record.state == one.state])
    again = _mean([_scored(record, rising) for record in finals if record.state == "done"])
    costs = {**one.cost, "seconds": one.seconds}
    return Tried(
        number=one.number,
        arm=one.arm,
        settings=one.settings,
        state=one.state,
        score=first if again["value"] is None else again,
        first=first,
        again=again["value"] is not None,
        seconds=math.fsum(record.seconds for record in group),
        costs={cost: costs[cost] for cost in COSTS if costs.get(cost, 0) > 0},
        reports=tuple((ninth, value) for ninth, value in one.reports if math.isfinite(value)),
    )


def _states(trials: Iterable[Record]) -> dict[str, int]:
    counts = Counter[str](record.state for record in trials)
    return {state: counts[state] for state in STATES if counts[state]}


def _arms(trials: Sequence[Record], ranked: Sequence[Tried]) -> list[Arm]:
    """Each arm with its best, the arm of the winner first."""
    best: dict[str, Tried] = {}
    for one in ranked:
        if one.first["value"] is not None:
            best.setdefault(one.arm, one)
    names = [*best, *sorted({record.arm for record in trials} - best.keys())]
    of = {name: [record for record in trials if record.arm == name] for name in names}
    return [
        Arm(name, _states(of[name]), best.get(name), math.fsum(record.seconds for record in of[name])) for name in names
    ]


def _ended(trials: Iterable[Record]) -> list[Ended]:
    """Trials with a reason to tell, joined where reasons differ in their figures only; the commonest first."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in trials:
        if record.why or record.state in ("pruned", "stopped", "failed"):
            groups.setdefault((record.state, FIGURES.sub("#", record.why)), []).append(record)
    ordered = sorted(groups.items(), key=lambda item: (STATES.index(item[0][0]), -len(item[1])))
    return [Ended(state, some[0].why, [record.number for record in some]) for (state, _), some in ordered]


def _curve(trials: Iterable[Record], rising: bool, began: float | None) -> list[tuple[float, float, int]]:
    """Seconds since the search began, score and number of each trial that was better than all that ended before it."""
    timed = [record for record in trials if record.began]
    start = min((record.began for record in timed), default=0.0) if began is None else began
    found: list[tuple[float, float, int]] = []
    for record in sorted(timed, key=lambda record: record.began + record.seconds):
        value = _scored(record, rising)["value"]
        if value is not None and (not found or _worse(value, rising) < _worse(found[-1][1], rising)):
            found.append((record.began + record.seconds - start, value, record.number))
    return found


def _usable(one: Tried) -> bool:
    return one.state in ("done", "stopped") and one.first["value"] is not None


def _spread(ranked: Sequence[Tried], cost: str) -> bool:
    """Whether a cost differs enough between the settings to be drawn."""
    costs = [one.costs[cost] for one in ranked if cost in one.costs and one.first["value"] is not None]
    return len(costs) > 1 and max(costs) > 1.05 * min(costs)
