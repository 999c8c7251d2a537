"""What a search found, as plain data, and the sentences that say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunesmith.delivery.drawing import fitting
from tunesmith.delivery.words import Words, duration
from tunesmith.evaluation.intervals import shown

COSTS = ("row_seconds", "bytes", "seconds")
"""To predict a row, on disk, to train."""
WIDEST = 60
"""Letters of a choice in words."""
MOST_IMPORTANT = 4

Interval = dict[str, Any]


@dataclass(frozen=True)
class Tried:
    """One setting of the recipe over all its trainings. `score` ranks it: the mean of its scores on rows that did not
    choose it, where it was scored on such again, else `first`, that of its trial. Each is {value, low, high}."""

    number: int
    """Of its trial."""
    arm: str
    settings: Mapping[str, Any]
    state: str
    score: Interval
    first: Interval
    again: bool
    """Whether `score` is of rows that did not choose it."""
    seconds: float
    """Of all its trainings."""
    costs: Mapping[str, float]
    """Those of `COSTS` that are known, each above 0; the seconds are those of its trial."""
    reports: Sequence[tuple[int, float]] = ()

    @property
    def choices(self) -> str:
        """Its settings in few letters, but for the strategy that the arm names."""
        return choices({path: value for path, value in self.settings.items() if value != self.arm.split(" @ ")[0]})


@dataclass(frozen=True)
class Arm:
    """What is searched by itself, over its trials."""

    name: str
    states: Mapping[str, int]
    best: Tried | None
    seconds: float


@dataclass(frozen=True)
class Ended:
    """Trials that ended in one state and for like reasons, told as that of the first."""

    state: str
    why: str
    numbers: Sequence[int]


@dataclass(frozen=True)
class Outcome:
    """All that is told of a search, by command line and page."""

    name: str
    model: str
    metric: str
    rising: bool
    tried: Sequence[Tried]
    """The best first; it is the winner, if it has a score."""
    states: Mapping[str, int]
    """Of the trials."""
    seconds: float
    """Of the whole search."""
    budget: float | None = None
    """Seconds that were asked for."""
    arms: Sequence[Arm] = ()
    ended: Sequence[Ended] = ()
    curve: Sequence[tuple[float, float, int]] = ()
    """(seconds, score, trial) whenever a trial was better than all before."""
    fronts: Mapping[str, Sequence[Tried]] = field(default_factory=dict)
    """Of `COSTS`: the settings to which none is both cheaper and as good, by the scores of their trials."""
    worth: Mapping[str, Tried] = field(default_factory=dict)
    """Of `COSTS`: the cheapest that may be as good as the winner, and is cheaper by a fifth."""
    importance: Mapping[str, float] = field(default_factory=dict)
    error: tuple[float, int] | None = None
    """By which share the seconds foretold miss those used, in the median, and of how many trainings."""
    refit: bool = False
    """Whether the winner was trained again on all rows."""
    test: Interval | None = None
    """Of what is delivered."""
    earlier: Sequence[str] = ()
    """What was taken from earlier searches, in words."""
    recipe: str = ""
    """The winner's, as TOML."""
    command: str = ""
    """What trains the winner alone."""

    @property
    def winner(self) -> Tried | None:
        return self.tried[0] if self.tried and self.tried[0].score["value"] is not None else None

    @property
    def rivals(self) -> list[Tried] | None:
        """The other settings whose trials lie inside the interval of the winner's; None where it has no interval."""
        if self.winner is None or self.winner.first["low"] is None:
            return None
        return [other for other in self.tried[1:] if inside(other, self.winner, self.rising)]


def inside(other: Tried, winner: Tried, rising: bool) -> bool:
    """Whether the score of a trial is no worse than the worse end of the winner's interval."""
    value, end = other.first["value"], winner.first["low" if rising else "high"]
    return value is not None and end is not None and (value >= end if rising else value <= end)


