"""The ways to split one table, registered by function name: by the hash of each row, or by a column that tells."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.split import OPTIMISTIC, PART_OF, Hashes, Split, shares, split_of, without_valid
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
    if valid < 0 or test < 0 or valid + test >= 1:
        raise RecipeError(
            f"valid = {valid} and test = {test} leave nothing to train on", remedy="for example valid = 0.1, test = 0.1"
        )
    lot = shares(table.hashes)
    parts = np.where(lot < test, "test", np.where(lot < test + valid, "valid", "train"))
    wanted = [part for part, share in (("test", test), ("valid", valid)) if share > 0]
    notes = _complete(parts, table.hashes, labels, wanted)
    split = split_of(parts, "hash", notes)
    if not split.train.size:
        raise DataError("no row is left to train on", where=table.source, remedy="add rows")
    return split


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
