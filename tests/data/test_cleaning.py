"""Cleaning: each step finds what is planted, does what it is told, and the ledger adds up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data import cleaning, similar
from tunesmith.data.ledger import Entry, Ledger
from tunesmith.data.sources import open_source
from tunesmith.data.split import split_of
from tunesmith.errors import DataError

KEEP = {"duplicates": "keep", "conflicts": "keep", "leaks": "keep"}


def made(rows, how="given"):
    """(text, label, part) -> the table, its split and the numbers of its targets."""
    texts, labels, parts = (list(values) for values in zip(*rows, strict=True))
    table = open_source({"text": texts, "label": labels})[""].identified(["text"])
    return table, split_of(np.array(parts), how), cleaning.numbered(table, ["label"])


ROWS = [
    ("the first of the long sentences here", "a", "train"),
    ("the first of the long sentences here", "a", "train"),
    ("a second one that is told twice", "a", "train"),
    ("a second one that is told twice", "b", "train"),
    ("nothing else is like this third row", "b", "train"),
    ("the first of the long sentences here", "a", "valid"),
    ("a fourth sentence that only tests", "b", "test"),
    ("nothing else is like this third row", "b", "test"),
]


def test_duplicates_are_told_or_kept_once():
    table, split, target = made(ROWS)
    kept = cleaning.duplicates(table, target, split, "keep")
    assert kept.split is split and kept.found == 1 and "row 2" in kept.notes[0]
    dropped = cleaning.duplicates(table, target, split, "drop")
    assert dropped.split.train.tolist() == [0, 2, 3, 4] and dropped.split.valid.tolist() == [5]
    assert [(entry.part, entry.rows, entry.where) for entry in dropped.entries] == [("train", 1, (table.where(1),))]


def test_conflicts_are_told_or_all_left_out():
    table, split, target = made(ROWS)
    assert cleaning.conflicts(table, target, split, "keep").found == 2
    dropped = cleaning.conflicts(table, target, split, "drop")
    assert dropped.split.train.tolist() == [0, 1, 4] and dropped.entries[0].rows == 2


def test_leaks_are_told_with_an_example_left_out_before_or_brought_together():
    table, split, _ = made(ROWS)
    pairs = similar.of_hashes(table.hashes)
    told = cleaning.leaks(table, split, pairs, "keep")
    assert told.found == 2 and "of 2 test rows 1 are the same" in told.notes[0] and "row 8" in told.notes[0]
    assert "of 1 valid rows 1 are the same" in told.notes[1]
    dropped = cleaning.leaks(table, split, pairs, "drop")
    assert dropped.split.train.tolist() == [2, 3] and dropped.split.test.tolist() == [6, 7]
    moved = cleaning.leaks(table, split, pairs, "move")
    assert moved.split.test.tolist() == [4, 6, 7] and moved.split.valid.tolist() == [0, 1, 5]
    assert {(entry.part, entry.to, entry.rows) for entry in moved.entries} == {
        ("train", "valid", 2),
        ("train", "test", 1),
    }


def test_of_a_split_by_hash_a_kind_goes_where_its_lowest_hash_fell():
    rows = [("one and the same text in many parts", "a", part) for part in ("train", "valid", "test")] * 4
    table, split, _ = made(rows, "hash")
    table = cleaning.replace(table, hashes=np.arange(12, dtype=np.uint64)[::-1].copy())
    first, *rest = np.arange(12)
    pairs = similar.Pairs(np.full(11, first), np.array(rest), np.ones(11))
    moved = cleaning.leaks(table, split, pairs, "move")
    assert moved.split.test.tolist() == list(range(12)), "row 12, of test, has the lowest"


def test_what_is_over_the_limits_stops_with_the_shares():
    cleaning.over_limits({"leaks": 0.01, "dropped": 0.0}, {"leaks": 0.02}, "x.csv")
    with pytest.raises(DataError, match=r"x.csv.*leaks: 3.00%, allowed 2.00%"):
        cleaning.over_limits({"leaks": 0.03}, {"leaks": 0.02}, "x.csv")


STEPS = st.sampled_from(["keep", "drop"])
ROW = st.tuples(
    st.sampled_from([f"a sentence of some length, number {n}" for n in range(8)]),
    st.sampled_from("ab"),
    st.sampled_from(["train", "valid", "test"]),
)


@settings(deadline=None)
@given(
    st.lists(ROW, min_size=3, max_size=40),
    STEPS,
    STEPS,
    st.sampled_from(["keep", "drop", "move"]),
    st.sampled_from(["given", "hash"]),
)
def test_every_row_is_accounted_for_whatever_the_steps_do(rows, duplicates, conflicts, leaks, how):
    rows = sorted(rows, key=lambda row: ["train", "valid", "test"].index(row[2]))
    table, split, _ = made(rows, how)
    read = {part: sum(row[2] == part for row in rows) for part in ("train", "valid", "test")}
    steps = {"duplicates": duplicates, "conflicts": conflicts, "leaks": leaks}
    pairs = similar.of_rows(table, ["text"], "text")
    cleaned, ledger, _ = cleaning.cleaned(steps, table, ["label"], split, pairs, Ledger(read))
    used = {part: len(getattr(cleaned, part)) for part in read}
    ledger = cleaning.replace(ledger, used=used)
    assert ledger.problems() == []
    if leaks != "keep":
        again = cleaning.leaks(table, cleaned, pairs, "keep")
        assert again.found == 0, "no row is left in two parts"
        parts = [{rows[row][0] for row in getattr(cleaned, part)} for part in read]
        assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    wrong = cleaning.replace(ledger, used=used | {"train": used["train"] + 1})
    assert wrong.problems(), "a row too many is seen"


def test_tokens_add_up_or_are_told():
    entry = Entry("train", "max_length", "cut", 2, "longer than 8 tokens", amount=5)
    ledger = Ledger({"": 3}, (entry,), {"train": 3}, {"train": (29, 24)})
    assert ledger.problems() == [] and "5 cut off" in str(ledger)
    assert Ledger({"": 3}, (), {"train": 3}, {"train": (29, 24)}).problems() == [
        "train: 29 tokens read, 24 used, 0 cut off"
    ]
    assert Ledger({"": 3}, (), {"train": 2}).problems() == ["3 rows read, 2 used, 0 dropped"]