def choices(settings: Mapping[str, Any]) -> str:
    """Settings in few letters, each by the last word of its path where that is enough.

    >>> choices({"train.lr": 2.0e-05, "train.optimizer": {"name": "sgd", "momentum": 0.9}, "strategy.rank": 8})
    'lr 2e-05, optimizer sgd (momentum 0.9), rank 8'
    """
    last = [path.rpartition(".")[2] for path in settings]
    names = [word if last.count(word) == 1 else path for path, word in zip(settings, last, strict=True)]
    return ", ".join(f"{name} {choice(value)}" for name, value in zip(names, settings.values(), strict=True))


def choice(value: Any) -> str:
    """One value of a recipe in words."""
    if isinstance(value, Mapping):
        options = ", ".join(f"{key} {choice(other)}" for key, other in value.items() if key != "name")
        return f"{value['name']} ({options})" if options and "name" in value else str(value.get("name", options))
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(choice, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "on", False: "off"}[value]
    return fitting(f"{value:.6g}" if isinstance(value, float) else str(value), WIDEST)


def told(outcome: Outcome, words: Words) -> list[str]:
    """The sentences on what was found, on the winner first."""
    return [*_winner(outcome, words), *_cheaper(outcome, words), *_importance(outcome, words)]


def spent(outcome: Outcome, words: Words) -> list[str]:
    """The sentences on what it took."""
    sentences = [words("search.states", count=sum(outcome.states.values()), states=states(outcome.states, words))]
    if outcome.error is not None:
        error, count = outcome.error
        sentences.append(words("search.error", error=f"{error:.0%}", count=count))
    values = {"used": duration(outcome.seconds)}
    if outcome.budget is None:
        return [*sentences, words("search.used", **values)]
    return [*sentences, words("search.budget", **values, budget=duration(outcome.budget))]


def states(counts: Mapping[str, int], words: Words) -> str:
    """How trials ended, in words."""
    return words("search.and").join(f"{count} {words.named('state', state)}" for state, count in counts.items())


def _winner(outcome: Outcome, words: Words) -> list[str]:
    winner = outcome.winner
    if winner is None:
        return [words("search.no_winner")]
    named = {"metric": words.named("metric", outcome.metric), "count": len(outcome.tried), "arm": winner.arm}
    named |= {"number": winner.number, "value": shown(winner.score)}
    found = [words("search.winner", **named)]
    if winner.again:
        found = [words("search.winner_again", **named, first=shown(winner.first))]
    found += [words("search.refit")] if outcome.refit else []
    found += [words("search.test", value=shown(outcome.test))] if outcome.test else []
    if outcome.rivals is not None and len(outcome.tried) > 1:
        count = len(outcome.rivals)
        found.append(words("search.rivals", count=count) if count else words("search.no_rivals"))
    return found


def _cheaper(outcome: Outcome, words: Words) -> list[str]:
    """A sentence on each setting that saves something, with all that it saves."""
    winner = outcome.winner
    if winner is None or not outcome.fronts:
        return []
    sentences = []
    for other in {one.number: one for one in outcome.worth.values()}.values():
        savings = [
            words(f"saving.{cost}", share=f"{other.costs[cost] / winner.costs[cost]:.0%}")
            for cost in COSTS
            if outcome.worth.get(cost) is other
        ]
        values = {"number": other.number, "arm": other.arm, "value": shown(other.first)}
        sentences.append(words("search.cheaper", **values, savings=words("search.and").join(savings)))
    return sentences or [words("search.none_cheaper")]


def _importance(outcome: Outcome, words: Words) -> list[str]:
    if not outcome.importance:
        return [words("search.no_importance")] if outcome.winner else []
    first = sorted(outcome.importance.items(), key=lambda item: -item[1])[:MOST_IMPORTANT]
    named = words("search.and").join(f"{path} ({share:.0%})" for path, share in first)
    return [words("search.importance", choices=named)]
