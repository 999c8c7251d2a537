"""Cleaning: one function a step, each says what it found, what became of which rows, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tunesmith.data import profile
from tunesmith.data.ledger import SHOWN, Action, Entry, Ledger
from tunesmith.data.similar import Pairs, groups
from tunesmith.data.split import PARTS, Rows, Split, split_of
from tunesmith.data.table import Table
from tunesmith.errors import DataError

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Cleaned:
    """A Split after a step; `found`: how many rows the step is about, whatever became of them."""

    split: Split
    entries: tuple[Entry, ...] = ()
    found: int = 0
    notes: tuple[str, ...] = ()


def without_missing(
    table: Table, part: str, inputs: Sequence[str], target: Sequence[str], how: str
) -> tuple[Table, list[Entry]]:
    """The rows that have a value in every input and target; DataError with the others unless they are dropped."""
    used = [name for name in (*inputs, *target) if name in table.column_names]
    missing = profile.missing_rows(table, used)
    if not len(missing):
        return table, []
    lacking = f"no value in {' or '.join(used)}"
    if how == "error":
        shown = ", ".join(f"row {place.rpartition('row ')[2]}" for place in _places(table, missing))
        what = f"{len(missing)} rows have {lacking}: {shown}{' ...' if len(missing) > SHOWN else ''}"
        raise DataError(
            what, where=table.source, remedy="fill them in, or leave them out: --set data.clean.missing=drop"
        )
    kept = np.setdiff1d(np.arange(table.num_rows), missing)
    return table.take(kept), [_entry(table, part, "missing", "dropped", missing, lacking)]


def limited(table: Table, part: str, limit: int | None) -> tuple[Table, list[Entry]]:
    """At most `limit` rows, chosen by a lot of their own: the lot of the split would take test rows only."""
    if limit is None or limit >= table.num_rows:
        return table, []
    lot = table.hashes * np.uint64(0x9E3779B97F4A7C15)
    kept = np.sort(np.argsort(lot, kind="stable")[:limit])
    entry = Entry(part, "limit", "dropped", table.num_rows - limit, f"data.limit is {limit:,}")
    return table.take(kept), [entry]


def cleaned(
    how: Mapping[str, str], table: Table, columns: Sequence[str], split: Split, pairs: Pairs, ledger: Ledger
) -> tuple[Split, Ledger, list[str]]:
    """All steps that look at rows beside each other, in order; `how`: step -> what the recipe says of it. `pairs` are
    the rows that are nearly the same, `columns` those of the target."""
    target = numbered(table, columns)
    notes: list[str] = []
    for name, step in (("duplicates", duplicates), ("conflicts", conflicts)):
        done = step(table, target, split, how[name])
        split, notes, ledger = done.split, [*notes, *done.notes], ledger.noted(name, done.found, done.entries)
    done = leaks(table, split, pairs, how["leaks"])
    return done.split, ledger.noted("leaks", done.found, done.entries), [*notes, *done.notes]


def duplicates(table: Table, target: Numbers, split: Split, how: str) -> Cleaned:
    """Training rows that repeat the inputs and the target of another: kept once if `how` is "drop"."""
    again = _repeated(np.column_stack([_ranks(table.hashes[split.train]), target[split.train]]))
    rows = split.train[again]
    if not len(rows):
        return Cleaned(split)
    if how == "drop":
        why = "another training row has the same inputs and target"
        entry = _entry(table, "train", "duplicates", "dropped", rows, why)
        return Cleaned(_without(split, rows), (entry,), len(rows))
    note = f"{_rows(rows)} of train repeat{'s' * (len(rows) == 1)} another: {_named(table, rows)}"
    return Cleaned(split, (), len(rows), (note + _remedy("duplicates"),))


def conflicts(table: Table, target: Numbers, split: Split, how: str) -> Cleaned:
    """Rows whose inputs are those of another one with another target. If `how` is "drop", those that train are left
    out; those to judge by stay, and of each pair of them one is right."""
    used = np.flatnonzero(_part_of(table, split) >= 0)
    inputs = _ranks(table.hashes[used])
    pairs = np.unique(np.column_stack([inputs, target[used]]), axis=0)
    values, counts = np.unique(pairs[:, 0], return_counts=True)
    rows = used[np.isin(inputs, values[counts > 1])]
    train = np.intersect1d(rows, split.train)
    if how == "drop" and len(train):
        entry = _entry(table, "train", "conflicts", "dropped", train, "the same inputs have another target elsewhere")
        return Cleaned(_without(split, train), (entry,), len(rows))
    note = f"{_rows(rows)}, {len(train):,} of them in train, have the inputs of another row and another target: "
    told = (note + _named(table, rows) + _remedy("conflicts"),) if len(rows) and how == "keep" else ()
    return Cleaned(split, (), len(rows), told)


def leaks(table: Table, split: Split, pairs: Pairs, how: str) -> Cleaned:
    """Rows to judge by that are nearly the same as rows of a part before theirs (train, valid, test in this order).

    "drop" leaves out the row of the part before. "move" brings all rows of a kind into one part: where the split was
    made by hash, to that of the row with the lowest hash, so that each part keeps its share; else to the last."""
    part = _part_of(table, split)
    # Rows that are the same are of one kind, whichever two of them stand in a pair, also over one that was left out.
    same = pairs.similarity == 1
    kind = groups(table.num_rows, Pairs(pairs.first[same], pairs.second[same], pairs.similarity[same]))
    used = np.flatnonzero(part >= 0)
    there = np.zeros((table.num_rows, len(PARTS)), bool)
    there[kind[used], part[used]] = True
    near = there.copy()
    for one, two in ((pairs.first, pairs.second), (pairs.second, pairs.first)):
        np.logical_or.at(near, kind[one], there[kind[two]])
    judged = used[_earlier(near)[kind[used], part[used]]]
    if not len(judged):
        return Cleaned(split)
    if how == "drop":
        gone = used[_earlier(near[:, ::-1])[:, ::-1][kind[used], part[used]]]
        why = "nearly the same as a row of a part after theirs"
        entries = [_entry(table, PARTS[n], "leaks", "dropped", gone[part[gone] == n], why) for n in (0, 1)]
        return Cleaned(_without(split, gone), tuple(entry for entry in entries if entry.rows), len(judged))
    if how == "move":
        return _together(table, split, pairs, part, len(judged))
    exact, notes = _earlier(there)[kind, part], []
    for number in (2, 1):
        rows = judged[part[judged] == number]
        if len(rows):
            total, alike = len(getattr(split, PARTS[number])), int(exact[rows].sum())
            before = used[(part[used] < number) & np.isin(kind[used], _near(kind[rows[0]], kind, pairs))]
            notes.append(
                f"leaks: of {total:,} {PARTS[number]} rows {alike:,} are the same as a row of a part before, and "
                f"{len(rows) - alike:,} nearly the same, such as {table.where(int(rows[0]))} and "
                f"{table.where(int(before[0]))}: their scores flatter{_remedy('leaks')}"
            )
    return Cleaned(split, (), len(judged), tuple(notes))


def _earlier(there: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """For each kind and part, whether a part before has it."""
    found: npt.NDArray[np.bool_] = np.greater(np.cumsum(there, 1), there)
    return found


def _near(one: int, kind: Numbers, pairs: Pairs) -> Numbers:
    """A kind, and those that are nearly the same."""
    first, second = kind[pairs.first], kind[pairs.second]
    return np.concatenate([[one], second[first == one], first[second == one]])


def numbered(table: Table, columns: Sequence[str]) -> Numbers:
    """One number a row that is the same for the same values in `columns`."""
    found = np.zeros(table.num_rows, np.int64)
    for name in columns:
        values = table.column(name)
        if pa.types.is_nested(values.type):
            values = pa.chunked_array([pa.array([repr(value) for value in values.to_pylist()], pa.string())])
        column = profile.codes(values)[0]
        _, found = np.unique(found * (int(column.max(initial=0)) + 1) + column, return_inverse=True)
    return found.astype(np.int64)


def over_limits(found: Mapping[str, float], limits: Mapping[str, float], where: str) -> None:
    """DataError for each share of rows (or tokens) that is over what the recipe allows."""
    over = [
        f"{name}: {share:.2%}, allowed {limits[name]:.2%}"
        for name, share in found.items()
        if name in limits and share > limits[name]
    ]
    if over:
        remedy = "mend the data, or raise the limit in data.limits"
        raise DataError(f"more rows than data.limits allows ({'; '.join(over)})", where=where, remedy=remedy)


def _together(table: Table, split: Split, pairs: Pairs, part: Numbers, found: int) -> Cleaned:
    used, kind = np.flatnonzero(part >= 0), groups(table.num_rows, pairs)
    rank = table.hashes.astype(np.float64) if split.how == "hash" else -part.astype(np.float64)
    order = used[np.lexsort((rank[used], kind[used]))]
    _, first = np.unique(kind[order], return_index=True)
    home = np.empty(table.num_rows, np.int64)
    home[kind[order][first]] = part[order[first]]
    goes = np.where(part >= 0, home[kind], part)
    why = "nearly the same as a row of that part"
    entries = [
        replace(_entry(table, PARTS[a], "leaks", "moved", np.flatnonzero((part == a) & (goes == b)), why), to=PARTS[b])
        for a in range(3)
        for b in range(3)
        if a != b and ((part == a) & (goes == b)).any()
    ]
    names = np.array([*PARTS, ""])
    return Cleaned(split_of(names[goes], split.how, split.notes), tuple(entries), found)


def _part_of(table: Table, split: Split) -> Numbers:
    """For each row 0, 1 or 2 in the order of `PARTS`; -1 for one of no part."""
    part = np.full(table.num_rows, -1, np.int64)
    for number, name in enumerate(PARTS):
        part[getattr(split, name)] = number
    return part


def _without(split: Split, rows: Rows) -> Split:
    train, valid, test = (np.setdiff1d(getattr(split, part), rows) for part in PARTS)
    return replace(split, train=train, valid=valid, test=test)


def _ranks(hashes: npt.NDArray[np.uint64]) -> Numbers:
    return np.unique(hashes, return_inverse=True)[1].astype(np.int64)


def _repeated(values: Numbers) -> Numbers:
    """The places of rows that stand further up already."""
    _, first = np.unique(values, axis=0, return_index=True)
    return np.setdiff1d(np.arange(len(values)), first)


def _entry(table: Table, part: str, step: str, action: Action, rows: Rows, why: str) -> Entry:
    return Entry(part, step, action, len(rows), why, where=tuple(_places(table, rows)))


def _places(table: Table, rows: Rows) -> list[str]:
    return [table.where(int(row)) for row in rows[:SHOWN]]


def _named(table: Table, rows: Rows) -> str:
    return ", ".join(_places(table, rows[:3])) + (" ..." if len(rows) > 3 else "")


def _remedy(step: str) -> str:
    return f"; --set data.clean.{step}=drop"


def _rows(rows: Rows) -> str:
    return f"{len(rows):,} row{'s' * (len(rows) != 1)}"
