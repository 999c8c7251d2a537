"""What is given to compare becomes a Comparison: opened, brought to the same rows, scored and tested."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tunesmith import plugins
from tunesmith.assemble import answers as answering
from tunesmith.assemble.answers import Answers
from tunesmith.assemble.loaded import load_run
from tunesmith.assemble.rows import fits, metrics_of
from tunesmith.assemble.same_rows import SameRows, same_rows
from tunesmith.delivery.comparison import Comparison, Contender, Pair
from tunesmith.delivery.row_texts import found_again, in_a_line
from tunesmith.errors import DataError, RecipeError, nearest
from tunesmith.evaluation import intervals, paired
from tunesmith.evaluation.intervals import Own
from tunesmith.evaluation.predict import Predictions, readable
from tunesmith.run import Run, open_run
from tunesmith.training import machine

Metric = str | Callable[..., float]
OPTIMISTIC = "these rows chose the weights of the runs: scores are optimistic, the more so the more was tried on them"
TRAINING = ("prepare", "cache", "step", "evaluate")
"""Events that are the training of a Run: no baseline, no last score."""


def compared(
    given: Sequence[Any], data: Any = None, *, split: str = "test", metric: Metric | None = None, device: str = "auto"
) -> Comparison:
    """Hold each of several Runs and predictions files against the first, on the same rows."""
    if len(given) < 2:
        raise RecipeError("there is nothing to compare with", where="compare", remedy="give two Runs or files, or more")
    names = [answering.name_of(one, given) for one in given]
    if len({*names}) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise RecipeError(f"{twice} is given twice", where="compare", remedy="leave one of them out")
    rows = same_rows(_opened([_run_of(one) for one in given], names, data, split, device), fair=split != "valid")
    name, own = _metric(metric, rows)
    of_decisions = bool(own) or rows.task.name == "regression" or hasattr(plugins.get("metric", name), "of_counts")
    told = [(rows.decided if of_decisions else rows.probable)(number) for number in range(len(given))]
    decided = [rows.decided(number) for number in range(len(given))]
    losses = [paired.row_losses(each) for each in decided]
    nearer = [losses[0] - loss for loss in losses[1:]]
    found = [paired.difference(told[0], each, name, some, own) for each, some in zip(told[1:], nearer, strict=True)]
    if any(np.isnan(each.gain) for each in found):
        raise DataError(f'"{name}" is not defined on these {len(rows.codes)} rows', remedy="give another --metric")
    adjusted = paired.holm([each.p for each in found])
    pairs = [
        Pair(other, names[0], each, p, _largest(some), _largest(-some))
        for other, each, p, some in zip(names[1:], found, adjusted, nearer, strict=True)
    ]
    scores = [intervals.score(each, () if own else (name,), own, classes=False)[name] for each in told]
    contenders = [_contender(*each) for each in zip(rows.answers, scores, strict=True)]
    part = next((some.where for some in rows.answers if some.table is not None), split)
    notes = [*rows.notes, *[OPTIMISTIC] * (data is None and split == "valid" and any(a.run for a in rows.answers))]
    return Comparison(name, part, tuple(contenders), tuple(pairs), _table(rows, decided, losses), tuple(notes))


def _run_of(given: Any) -> Any:
    """A folder as the Run that it is; anything else is rows with predictions."""
    return open_run(given) if isinstance(given, str | Path) and Path(given).is_dir() else given


def _opened(given: Sequence[Any], names: Sequence[str], data: Any, split: str, device: str) -> list[Answers]:
    """The answers of all in their order; files are read beside the first Run, which knows what its rows are called."""
    found: dict[int, Answers] = {}
    runs = [number for number, one in enumerate(given) if isinstance(one, Run)]
    if data is not None and not runs:
        raise RecipeError("--data is answered by Runs, and none is given", where="compare", remedy="leave it out")
    for number in runs:
        if data is None:
            found[number] = answering.kept(given[number], names[number], split)
        else:
            found[number] = answering.asked(load_run(given[number], machine.start(device, "fp32")), names[number], data)
            if data == "-" and (table := found[number].table) is not None:  # Standard input can be read once.
                data = table.arrow
    beside = found[runs[0]] if runs else None
    return [found.get(n) or answering.read(one, names[n], beside) for n, one in enumerate(given)]


def _metric(asked: Metric | None, rows: SameRows) -> tuple[str, Sequence[Own]]:
    """What decides: what was asked, else what the first Run was chosen by, else the task's."""
    if callable(asked):
        return asked.__name__, (asked,)
    known = metrics_of(rows.task, rows.target)
    if asked is None:
        chosen = [some.run.recipe.evaluate.select for some in rows.answers if some.run is not None]
        return (chosen[0] if chosen and not chosen[0].startswith("memory:") else rows.task.select), ()
    if not fits(asked, known):
        raise RecipeError(f'"{asked}" does not fit a {rows.task.name}', where="--metric", remedy=nearest(asked, known))
    plugins.get("metric", asked)
    return asked, ()


def _largest(changes: np.ndarray) -> tuple[int, ...]:
    """Positions of what is above 0, the largest first."""
    order = np.argsort(-changes, kind="stable")
    return tuple(order[changes[order] > 0].tolist())


def _contender(answers: Answers, score: dict[str, float | None]) -> Contender:
    """A score beside what it cost."""
    run = answers.run
    if run is None:
        return Contender(answers.name, score)
    events = [json.loads(line) for line in (run.path / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    seconds = sum(event.get("seconds", 0.0) for event in events if event["event"] in TRAINING)
    rows = run.read("data.json")["split"]["train"]
    return Contender(answers.name, score, rows, round(seconds, 1), run.weights.stat().st_size)


def _table(rows: SameRows, decided: Sequence[Predictions], losses: Sequence[np.ndarray]) -> pa.Table:
    """Every row: id, what it says, its target, and what each says of it."""
    first = rows.answers[0]
    columns: dict[str, Any] = {"id": first.ids}
    texts = _texts(rows)
    if any(texts):
        columns["says"] = texts
    columns["target"] = readable(rows.codes, rows.target)
    for each, predictions, loss in zip(rows.answers, decided, losses, strict=True):
        columns[f"prediction_{each.name}"] = predictions.decoded
        columns[f"loss_{each.name}"] = loss
    return pa.table(columns)


def _texts(rows: SameRows) -> list[str]:
    """What each row says: from the data that was asked about, or the files of a Run, if they are still there."""
    contents = rows.answers[0].contents
    texts: dict[str, str] = {}
    for each in rows.answers:
        if each.run is not None and each.table is not None:
            inputs, modality = each.run.read("data.json")["inputs"], each.run.read("data.json")["modality"]
            return [in_a_line(each.table, row, inputs, modality) for row in range(len(contents))]
        if each.run is not None and not {*contents} <= {*texts}:
            texts |= found_again(each.run, contents)
    return [texts.get(name, "") for name in contents]
