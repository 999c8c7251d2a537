"""The best trials trained again and asked about rows that did not choose them; who is best there wins."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tunesmith.assemble.job import Job
from tunesmith.choices import HeldOut
from tunesmith.data.split import make_folds
from tunesmith.delivery import scores
from tunesmith.delivery.scores import deciding
from tunesmith.errors import TunesmithError
from tunesmith.evaluation import intervals
from tunesmith.pipeline import held_out
from tunesmith.study.record import Record
from tunesmith.study.workbench import Workbench

Tell = Callable[[str], None]

MOST = 3
"""So many finalists at most."""
BEATEN = 0.1
"""A finalist that is better than the leader in less than this share of resamples is out."""
SAFETY = 1.2
"""A fold is begun if so many times what it should take is left."""


@dataclass
class Finalist:
    """A trial of the final: its folds as they are trained, and what the rows held out of them were answered."""

    record: Record
    job: Job
    folds: Iterator[HeldOut]
    seconds: float
    """Of a fold, as foretold; as taken, once one was."""
    answers: dict[int, np.ndarray]
    used: float = 0.0


@dataclass(frozen=True)
class Final:
    """Who won, on how many rows that had not chosen it, and what all of them were answered by epoch."""

    winner: Record
    judged: tuple[Record, ...]
    """The finalists as they were judged there: value, interval and seconds."""
    rows: np.ndarray
    answers: dict[int, np.ndarray]
    why: str


def hold(bench: Workbench, best: Sequence[Record], until: float, tell: Tell) -> Final:
    """Train the finalists on all rows but a fold of those that trained before, fold by fold while there is time, and
    compare them on these; a finalist that is clearly beaten leaves. Without time for one fold the best trial wins."""
    alone = best[0]
    nothing = Final(alone, (), np.empty(0, np.int64), {}, "the best on the valid rows, no time was left to ask others")
    finalists, rows, folds = _entered(bench, best, tell)
    if not finalists or not folds:
        return nothing
    asked = np.sort(np.concatenate([held for _, held in folds]))
    for _ in folds:
        done = 0
        for finalist in finalists:
            if time.time() + SAFETY * finalist.seconds * (len(finalists) - done) > until:
                continue
            done += _next_fold(finalist)
        if done < len(finalists):
            break
        finalists = _left(finalists, rows[asked])
    entered = [finalist for finalist in finalists if finalist.answers]
    if not entered:
        return nothing
    there = _answered(entered)
    judged = [_judged(finalist, rows[asked], there) for finalist in entered]
    sign = 1 if intervals.rising(bench.job.select) else -1
    first = max(range(len(judged)), key=lambda place: (sign * (judged[place].value or 0.0), -place))
    why = f"the best of {len(entered)} on {int(there.sum())} rows that had not chosen it"
    return Final(entered[first].record, tuple(judged), rows[asked], entered[first].answers, why)


def _entered(bench: Workbench, best: Sequence[Record], tell: Tell) -> tuple[list[Finalist], np.ndarray, list[Any]]:
    """The finalists: those that the valid rows cannot tell from the best; and the folds of the rows that trained."""
    top, sign = best[0], 1 if intervals.rising(bench.job.select) else -1
    bound = "high" if sign > 0 else "low"
    close = [r for r in best if r is top or sign * (getattr(r, bound) or -sign * np.inf) >= sign * (top.value or 0.0)]
    train, valid = bench.rows.split.train, bench.rows.split.valid
    rows = np.sort(np.concatenate([train, valid])) if bench.may_refit else train
    folds = _folds(bench, rows)
    whole = bench.all_rows if bench.may_refit else bench.rows
    found = []
    for record in close[:MOST]:
        try:
            job = bench.prepared({**record.settings, "train.every.save": "never"}, whole)
            job = replace(job, micro=job.micro or job.recipe.train.batch)  # type: ignore[arg-type]
        except TunesmithError as error:
            tell(f"trial {record.number} cannot be asked about further rows: {str(error).splitlines()[0]}")
            continue
        share = record.length / max(1, record.steps) if record.state == "done" else 1.0
        found.append(Finalist(record, job, held_out(job, rows, folds, _nothing), record.seconds * share, {}))
    return found, rows, folds


def _folds(bench: Workbench, rows: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Places in `rows` to train on and to hold out: of the rows that trained in the search, as many at a time as were
    valid there; all others train."""
    train, valid = bench.rows.split.train, bench.rows.split.valid
    labels = None if bench.rows.labels is None else bench.rows.labels[train]
    k = max(2, round(len(train) / max(1, len(valid))))
    held = [train[places] for _, places in make_folds(bench.rows.table.hashes[train], labels, k)]
    places = [np.searchsorted(rows, np.sort(some)) for some in held]
    return [(np.setdiff1d(np.arange(len(rows)), some), some) for some in places]


