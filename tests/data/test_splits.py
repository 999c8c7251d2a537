"""Splits and folds: laws that hold for every table."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tunesmith import plugins
from tunesmith.data import splits
from tunesmith.data.split import join, make_folds
from tunesmith.data.table import Table
from tunesmith.errors import DataError, RecipeError

HASHES = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=60).map(lambda found: np.array(found, np.uint64))


def table_of(hashes):
    return Table(arrow=pa.table({"row": np.arange(len(hashes))}), origin=(("toy.csv", len(hashes)),), hashes=hashes)


def labelled(labels=3):
    few = st.integers(0, 9).map(lambda n: n * (2**64 // 10))
    pair = st.tuples(st.one_of(few, st.integers(0, 2**64 - 1)), st.integers(0, labels - 1))
    return st.lists(pair, min_size=1, max_size=80).map(
        lambda rows: (np.array([row[0] for row in rows], np.uint64), np.array([row[1] for row in rows]))
    )


def texts(values, **columns):
    return Table(arrow=pa.table({"text": values, **columns}), origin=(("toy.csv", len(values)),)).identified(["text"])


def test_splits_are_registered_by_their_function_names():
    assert {"column", "hash"} <= set(plugins.names("split"))
    assert not {"join", "make_folds", "split_of"} & set(plugins.names("split"))
    assert list(plugins.options(plugins.get("split", "hash"))) == ["valid", "test"]


@given(labelled())
def test_every_row_is_in_exactly_one_part_and_equal_inputs_fall_together(rows):
    hashes, labels = rows
    split = splits.hash(table_of(hashes), labels)
    together = np.concatenate([split.train, split.valid, split.test])
    assert sorted(together.tolist()) == list(range(len(hashes)))
    assert not set(hashes[split.train]) & set(hashes[split.test])
    assert not set(hashes[split.train]) & set(hashes[split.valid])
    assert not set(hashes[split.valid]) & set(hashes[split.test])


@given(HASHES, HASHES)
def test_adding_rows_moves_no_old_row(old, new):
    base = np.concatenate([np.array([1, 2**64 // 10 * 3 // 2, 2**63], np.uint64), old])
    before = splits.hash(table_of(base), None)
    after = splits.hash(table_of(np.concatenate([base, new])), None)
    for part in ("train", "valid", "test"):
        rows = getattr(after, part)
        assert rows[rows < base.size].tolist() == getattr(before, part).tolist()


@given(st.lists(st.integers(0, 2**64 - 1), min_size=9, max_size=60, unique=True), st.integers(1, 3))
def test_every_class_of_three_different_inputs_is_in_every_part(found, num_classes):
    hashes = np.array(found, np.uint64)
    labels = np.arange(hashes.size) % num_classes
    split = splits.hash(table_of(hashes), labels)
    for rows in (split.train, split.valid, split.test):
        assert set(labels[rows]) == set(range(num_classes))


def test_a_rare_class_gives_its_lowest_hashes_and_it_is_told():
    hashes = np.array([2**63 + n for n in range(5)], np.uint64)
    split = splits.hash(table_of(hashes), np.zeros(5, np.int64))
    assert (split.test.tolist(), split.valid.tolist(), split.train.tolist()) == ([0], [1], [2, 3, 4])
    assert len(split.notes) == 2
    assert split.notes[0] == "rare classes: 1 input went to test, which had none"


def test_a_class_with_two_inputs_only_trains_and_it_is_told():
    hashes = np.array([1, 2, *(2**61 * n for n in range(8))], np.uint64)
    split = splits.hash(table_of(hashes), np.array([1, 1] + [0] * 8))
    assert {0, 1} <= set(split.train.tolist())
    assert any("fewer than 3" in note for note in split.notes)


def test_the_shares_are_kept():
    hashes = texts([f"row {n}" for n in range(5000)]).hashes
    split = splits.hash(table_of(hashes), None, valid=0.2, test=0.1)
    assert abs(split.valid.size / 5000 - 0.2) < 0.02
    assert abs(split.test.size / 5000 - 0.1) < 0.02
    assert splits.hash(table_of(hashes), None, test=0.0).test.size == 0


def test_shares_that_leave_nothing_are_an_error():
    with pytest.raises(RecipeError, match="nothing to train on"):
        splits.hash(table_of(np.array([1], np.uint64)), None, valid=0.5, test=0.5)


def test_a_column_says_where_rows_go():
    table = texts(list("abcd"), split=["Train", "dev", "test", "training "])
    split = splits.column(table, None)
    assert (split.train.tolist(), split.valid.tolist(), split.test.tolist()) == ([0, 3], [1], [2])
    assert split.how == "column"


def test_wrong_words_in_the_split_column_are_all_named():
    table = texts(list("abcd"), split=["train", "tset", None, "tset"])
    with pytest.raises(DataError) as caught:
        splits.column(table, None)
    assert len(caught.value.problems) == 2
    assert 'toy.csv, row 2: the column "split" says "tset" in 2 rows' in str(caught.value)


def test_a_column_without_train_is_an_error():
    with pytest.raises(DataError, match="says train"):
        splits.column(texts(["a"], split=["test"]), None)


def test_files_given_as_parts_are_joined():
    tables = {
        "test": texts(["c"], label=[0]),
        "train": texts(["a"], label=[1], more=[1]),
        "valid": texts(["b"], label=[1]),
    }
    table, split = join(tables, ["text"], ["text", "label"])
    assert table.column_names == ("text", "label")
    assert [table.column("text")[int(rows[0])].as_py() for rows in (split.train, split.valid, split.test)] == list(
        "abc"
    )
    assert (split.how, split.notes) == ("given", ())


def test_without_valid_a_tenth_of_train_is_taken_and_told():
    tables = {"train": texts([str(n) for n in range(1000)]), "test": texts(["x"])}
    _, split = join(tables, ["text"], ["text"])
    assert 60 < split.valid.size < 140
    assert split.test.tolist() == [1000]
    assert "became valid" in split.notes[0]


def test_without_test_the_valid_score_is_called_optimistic():
    _, split = join({"train": texts(["a"]), "valid": texts(["b"])}, ["text"], ["text"])
    assert split.test.size == 0
    assert "no test rows" in split.notes[0]


def test_a_column_that_one_file_lacks_is_named_with_the_file():
    tables = {"train": texts(["a"], label=[1]), "test": texts(["b"])}
    with pytest.raises(DataError, match=r'toy.csv: the column "label" is missing'):
        join(tables, ["text"], ["text", "label"])


def test_test_without_train_is_an_error():
    with pytest.raises(DataError, match="no file to train on"):
        join({"test": texts(["a"])}, ["text"], ["text"])


@given(labelled(), st.integers(2, 6))
def test_folds_hold_each_row_out_once_and_keep_equal_inputs_together(rows, k):
    hashes, labels = rows
    assume(np.unique(hashes).size > 1)
    folds = make_folds(hashes, labels, k)
    assert sorted(np.concatenate([held for _, held in folds]).tolist()) == list(range(hashes.size))
    for train, held in folds:
        assert sorted([*train, *held]) == list(range(hashes.size))
        assert not set(hashes[train]) & set(hashes[held])


@given(st.permutations(list(range(40))))
def test_folds_do_not_depend_on_the_order_of_the_rows(order):
    hashes = texts([str(n) for n in range(40)]).hashes
    labels = np.arange(40) % 3
    held = [set(hashes[rows]) for _, rows in make_folds(hashes, labels, 4)]
    again = [set(hashes[order][rows]) for _, rows in make_folds(hashes[order], labels[order], 4)]
    assert held == again


def test_folds_spread_each_class_evenly():
    hashes = texts([str(n) for n in range(60)]).hashes
    labels = np.repeat([0, 1, 2], [30, 20, 10])
    counts = np.array([np.bincount(labels[held], minlength=3) for _, held in make_folds(hashes, labels, 5)])
    assert (np.ptp(counts, axis=0) <= 1).all()


def test_k_is_lowered_to_the_rarest_class():
    hashes = texts([str(n) for n in range(10)]).hashes
    assert len(make_folds(hashes, np.array([0] * 7 + [1] * 3), 5)) == 3
    assert len(make_folds(hashes, np.array([0] * 9 + [1]), 5)) == 2
    assert len(make_folds(hashes, None, 5)) == 5


def test_one_input_makes_no_folds():
    with pytest.raises(DataError, match="two different inputs"):
        make_folds(np.array([1, 1], np.uint64), None, 2)


OWN = {"random": {}, "stratified": {}, "group": {"by": "who"}, "time": {"by": "when"}}


@pytest.mark.parametrize("name", OWN)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2), st.integers(0, 9)), min_size=30, max_size=120))
def test_each_way_to_split_divides_the_rows_and_keeps_equal_inputs_together(name, rows):
    texts_, labels, who = (list(values) for values in zip(*rows, strict=True))
    assume(len(set(who)) > 3)
    table = texts([f"text {text}" for text in texts_], who=[f"w{one}" for one in who], when=texts_)
    split = plugins.get("split", name)(table, np.array(labels), **OWN[name])
    together = np.concatenate([split.train, split.valid, split.test])
    assert sorted(together.tolist()) == list(range(len(rows))) and len(split.train)
    of = np.array(who) if name == "group" else np.array(texts_)
    parts = [set(of[getattr(split, part)].tolist()) for part in ("train", "valid", "test")]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    if name == "time" and len(split.test) and len(split.valid):
        assert max(parts[0]) < min(parts[1]) and max(parts[1]) < min(parts[2]), "what comes after is judged"


def test_a_lot_gives_the_shares_and_another_seed_another_split():
    table = texts([f"text {row}" for row in range(1000)])
    one, two = (splits.random(table, None, valid=0.2, test=0.3, seed=seed) for seed in (0, 1))
    assert (len(one.test), len(one.valid)) == (300, 200) == (len(two.test), len(two.valid))
    assert set(one.test.tolist()) != set(two.test.tolist())
    assert splits.random(table, None, valid=0.2, test=0.3).test.tolist() == one.test.tolist()


def test_each_class_has_its_share_in_each_part():
    labels = np.array([0] * 900 + [1] * 90 + [2] * 10)
    split = splits.stratified(texts([f"text {row}" for row in range(1000)]), labels, valid=0.2, test=0.1)
    counts = {part: np.bincount(labels[getattr(split, part)]).tolist() for part in ("valid", "test")}
    assert counts == {"valid": [180, 18, 2], "test": [90, 9, 1]}


def test_a_group_may_be_a_part_of_a_name_and_a_wrong_pattern_is_told():
    names = [f"{row % 10}_{who}_{row}.wav" for who in ("anna", "bert", "carl", "dora") for row in range(20)]
    table = texts(names)
    split = splits.group(table, None, by="text", pattern="_([a-z]+)_", test=0.25, valid=0.25)
    parts = [{names[row].split("_")[1] for row in getattr(split, part)} for part in ("train", "valid", "test")]
    assert sum(map(len, parts)) == 4 and all(parts) and "4 groups" in split.notes[0]
    with pytest.raises(DataError, match=r"toy.csv, row 1.*finds nothing"):
        splits.group(table, None, by="text", pattern="[A-Z]")
    with pytest.raises(RecipeError, match="no regular expression"):
        splits.group(table, None, by="text", pattern="(")
    with pytest.raises(DataError, match="names 1 group"):
        splits.group(texts(["a", "b", "c"], who=["x"] * 3), None, by="who")


def test_groups_fill_the_shares_and_stay_where_they_are_when_rows_are_added():
    who = [f"person {row // 5}" for row in range(200)]
    split = splits.group(texts([f"text {row}" for row in range(200)], who=who), None, by="who", test=0.25, valid=0.1)
    assert (len(split.test), len(split.valid), len(split.train)) == (50, 20, 130)
    one = splits.group(texts(["x"] * 200, who=who[::-1]), None, by="who", test=0.25, valid=0.1)
    assert {who[::-1][row] for row in one.test} == {who[row] for row in split.test}


def test_time_reads_dates_and_names_the_row_that_has_none():
    when = ["2024-03-01", "2023-12-31", "2024-01-15T10:00", "2022-01-01", "2023-06-01"]
    split = splits.time(texts(list("abcde"), when=when), None, by="when", valid=0.2, test=0.2)
    assert (split.test.tolist(), split.valid.tolist()) == ([0], [2])
    with pytest.raises(DataError, match=r"row 2.*\"soon\""):
        splits.time(texts(["a", "b"], when=["2024-01-01", "soon"]), None, by="when")


@pytest.mark.parametrize("name", OWN)
def test_shares_that_leave_nothing_are_refused(name):
    table = texts(list("abcdef"), who=list("uvwxyz"), when=list(range(6)))
    with pytest.raises(RecipeError, match="leave nothing to train on"):
        plugins.get("split", name)(table, None, **OWN[name], valid=0.5, test=0.5)
