"""Which rows train, which choose (valid) and which judge (test), and what all ways to decide it share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith.data.table import Table, concat
from tunesmith.errors import DataError, Problem, nearest

Rows = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

PARTS = ("train", "valid", "test")
PART_OF = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "eval": "valid",
    "test": "test",
    "testing": "test",
}
FOLDS = 5
"""Of a `kfold`, where nobody says."""
OPTIMISTIC = "there are no test rows: the valid score chose the model, so it is somewhat better than new rows will be"


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers of each part, ascending; `how` is the name of the split, "given" of files."""

    train: Rows
    valid: Rows
    test: Rows
    how: str
    notes: tuple[str, ...] = ()


def split_of(parts: npt.NDArray[np.str_], how: str, notes: Sequence[str] = ()) -> Split:
    """A Split from the name of each row's part."""
    train, valid, test = (np.flatnonzero(parts == part).astype(np.int64) for part in PARTS)
    return Split(train, valid, test, how, tuple(notes))


def shares(hashes: Hashes) -> npt.NDArray[np.float64]:
    """Each hash as a number in [0, 1) that depends on the row's content alone."""
    return hashes.astype(np.float64) / 2.0**64


def without_valid(parts: npt.NDArray[np.str_], hashes: Hashes, share: float = 0.1) -> tuple[npt.NDArray[np.str_], str]:
    """The parts with `share` of the train rows made valid by their hash, and the note that says so."""
    train = np.flatnonzero(parts == "train")
    lot = shares(hashes[train])
    chosen = lot < share
    if not chosen.any() and np.unique(hashes[train]).size > 1:
        chosen = hashes[train] == hashes[train].min()
    parts = parts.copy()
    parts[train[chosen]] = "valid"
    return parts, f"no valid rows were given: {int(chosen.sum())} train rows ({share:.0%}, by their hash) became valid"


def join(tables: Mapping[str, Table], inputs: Sequence[str], used: Sequence[str]) -> tuple[Table, Split]:
    """Tables that came as separate files, as one table and its Split of how "given".

    `inputs` are the columns that identify a row; `used` are all columns that every file must have (inputs, targets);
    the others are dropped. Without valid rows, a tenth of train becomes valid by hash.
    """
    _require_train(tables)
    ordered = [(part, tables[part]) for part in PARTS if part in tables]
    _require_columns([table for _, table in ordered], used)
    table = concat([table.select(used) for _, table in ordered]).identified(inputs)
    parts = np.repeat([part for part, _ in ordered], [table.num_rows for _, table in ordered])
    notes = []
    if "valid" not in tables:
        parts, note = without_valid(parts, table.hashes)
        notes.append(note)
    if "test" not in tables:
        notes.append(OPTIMISTIC)
    return table, split_of(parts, "given", notes)


def make_folds(hashes: Hashes, labels: npt.NDArray[np.int64] | None, k: int) -> list[tuple[Rows, Rows]]:
    """k pairs of (rows to train on, rows held out): each row is held out once, each class spread evenly over the folds.

    Rows are dealt in the order of their hashes, so the folds depend on the content alone and equal inputs stay
    together. k becomes the number of different inputs of the rarest class where that is smaller, but not below 2.
    """
    unique, first, group = np.unique(hashes, return_index=True, return_inverse=True)
    if unique.size < 2:
        raise DataError("folds need at least two different inputs", remedy="add rows, or use another split")
    classes = np.zeros(unique.size, np.int64) if labels is None else labels[first]
    k = max(2, min(k, int(np.unique(classes, return_counts=True)[1].min())))
    fold = dealt(unique, classes, k)[group]
    return [(np.flatnonzero(fold != held).astype(np.int64), np.flatnonzero(fold == held)) for held in range(k)]