def _next_fold(finalist: Finalist) -> int:
    """Train a finalist's next fold; 1 if it has one more now."""
    started = time.perf_counter()
    try:
        _, finalist.answers = next(finalist.folds)
    except (TunesmithError, StopIteration):
        return 0
    finalist.seconds = time.perf_counter() - started
    finalist.used += finalist.seconds
    return 1


def _answered(finalists: Sequence[Finalist]) -> np.ndarray:
    """The rows that all of them have been asked about."""
    known = np.stack([~np.isnan(_last(finalist)).any(1) for finalist in finalists])
    return np.asarray(known.all(0))


def _last(finalist: Finalist) -> np.ndarray:
    return next(reversed(finalist.answers.values()))


def _at_best(finalist: Finalist, rows: np.ndarray) -> tuple[int, np.ndarray]:
    """The epoch whose answers to these rows are best, and those."""
    sign = 1 if intervals.rising(finalist.job.select) else -1
    there = ~np.isnan(_last(finalist)).any(1)
    epoch = max(
        finalist.answers,
        key=lambda epoch: sign * scores.value_of(finalist.job, rows[there], finalist.answers[epoch][there]),
    )
    return epoch, finalist.answers[epoch]


def _left(finalists: list[Finalist], rows: np.ndarray) -> list[Finalist]:
    """Those that may still win."""
    there, sign = _answered(finalists), 1 if intervals.rising(finalists[0].job.select) else -1
    outputs = [_at_best(finalist, rows)[1][there] for finalist in finalists]
    values = [
        sign * scores.value_of(finalist.job, rows[there], some)
        for finalist, some in zip(finalists, outputs, strict=True)
    ]
    leader = int(np.argmax(values))
    return [
        finalist
        for place, finalist in enumerate(finalists)
        if place == leader or scores.share_better(finalist.job, rows[there], outputs[leader], outputs[place]) >= BEATEN
    ]


def _judged(finalist: Finalist, rows: np.ndarray, there: np.ndarray) -> Record:
    """The record of the final: the score on the rows that did not choose, with its interval."""
    job, target = finalist.job, finalist.job.rows.target
    _, outputs = _at_best(finalist, rows)
    predictions = deciding(job, job.rows.codes[rows[there]], outputs[there] * target.std + target.mean)
    name = job.select.removeprefix("memory:")
    found = intervals.score(predictions, [name], job.objects.metrics, classes=False)[name]
    record = finalist.record
    return replace(
        record, role="finalist", state="done", reports=(), **found, seconds=round(finalist.used, 3), predicted=None
    )


def best_epoch(final: Final, job: Job) -> int:
    """The epoch at which the rows that were held out are answered best."""
    there = ~np.isnan(next(reversed(final.answers.values()))).any(1)
    sign = 1 if intervals.rising(job.select) else -1
    values = {
        epoch: sign * scores.value_of(job, final.rows[there], outputs[there])
        for epoch, outputs in final.answers.items()
    }
    return max(values, key=lambda epoch: (values[epoch], -epoch))


def _nothing(_line: str) -> None:
    """What the folds tell."""
