"""Answers of several models brought to the same rows and labels, with all that keeps them apart told at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from tunesmith import plugins
from tunesmith.assemble.answers import CHANCE, Answers, content, learnt_from
from tunesmith.assemble.thresholds import target_of
from tunesmith.data import columns
from tunesmith.data.table import Table
from tunesmith.errors import DataError, Problem, nearest
from tunesmith.evaluation.predict import Predictions
from tunesmith.tasks.task import Target, Task, as_label, label_order

SHOWN = 5
SUM_OF_ONE = 0.01
"""Probabilities of one label a row add up to 1, as far as other tools round them."""


@dataclass(frozen=True)
class SameRows:
    """Answers on the same rows in the same order, of one task and one Target."""

    answers: tuple[Answers, ...]
    codes: np.ndarray
    task: Task
    target: Target
    notes: tuple[str, ...]

    def decided(self, number: int) -> Predictions:
        """What one of them decided, as probabilities of 0 and 1; the values of a regression."""
        return self._predictions(self.answers[number], _outputs(self.answers[number].told, self.task, self.target))

    def probable(self, number: int) -> Predictions:
        """One of them with its probabilities; DataError where it has none for each label."""
        answers = self.answers[number]
        chances = _of_label_told(answers, self.target) if [*answers.chances] == [""] else answers.chances
        absent = [label for label in self.target.labels if label not in chances]
        if len(absent) == len(self.target.labels):
            what, remedy = (
                "there are no probabilities, which this metric is made of",
                "give probability_<label> columns",
            )
            raise DataError(what, where=answers.where, remedy=f"{remedy}, or compare by a metric of decisions")
        nothing = np.zeros(len(answers.ids))
        outputs = np.stack([chances.get(label, nothing) for label in self.target.labels], 1)
        wrong = ~((outputs >= 0) & (outputs <= 1)).all(1)
        if self.task.name == "classification":
            wrong |= np.abs(outputs.sum(1) - 1) > SUM_OF_ONE
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            shown = ", ".join(f"{name} {value:g}" for name, value in zip(self.target.labels, outputs[row], strict=True))
            what = f"{wrong.sum()} rows have no probabilities that add up, such as {answers.ids[row]}: {shown}"
            raise DataError(what, where=answers.where, remedy=f"give a {CHANCE}<label> column for each label")
        return self._predictions(answers, outputs)

    def _predictions(self, answers: Answers, outputs: np.ndarray) -> Predictions:
        task = replace(self.task, probabilities=lambda outputs: outputs)
        return Predictions(np.array(answers.ids), self.codes, outputs, task, self.target)


def same_rows(answers: Sequence[Answers], *, fair: bool) -> SameRows:
    """The rows that all of them answered, with their targets. `fair`: without those that any Run learnt from.

    Rows are matched by id; of rows with equal content, by their order. DataError where none is left, where targets
    differ, and for answers that are missing, stand twice or are of no known label."""
    task = _task(answers)
    answers = [_plain(some, task) for some in answers]
    _refuse(answers, task)
    aligned, notes = _aligned(answers, fair)
    truth = _truth(aligned, task)
    known = [row for row, value in enumerate(truth) if value is not None and value == value]
    if len(known) < len(truth):
        notes.append(f"{len(truth) - len(known)} rows without a target are left out")
        aligned, truth = [some.take(known) for some in aligned], [truth[row] for row in known]
    if len(truth) < 2:
        what = f"{len(truth)} rows with a target are left to compare on"
        raise DataError(what, remedy="give the target of each row in one of the files, or a Run that has it")
    target = _target(answers, task)
    return SameRows(tuple(aligned), _codes(truth, task, target), task, target, tuple(notes))


def _task(answers: Sequence[Answers]) -> Task:
    """The task of the Runs, else what the targets look like."""
    found = {some.run.recipe.task.name: some.where for some in answers if some.run and some.run.recipe.task != "auto"}
    if len(found) > 1:
        told = " and ".join(f"{where} is a {name}" for name, where in found.items())
        raise DataError(f"these are of different tasks: {told}", remedy="compare runs of one task")
    if not found:
        known = [some.truth for some in answers if some.truth is not None] or [answers[0].told]
        table = Table(pa.table({"id": answers[0].ids[:1] * len(known[0]), "label": known[0]}))
        found = {columns.guess(table, inputs=["id"], target="label", modality="text").task: ""}
    task: Task = plugins.get("task", next(iter(found)))
    return task


def _plain(answers: Answers, task: Task) -> Answers:
    """The same with each value in the form of the task: a label, a sorted tuple of labels, or a number."""
    truth = None if answers.truth is None else [_value(value, task) for value in answers.truth]
    return replace(answers, told=[_value(value, task) for value in answers.told], truth=truth)


def _value(value: Any, task: Task) -> Any:
    if task.name == "multilabel":
        items = value.split("|") if isinstance(value, str) else value or ()
        return tuple(sorted({as_label(item) for item in items} - {""}))
    if task.name == "regression":
        return float(task.encode([value], Target((), ()))[0])
    return as_label(value) or None if value is not None else None


def _refuse(answers: Sequence[Answers], task: Task) -> None:
    """DataError for rows without an answer, and for ids that stand twice."""
    problems = []
    for some in answers:
        absent = [some.ids[row] for row, value in enumerate(some.told) if value is None or value != value]
        if absent:
            kind = "number" if task.name == "regression" else "label"
            what = f"{len(absent)} rows have no {kind} as their answer: {_few(absent)}"
            problems.append(Problem(what, some.where, "give an answer for each row, or leave these out of the file"))
        places = defaultdict(list)
        for row, row_id in enumerate(some.ids, 1):
            places[row_id].append(row)
        if twice := {row_id: rows for row_id, rows in places.items() if len(rows) > 1}:
            shown = _few([f"{row_id} in rows {rows[0]} and {rows[1]}" for row_id, rows in twice.items()])
            problems.append(Problem(f"{len(twice)} ids stand twice: {shown}", some.where, "give one answer for a row"))
    if problems:
        raise DataError(problems)


def _aligned(answers: Sequence[Answers], fair: bool) -> tuple[list[Answers], list[str]]:
    """All of them on the rows that they share, in the order of the first, and what is left out."""
    places = [_places(some) for some in answers]
    shared = [key for key in places[0] if all(key in others for others in places[1:])]
    learnt = {some.name: learnt_from(some.run) for some in answers if some.run is not None}
    if not shared:
        raise DataError(_apart(answers, learnt), remedy="give --data FILE: labelled rows that no run learnt from")
    notes = []
    if any(len(shared) < len(some.ids) for some in answers):
        counts = ", ".join(f"{some.name} {len(some.ids)}" for some in answers)
        notes.append(f"compared on the {len(shared)} rows that all of them answered ({counts})")
    known = next((number for number, some in enumerate(answers) if some.table is not None), 0)
    contents = dict(zip(places[known], answers[known].contents, strict=True))
    for name, rows in learnt.items() if fair else ():
        unseen = [key for key in shared if contents[key] not in rows]
        if len(unseen) < len(shared):
            seen = len(shared) - len(unseen)
            notes.append(f"{seen} rows are left out, because {name} trained on their content or chose by it")
        shared = unseen
    if not shared:
        what = f"no row is left to compare on: {'; '.join(notes)}"
        raise DataError(what, remedy="give --data FILE: labelled rows that no run learnt from")
    return [some.take([place[key] for key in shared]) for some, place in zip(answers, places, strict=True)], notes


def _places(answers: Answers) -> dict[tuple[str, int], int]:
    """(content, number among rows of the same) -> position. Rows of equal content are numbered in the order of their
    targets, because their ids count rows of other parts, too, which another split may lack."""
    order = list(range(len(answers.ids)))
    if (truth := answers.truth) is not None:
        order.sort(key=lambda row: str(truth[row]))
    found: dict[str, list[int]] = defaultdict(list)
    for row in order:
        found[content(answers.ids[row])].append(row)
    numbered = {(name, number): row for name, rows in found.items() for number, row in enumerate(rows)}
    return dict(sorted(numbered.items(), key=lambda item: item[1]))


def _apart(answers: Sequence[Answers], learnt: dict[str, set[str]]) -> str:
    """Why no row was answered by all."""
    what = f"no row was answered by all of them: ids such as {', '.join(some.ids[0] for some in answers if some.ids)}"
    for some in answers:
        for name, rows in learnt.items():
            if name != some.name and (seen := sum(row in rows for row in some.contents)):
                what += f"; {name} trained on or chose by {seen} of the {len(some.ids)} rows of {some.name}"
    return what


def _truth(answers: Sequence[Answers], task: Task) -> list[Any]:
    """The targets, which must be the same in all files that have them."""
    having = [some for some in answers if some.truth is not None]
    if not having:
        what, remedy = "no file has the targets", 'add a column "target" to one, or give a Run among them'
        raise DataError(what, where=", ".join(some.where for some in answers), remedy=remedy)
    first = having[0]
    assert first.truth is not None
    for other in having[1:]:
        assert other.truth is not None
        pairs = zip(first.ids, first.truth, other.truth, strict=True)
        differing = [f"{row}: {here} and {there}" for row, here, there in pairs if not _same(here, there, task)]
        if differing:
            what = f"{len(differing)} of {len(first.ids)} rows have different targets: {_few(differing)}"
            remedy = "give predictions of the same labelled rows"
            raise DataError(what, where=f"{first.where} and {other.where}", remedy=remedy)
    return first.truth


def _same(here: Any, there: Any, task: Task) -> bool:
    return bool(np.isclose(here, there, rtol=1e-6, equal_nan=True)) if task.name == "regression" else here == there


def _target(answers: Sequence[Answers], task: Task) -> Target:
    """The labels that the Runs, the targets and the columns of probabilities know; DataError for others."""
    learnt = [target_of(some.run).at(()) for some in answers if some.run is not None]
    if task.name == "regression":
        return Target(("target",), ("value",))
    named = [label for some in answers for label in [*some.chances, *_flat(some.truth or ())] if label]
    known = [label for target in learnt for label in target.labels]
    labels = [*dict.fromkeys([*known, *label_order(named)])]
    problems = []
    for some in answers:
        strange = [(row, label) for row, told in zip(some.ids, some.told, strict=True) for label in _flat([told])]
        if strange := [(row, label) for row, label in strange if label not in labels]:
            shown = _few([f'{row}: "{label}"' for row, label in strange])
            what = f"{len(strange)} answers are no label that a target, a Run or a {CHANCE} column has: {shown}"
            problems.append(Problem(what, some.where, nearest(strange[0][1], labels)))
    if problems:
        raise DataError(problems)
    if learnt and len(labels) == len(learnt[0].labels):
        return learnt[0]
    made: Target = task.learn(("target",), [*labels] if task.name == "classification" else [labels])
    return made


def _flat(values: Sequence[Any]) -> list[str]:
    """The labels of values that are labels, or tuples of them."""
    return [label for value in values for label in (value if isinstance(value, tuple) else (value,))]


def _codes(truth: list[Any], task: Task, target: Target) -> np.ndarray:
    """Targets as codes; a text that lists labels was split before."""
    codes: np.ndarray = task.encode(truth, replace(target, columns=("target",)))
    return codes


def _outputs(told: list[Any], task: Task, target: Target) -> np.ndarray:
    """Decisions as outputs: 0 and 1 by label; the values of a regression, (rows, 1)."""
    codes = _codes(told, task, target)
    if task.name == "classification":
        return np.asarray(np.eye(target.num_outputs)[codes])
    return np.asarray(codes[:, None] if codes.ndim == 1 else codes, np.float64)


def _of_label_told(answers: Answers, target: Target) -> dict[str, np.ndarray]:
    """Probabilities of both labels from the one column `probability`: of the label told, or of the positive one."""
    if target.positive is None:
        return {}
    given, positive = answers.chances[""], target.labels[target.positive]
    is_positive = np.array([label == positive for label in answers.told])
    if (given >= 0.5).all():
        chance = np.where(is_positive, given, 1 - given)
    elif ((given >= 0.5) == is_positive).all():
        chance = given
    else:
        what = f'"probability" is neither of the label told nor of "{positive}": both would contradict some rows'
        raise DataError(what, where=answers.where, remedy=f'give the column "{CHANCE}{positive}"')
    other = next(label for label in target.labels if label != positive)
    return {positive: chance, other: 1 - chance}


def _few(things: Sequence[str]) -> str:
    return ", ".join(things[:SHOWN]) + (" ..." if len(things) > SHOWN else "")