def dealt(lots: npt.NDArray[Any], classes: npt.NDArray[np.int64], k: int) -> Rows:
    """Which of k folds each of some things falls into: dealt like cards, class after class, in the order of their lots.

    >>> dealt(np.array([3, 1, 2, 4]), np.array([0, 0, 1, 1]), 2).tolist()
    [1, 0, 0, 1]
    """
    fold = np.empty(len(lots), np.int64)
    fold[np.lexsort((lots, classes))] = np.arange(len(lots)) % k
    return fold


def dealt_whole(counts: npt.NDArray[np.int64], lots: npt.NDArray[Any], k: int) -> Rows:
    """Which of k folds each of some groups falls into, whose rows of each class are `counts` (groups, classes): large
    groups first, each to the fold that has least of what it brings; a lot decides among groups of like size."""
    sizes = counts.sum(1)
    wanted = np.concatenate([counts, sizes[:, None]], 1)  # The size counts as a class of its own.
    weights = 1 / np.maximum(1, wanted.sum(0)) ** 2
    fold, filled = np.empty(len(counts), np.int64), np.zeros((k, wanted.shape[1]))
    for group in np.lexsort((lots, -np.floor(np.log2(sizes)))):
        fold[group] = np.argmin(filled @ (wanted[group] * weights))
        filled[fold[group]] += wanted[group]
    return fold


def inseparable(hashes: Hashes, groups: npt.NDArray[np.int64] | None = None) -> Rows:
    """A number for each row, the same for rows that must stay in one part: of equal inputs, and of one group."""
    _, inputs = np.unique(hashes, return_inverse=True)
    if groups is None:
        return inputs
    number = groups
    while True:
        joined = _least(groups, _least(inputs, number))
        if (joined == number).all():
            return np.unique(joined, return_inverse=True)[1]
        number = joined


def _least(of: npt.NDArray[np.int64], numbers: npt.NDArray[np.int64]) -> Rows:
    """For each row the least number among the rows that share its `of`."""
    least = np.full(int(of.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(least, of, numbers)
    return least[of]


def each_fold(*, k: int = FOLDS, repeats: int = 1, **others: Any) -> list[dict[str, Any]]:
    """The options of the split `fold` for every run of a `kfold` with these options.

    >>> [(one["fold"], one["repeat"]) for one in each_fold(k=2, repeats=2)]
    [(1, 1), (2, 1), (1, 2), (2, 2)]
    """
    numbers = [(fold, repeat) for repeat in range(1, repeats + 1) for fold in range(1, k + 1)]
    return [{"k": k, "fold": fold, "repeat": repeat, **others} for fold, repeat in numbers]


def nested(
    hashes: npt.NDArray[np.uint64], labels: npt.NDArray[np.int64] | None, share: Fraction
) -> npt.NDArray[np.int64]:
    """Positions of a share of rows: of each class the ones with the lowest hashes, at least one, so that a smaller
    share is part of a larger one."""
    classes = np.zeros(len(hashes), np.int64) if labels is None else labels
    order = np.lexsort((hashes, classes))
    _, starts, counts = np.unique(classes[order], return_index=True, return_counts=True)
    rank = np.arange(len(hashes)) - np.repeat(starts, counts)
    kept: npt.NDArray[np.int64] = np.sort(order[(rank == 0) | (rank + 0.5 < float(share) * np.repeat(counts, counts))])
    return kept


def _require_train(tables: Mapping[str, Table]) -> None:
    if unknown := [name for name in tables if name not in PARTS]:
        raise DataError(f'a part is called "{unknown[0]}"', remedy=nearest(unknown[0], PARTS))
    if "train" not in tables:
        raise DataError(
            "there is no file to train on",
            where=", ".join(table.source for table in tables.values()),
            remedy='name the file to train on "train", as in train.csv, or give one file without a split',
        )


def _require_columns(tables: Sequence[Table], used: Sequence[str]) -> None:
    problems = [
        Problem(
            f'the column "{name}" is missing, which {tables[0].source} has',
            where=table.source,
            remedy=f"its columns: {', '.join(table.column_names)}; give it the same names",
        )
        for table in tables
        for name in used
        if name not in table.column_names
    ]
    if problems:
        raise DataError(problems)
