"""Runs and other tools on the same rows: scores, what they differ by, a verdict in words, and the rows themselves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from tunesmith.delivery import rows_out
from tunesmith.evaluation.intervals import rising, shown
from tunesmith.evaluation.paired import LEVEL, POWER, Difference
from tunesmith.files import size

FEW = 5
"""So many rows that are won, and as many that are lost, are printed."""
MOST_ROWS = 1_000_000
"""A difference that takes more rows than this is told as that."""


@dataclass(frozen=True)
class Contender:
    """One of those that are compared: its score, and what it cost where it is a Run."""

    name: str
    score: dict[str, float | None]
    trained_on: int | None = None
    seconds: float | None = None
    num_bytes: int | None = None

    @property
    def cost(self) -> str:
        """What is known of it, for people."""
        known = [] if self.trained_on is None else [f"trained on {self.trained_on:,} rows"]
        known += [] if self.seconds is None else [f"{self.seconds:,.0f} s"]
        known += [] if self.num_bytes is None else [size(self.num_bytes)]
        return ", ".join(known)


@dataclass(frozen=True)
class Pair:
    """One of them held against the first."""

    name: str
    against: str
    difference: Difference
    p: float
    """Of the test that decides, adjusted where several are held against the first."""
    wins: tuple[int, ...]
    """Positions of the rows on which it is nearer to the target, the largest gain first."""
    losses: tuple[int, ...]

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `not distinguishable`."""
        if not self.p < LEVEL:
            return "not distinguishable"
        return "better" if self.difference.gain > 0 else "worse"


@dataclass(frozen=True)
class Comparison:
    """All on the same rows, each held against the first."""

    metric: str
    part: str
    """What the rows are: test, valid, or the name of the data."""
    contenders: tuple[Contender, ...]
    pairs: tuple[Pair, ...]
    rows: pa.Table
    """Every row: `id`, `says` (its inputs in a line, where they can be read), `target`, and of each `prediction_NAME`
    and `loss_NAME`: 1 where it is wrong, the number of wrong labels, or the absolute error."""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        rows = f"{self.metric} on the same {self.rows.num_rows:,} rows ({self.part}), with 95 % interval:"
        wide = max(len(each.name) for each in self.contenders)
        lines = [*self.notes, rows]
        lines += [f"  {each.name:<{wide}}  {shown(each.score)}  {each.cost}".rstrip() for each in self.contenders]
        return "\n".join([*lines, *(line for pair in self.pairs for line in ("", *self._about(pair)))])

    def as_json(self) -> dict[str, Any]:
        """The same as plain values; rows that are won and lost by their ids."""
        ids = self.rows["id"].to_pylist()
        pairs = [
            {
                "name": pair.name,
                "against": pair.against,
                "verdict": pair.verdict,
                "gain": _numbers(pair.difference),
                "test": pair.difference.test,
                "p": pair.p,
                "tests": pair.difference.tests,
                "tellable": pair.difference.tellable(len(self.pairs)),
                "needed_rows": pair.difference.needed_rows(len(self.pairs)),
                "wins": [ids[row] for row in pair.wins],
                "losses": [ids[row] for row in pair.losses],
            }
            for pair in self.pairs
        ]
        scores = [
            {"name": each.name, **each.score}
            | {"trained_on": each.trained_on, "seconds": each.seconds, "bytes": each.num_bytes}
            for each in self.contenders
        ]
        named = {"metric": self.metric, "rows": len(ids), "part": self.part, "notes": list(self.notes)}
        return {**named, "scores": scores, "pairs": pairs}

    def write(self, path: Path | str) -> int:
        """The rows on which not all say the same, as .csv, .tsv, .jsonl or .parquet; how many there are."""
        told = zip(*(self.rows[f"prediction_{each.name}"].to_pylist() for each in self.contenders), strict=True)
        differing = [row for row, values in enumerate(told) if any(value != values[0] for value in values)]
        rows_out.write(self.rows.take(differing), str(path))
        return len(differing)

    def _about(self, pair: Pair) -> list[str]:
        """The verdict, what stands behind it, and a few of the rows."""
        several = len(self.pairs)
        holm = f", Holm over {several}" if several > 1 else ""
        beside = "; ".join(f"{test} {_shown_p(p)}" for test, p in list(pair.difference.tests.items())[1:])
        decided = f"{pair.difference.test} {_shown_p(pair.p)}{holm}; beside it {beside}"
        change, low, high = self._change(pair.difference)
        found = f"{self.metric} {change:+.3f} [{low:+.3f}, {high:+.3f}]"
        if pair.verdict == "not distinguishable":
            verdict = f"not distinguishable with these {len(self.rows):,} rows"
            lines = [f"{pair.name} and {pair.against} are {verdict}: {found}"]
            lines += [f"  {_needed(pair.difference.needed_rows(several), pair.difference.tellable(several))}"]
        else:
            lines = [f"{pair.name} is {pair.verdict} than {pair.against}: {found}"]
        lines.append(f"  {decided}")
        for word, rows in (("won", pair.wins), ("lost", pair.losses)):
            lines.append(f"  {word} {len(rows):,} rows{', such as:' * bool(rows)}")
            lines += [f"    {self._row(row, pair)}" for row in rows[:FEW]]
        return lines

    def _change(self, found: Difference) -> tuple[float, float, float]:
        """The difference and its interval as the metric is written: of one of which less is better, less is less."""
        low, high = found.interval
        return (found.gain, low, high) if rising(self.metric) else (-found.gain, -high, -low)

    def _row(self, row: int, pair: Pair) -> str:
        """A row for people: which it is, its target, and what both say."""
        columns = ("target", f"prediction_{pair.against}", f"prediction_{pair.name}")
        target, before, after = (_value(self.rows[name][row].as_py()) for name in columns)
        says = f": {text}" if "says" in self.rows.column_names and (text := self.rows["says"][row].as_py()) else ""
        return f"{self.rows['id'][row]} is {target}, {pair.against} says {before}, {pair.name} {after}{says}"


def _numbers(found: Difference) -> dict[str, float]:
    return {"value": found.gain, "low": found.interval[0], "high": found.interval[1]}


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return " + ".join(value) or "nothing" if isinstance(value, list) else str(value)


def _shown_p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _needed(rows: int | None, tellable: float) -> str:
    """How many rows would tell, in round numbers."""
    if not tellable:
        return "their scores are the same, whichever of these rows are looked at"
    these = f"these tell one of {tellable:.3f} in {POWER:.0%} of cases"
    if rows is None:
        return f"their scores are equal, and no number of rows tells that; {these}"
    unit = 10 ** max(0, len(str(rows)) - 2)
    count = f"more than {MOST_ROWS:,}" if rows > MOST_ROWS else f"about {math.ceil(rows / unit) * unit:,}"
    return f"{count} rows would be needed to tell a difference of this size; {these}"
