"""The ways to split one table, registered by function name: by content, lot, group, time or fold, or as it says."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith import seeds
from tunesmith.data import features
from tunesmith.data.split import (
    FOLDS,
    OPTIMISTIC,
    PART_OF,
    Hashes,
    Rows,
    Split,
    dealt,
    dealt_whole,
    inseparable,
    shares,
    split_of,
    without_valid,
)
from tunesmith.data.table import Table
from tunesmith.errors import DataError, Problem, RecipeError

Labels = npt.NDArray[np.int64] | None
Parts = npt.NDArray[np.str_]

INPUTS_OF_A_CLASS = 3


def hash(table: Table, labels: Labels, *, valid: float = 0.1, test: float = 0.1) -> Split:
    """Each row's own content decides where it falls, so added rows move no old row and equal inputs stay together.

    The seed of the run plays no part. `labels` are class codes per row (below 0: none), or None for numbers. A class
    without a row in valid or test gets its lowest hashes there if it has three different inputs; else all its rows
    train.
    """
    _check_shares(valid, test)
    lot = shares(table.hashes)
    parts = np.where(lot < test, "test", np.where(lot < test + valid, "valid", "train"))
    wanted = [part for part, share in (("test", test), ("valid", valid)) if share > 0]
    notes = _complete(parts, table.hashes, labels, wanted)
    split = split_of(parts, "hash", notes)
    if not split.train.size:
        raise DataError("no row is left to train on", where=table.source, remedy="add rows")
    return split


def random(table: Table, labels: Labels, *, valid: float = 0.1, test: float = 0.1, seed: int = 0) -> Split:
    """A lot decides for each different input; another `seed` gives another split, and so does an added row."""
    _check_shares(valid, test)
    _, first, number = np.unique(table.hashes, return_index=True, return_inverse=True)
    drawn = np.random.default_rng(seed).permutation(len(first))[number]
    return _by_rank(table, drawn, valid, test, "random")


def stratified(table: Table, labels: Labels, *, valid: float = 0.1, test: float = 0.1, seed: int = 0) -> Split:
    """Each class, or tenth of the numbers, has the same share in each part, but for a row; a lot decides which rows."""
    _check_shares(valid, test)
    codes = np.zeros(table.num_rows, np.int64) if labels is None else labels
    _, first, number = np.unique(table.hashes, return_index=True, return_inverse=True)
    drawn = np.random.default_rng(seed).permutation(len(first))
    # The inputs of each class in the order of their lots, then all by how far they stand in their class.
    order = np.lexsort((drawn, codes[first]))
    kinds, starts, counts = np.unique(codes[first][order], return_index=True, return_counts=True)
    place = np.empty(len(first))
    place[order] = (np.arange(len(first)) - np.repeat(starts, counts) + 0.5) / np.repeat(counts, counts)
    parts = np.where(place < test, "test", np.where(place < test + valid, "valid", "train"))
    few = int((counts < INPUTS_OF_A_CLASS).sum()) if labels is not None else 0
    notes = [f"{few} of {len(kinds)} classes have fewer than {INPUTS_OF_A_CLASS} different inputs"] if few else []
    return _judged(table, split_of(parts[number], "stratified", notes))


def group(
    table: Table,
    labels: Labels,
    *,
    by: str = "group",
    pattern: str | None = None,
    valid: float = 0.1,
    test: float = 0.1,
) -> Split:
    """All rows of a group (a speaker, a patient, a site) fall into one part, by the hash of what the column `by` says.

    `pattern`: the group is what this regular expression finds in the column (its first parenthesis, if it has any):
    "_([a-z]+)_" finds the speaker in 7_jackson_32.wav."""
    _check_shares(valid, test)
    values = ["" if value is None else str(value) for value in table.column(by).to_pylist()]
    if pattern is not None:
        try:
            found = [re.search(pattern, value) for value in values]
        except re.error as error:
            raise RecipeError(f'"{pattern}" is no regular expression: {error}', where="data.split.pattern") from None
        if None in found:
            row = found.index(None)
            what = f'"{pattern}" finds nothing in "{values[row]}"'
            raise DataError(what, where=table.where(row), remedy="change data.split.pattern")
        values = [match[match.re.groups > 0] for match in found if match]
    names, number, sizes = np.unique(values, return_inverse=True, return_counts=True)
    if len(names) < INPUTS_OF_A_CLASS - (not valid) - (not test):
        what = f'"{by}" names {len(names)} group{"s" * (len(names) != 1)}, too few for the parts'
        raise DataError(what, where=table.source, remedy="name another column, or split otherwise")
    lots = np.array([int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") for name in names])
    order = np.argsort(lots)
    # Each part takes the group whose middle falls into its share; the first always has one.
    middle = np.empty(len(names))
    middle[order] = (np.cumsum(sizes[order]) - sizes[order] / 2) / sizes.sum()
    parts = np.where(middle < test, "test", np.where(middle < test + valid, "valid", "train"))
    for place, (part, share) in enumerate((("test", test), ("valid", valid))):
        if share and part not in parts:
            parts[order[place]] = part
    told = [f"{len(set(names[parts == part]))} {part}" for part in ("train", "valid", "test")]
    shown = ", ".join(sorted(names[parts == "test"])[:5])
    notes = [f'{len(names)} groups by "{by}": {", ".join(told)}' + (f" ({shown})" if shown else "")]
    return _judged(table, split_of(parts[number], "group", notes))


def time(table: Table, labels: Labels, *, by: str = "time", valid: float = 0.1, test: float = 0.1) -> Split:
    """The latest rows test, those before them choose, the earliest train, as when the model is used: on what comes
    after. Rows of one moment fall together; the column `by` holds dates, times or numbers that rise."""
    _check_shares(valid, test)
    values = table.column(by)
    found = features.numbers(values) if features.kind_of(values) == "number" else features.moments(values)
    if np.isnan(found).any():
        row = int(np.flatnonzero(np.isnan(found))[0])
        what = f'"{by}" says "{values[row].as_py()}", which is no date, time or number'
        raise DataError(what, where=table.where(row), remedy="write it as 2024-01-31, or 2024-01-31T12:30:00")
    return _by_rank(table, -np.unique(found, return_inverse=True)[1], valid, test, "time")


def kfold(
    table: Table,
    labels: Labels,
    *,
    k: int = FOLDS,
    repeats: int = 1,
    by: str = "",
    seed: int = 0,
    valid: float = 0.1,
) -> Split:
    """All rows train but those that choose; k more runs, each without another of k folds, give the test scores.

    The split of the model that is delivered: `fold` is that of the others. Each class, or tenth of the numbers, is
    spread evenly over the folds; rows of equal inputs stay together, and rows of which the column `by` says the same.
    `repeats`: so many times with other folds; `valid = 0`: all rows train, and cross-validation makes the choices."""
    if repeats < 1:
        raise RecipeError(
            f"repeats = {repeats} is no number of times", where="data.split.repeats", remedy="repeats = 1 or more"
        )
    folds, units, notes = _folds(table, labels, k, by, seeds.fold(seed, "kfold", 1))
    sizes = np.bincount(folds, minlength=k)
    notes = [f"{k} folds of {sizes.min()} to {sizes.max()} rows{f', {repeats} times' * (repeats > 1)}", *notes]
    rows = np.arange(table.num_rows, dtype=np.int64)
    split = Split(rows[:0], rows[:0], rows[:0], "kfold", tuple(notes))
    return _with_choosing(table, None if by else labels, rows, units, valid, split)


def fold(
    table: Table,
    labels: Labels,
    *,
    k: int = FOLDS,
    fold: int = 1,
    repeat: int = 1,
    by: str = "",
    seed: int = 0,
    valid: float = 0.1,
) -> Split:
    """One of k folds tests, a share of the other rows chooses, the rest train: one of the runs of `kfold`."""
    for name, number, most in (("fold", fold, k), ("repeat", repeat, repeat)):
        if not 1 <= number <= most:
            what = f"there is no {name} {number}{f' of {k}' * (name == 'fold')}"
            raise RecipeError(what, where=f"data.split.{name}", remedy="they are counted from 1")
    folds, units, _ = _folds(table, labels, k, by, seeds.fold(seed, "kfold", repeat))
    test = np.flatnonzero(folds == fold - 1).astype(np.int64)
    others = np.flatnonzero(folds != fold - 1).astype(np.int64)
    split = Split(test[:0], test[:0], test, "fold")
    return _with_choosing(table, None if by else labels, others, units, valid, split)


def _folds(table: Table, labels: Labels, k: int, by: str, lot: int) -> tuple[Rows, Rows, list[str]]:
    """The fold of each row, the number that rows share which stay together, and notes of classes that are too few."""
    if k < 2:
        raise RecipeError(f"k = {k} folds leave nothing to hold out", where="data.split.k", remedy="k = 2 or more")
    groups = None
    if by:
        values = ["" if value is None else str(value) for value in table.column(by).to_pylist()]
        groups = np.unique(values, return_inverse=True)[1].astype(np.int64)
    units = inseparable(table.hashes, groups)
    _, first = np.unique(units, return_index=True)
    if len(first) < k:
        kind = f'groups by "{by}" (those that share inputs are one)' if by else "different inputs"
        what = f"{len(first)} {kind} cannot fill {k} folds"
        raise DataError(what, where=table.source, remedy=f"k = {len(first)} at most, or add rows")
    lots = np.random.default_rng(lot).permutation(len(first))
    kinds, codes = np.unique(np.zeros(len(units), np.int64) if labels is None else labels, return_inverse=True)
    counts = np.zeros((len(first), len(kinds)), np.int64)
    np.add.at(counts, (units, codes), 1)
    folds = (dealt_whole(counts, lots, k) if by else dealt(lots, codes[first], k))[units]
    few = int(((counts > 0).sum(0) < k).sum()) if labels is not None else 0
    what = f'groups by "{by}"' if by else "different inputs"
    note = f"{few} of {len(kinds)} classes have fewer than {k} {what}: some folds do not test them"
    return folds, units, [note] if few else []


def _with_choosing(table: Table, labels: Labels, rows: Rows, units: Rows, share: float, split: Split) -> Split:
    """The split with a share of the `rows` to choose by, those of the lowest hashes in each class, and the others to
    train; units stay whole."""
    if not 0 <= share < 1:
        raise RecipeError(f"valid = {share} is no share of the rows", where="data.split.valid", remedy="valid = 0.1")
    if share == 0:
        return replace(split, train=rows, how="all")
    _, first, number, sizes = np.unique(units[rows], return_index=True, return_inverse=True, return_counts=True)
    if len(first) < 2:
        what = "no row is left to train on: those that are not tested belong together, and some must choose"
        raise DataError(what, where=table.source, remedy="add rows, more folds, or valid = 0")
    lots = np.full(len(first), np.iinfo(np.uint64).max)
    np.minimum.at(lots, number, table.hashes[rows])
    kinds = np.zeros(len(first), np.int64) if labels is None else labels[rows][first]
    order = np.lexsort((lots, kinds))
    _, starts, counts = np.unique(kinds[order], return_index=True, return_counts=True)
    ends, totals = np.cumsum(sizes[order]), np.add.reduceat(sizes[order], starts)
    before = np.repeat(np.cumsum(totals) - totals, counts)
    place = np.empty(len(first))
    place[order] = (ends - sizes[order] / 2 - before) / np.repeat(totals, counts)
    choosing = place < share
    if not choosing.any():
        choosing = lots == lots.min()
    if choosing.all():
        choosing = lots != lots.max()
    return replace(split, train=rows[~choosing[number]], valid=rows[choosing[number]])


def _check_shares(valid: float, test: float) -> None:
    if valid < 0 or test < 0 or valid + test >= 1:
        raise RecipeError(
            f"valid = {valid} and test = {test} leave nothing to train on", remedy="for example valid = 0.1, test = 0.1"
        )


def _by_rank(table: Table, rank: npt.NDArray[np.int64], valid: float, test: float, how: str) -> Split:
    """The rows of the lowest ranks test, the next choose, the others train; rows of one rank fall together."""
    _, number, counts = np.unique(rank, return_inverse=True, return_counts=True)
    middle = ((np.cumsum(counts) - counts / 2) / counts.sum())[number]
    return _judged(
        table, split_of(np.where(middle < test, "test", np.where(middle < test + valid, "valid", "train")), how)
    )


def _judged(table: Table, split: Split) -> Split:
    """The split, if rows are left to train on; a note where none are left to judge by."""
    if not split.train.size:
        raise DataError("no row is left to train on", where=table.source, remedy="add rows, or smaller shares")
    return split if split.test.size else replace(split, notes=(*split.notes, OPTIMISTIC))


def column(table: Table, labels: Labels, *, column: str = "split") -> Split:
    """A column says for each row whether it is train, valid or test.

    `training`, `validation`, `val`, `dev` and `eval` are understood too. Without valid rows, a tenth of train becomes
    valid by hash.
    """
    encoded = pc.dictionary_encode(table.column(column).cast(pa.string())).combine_chunks()
    words = encoded.dictionary.to_pylist()
    codes = pc.fill_null(encoded.indices, len(words)).to_numpy(zero_copy_only=False)
    names = [PART_OF.get(word.strip().lower(), "") for word in words] + [""]
    if problems := [
        _wrong_word(table, column, codes, code, word)
        for code, word in enumerate([*words, None])
        if not names[code] and (codes == code).any()
    ]:
        raise DataError(problems)
    parts = np.array(names)[codes]
    notes = []
    if not (parts == "train").any():
        raise DataError(
            f'no row of the column "{column}" says train', where=table.source, remedy="mark the rows to train on"
        )
    if not (parts == "valid").any():
        parts, note = without_valid(parts, table.hashes)
        notes.append(note)
    if not (parts == "test").any():
        notes.append(OPTIMISTIC)
    return split_of(parts, "column", notes)


def _wrong_word(table: Table, column: str, codes: npt.NDArray[np.int64], code: int, word: str | None) -> Problem:
    rows = np.flatnonzero(codes == code)
    said = "nothing" if word is None else f'"{word}"'
    return Problem(
        f'the column "{column}" says {said} in {rows.size} rows',
        where=table.where(int(rows[0])),
        remedy="write train, valid or test",
    )


def _complete(parts: Parts, hashes: Hashes, labels: Labels, wanted: list[str]) -> list[str]:
    """Change `parts` in place until every class large enough has inputs in each; returns notes."""
    codes = np.zeros(hashes.size, np.int64) if labels is None else labels
    order = np.lexsort((hashes, codes))
    borders = np.flatnonzero(np.diff(codes[order])) + 1
    small, moved = 0, dict.fromkeys((*wanted, "train"), 0)
    for rows in np.split(order, borders):
        if not rows.size or codes[rows[0]] < 0:
            continue
        unique = np.unique(hashes[rows])
        if unique.size < INPUTS_OF_A_CLASS:
            small += 1
            parts[np.isin(hashes, unique)] = "train"
            continue
        for part, group in _moves(parts[rows], hashes[rows], wanted):
            parts[hashes == group] = part
            moved[part] += 1
    reason = "the rows are few" if labels is None else "rare classes"
    notes = [
        f"{reason}: {number} input{'s' if number > 1 else ''} went to {part}, which had none"
        for part, number in moved.items()
        if number
    ]
    if small and labels is not None:
        notes.append(f"{small} class{'es' if small > 1 else ''} with fewer than 3 different inputs only train")
    return notes


def _moves(parts: Parts, hashes: Hashes, wanted: list[str]) -> list[tuple[str, np.uint64]]:
    """Which inputs of one class, ordered by hash, must go where so that no part lacks the class: lowest to test and
    valid, highest to train."""
    unique, first = np.unique(hashes, return_index=True)
    placed = parts[first].copy()
    moves = []
    for part in (*wanted, "train"):
        if (placed == part).any():
            continue
        # Only an input whose part keeps another one may move; the parts are at most three, the inputs at least.
        spare = [index for index, name in enumerate(placed) if (placed == name).sum() > 1]
        index = spare[-1] if part == "train" else spare[0]
        placed[index] = part
        moves.append((part, unique[index]))
    return moves


def all(table: Table, labels: Labels) -> Split:
    """Every row trains; cross-validation makes the choices and gives the valid score."""
    none = np.empty(0, np.int64)
    return Split(np.arange(table.num_rows, dtype=np.int64), none, none, "all")


def given(table: Table, labels: Labels) -> Split:
    """The split is that of the files: one for train and at least one more for valid or test."""
    raise DataError(
        "there is one table only", where=table.source, remedy="name data.valid or data.test, or split by hash"
    )
