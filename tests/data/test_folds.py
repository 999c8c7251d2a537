"""Folds: each row is tested once, equal inputs and groups stay whole, and classes are spread evenly."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tunesmith.data import splits
from tunesmith.data.split import each_fold, inseparable
from tunesmith.data.table import Table
from tunesmith.errors import DataError, RecipeError

ROWS = st.lists(st.tuples(st.integers(0, 25), st.integers(0, 2), st.integers(0, 9)), min_size=8, max_size=80)


def table_of(inputs, groups=None):
    columns = {"text": [f"text {number}" for number in inputs]}
    columns |= {} if groups is None else {"site": [f"site {number}" for number in groups]}
    return Table(arrow=pa.table(columns), origin=(("toy.csv", len(inputs)),)).identified(["text"])


def folds_of(table, labels, **options):
    return [splits.fold(table, labels, **one) for one in each_fold(**options)]


@given(ROWS, st.integers(2, 6), st.integers(0, 2), st.booleans(), st.sampled_from([0.0, 0.1, 0.5]))
def test_each_row_is_tested_once_and_what_belongs_together_is_never_apart(rows, k, seed, grouped, valid):
    inputs, labels, groups = (np.array(column) for column in zip(*rows, strict=True))
    table = table_of(inputs, groups)
    units = inseparable(table.hashes, groups if grouped else None)
    assume(len(set(units)) > 2 * k)
    options = {"k": k, "seed": seed, "valid": valid, "by": "site" if grouped else ""}
    try:
        made = folds_of(table, labels, **options)
    except DataError as error:
        # Of two folds one may be a single large group, of which none can be set aside to choose by.
        assert k == 2 and valid and "no row is left to train on" in str(error)
        assert any(len(set(units[split.train])) == 1 for split in folds_of(table, labels, **options | {"valid": 0.0}))
        return
    assert sorted(np.concatenate([split.test for split in made]).tolist()) == list(range(len(rows)))
    for split in made:
        parts = (split.train, split.valid, split.test)
        assert sorted(np.concatenate(parts).tolist()) == list(range(len(rows)))
        assert split.train.size and split.test.size and bool(split.valid.size) == (valid > 0)
        for kind in (inputs, groups) if grouped else (inputs,):
            held = [set(kind[part]) for part in parts]
            assert not held[0] & held[1] and not held[0] & held[2] and not held[1] & held[2]
    whole = splits.kfold(table, labels, **options)
    assert not whole.test.size and whole.train.size + whole.valid.size == len(rows)


@pytest.mark.parametrize("k", [3, 5])
def test_classes_are_spread_as_evenly_as_they_can_be(k):
    labels = np.array([0] * 70 + [1] * 23 + [2] * 7)
    table = table_of(range(100))
    for split in folds_of(table, labels, k=k):
        for label, count in enumerate((70, 23, 7)):
            found = int((labels[split.test] == label).sum())
            assert found in (count // k, -(-count // k))
            chosen = int((labels[split.valid] == label).sum())
            assert abs(chosen - (count - found) * 0.1) <= 0.5
        assert len(split.test) in (100 // k, -(-100 // k))


def test_groups_of_unlike_size_fill_folds_evenly_and_so_do_their_classes():
    random = np.random.default_rng(0)
    sizes = random.integers(2, 30, 60)
    groups = np.repeat(np.arange(60), sizes)
    labels = np.repeat(random.integers(0, 3, 60), sizes)
    table = table_of(range(len(groups)), groups)
    shares = np.bincount(labels) / len(labels)
    for split in folds_of(table, labels, k=4, by="site"):
        assert abs(len(split.test) / len(groups) - 0.25) < 0.03
        assert np.abs(np.bincount(labels[split.test]) / len(split.test) - shares).max() < 0.08
        assert 0.02 < len(split.valid) / len(groups) < 0.15


def test_equal_inputs_join_the_groups_that_they_stand_in():
    hashes = np.array([1, 2, 2, 3, 4, 5, 5, 6], np.uint64)
    groups = np.array([0, 0, 1, 1, 2, 2, 3, 4])
    numbers = inseparable(hashes, groups)
    assert numbers[0] == numbers[1] == numbers[2] == numbers[3]
    assert numbers[4] == numbers[5] == numbers[6] != numbers[0]
    assert len(set(numbers.tolist())) == 3


@pytest.mark.parametrize("by", ["", "site"])
def test_a_repeat_and_a_seed_draw_other_folds_and_the_same_again(by):
    table, labels = table_of(range(60), np.arange(60) // 2), np.arange(60) % 3
    first, again = (folds_of(table, labels, k=3, by=by) for _ in range(2))
    assert all((one.test == other.test).all() for one, other in zip(first, again, strict=True))
    twice = folds_of(table, labels, k=3, repeats=2, by=by)
    held = {tuple(split.test) for split in twice} | {tuple(s.test) for s in folds_of(table, labels, k=3, seed=1, by=by)}
    assert len(held) == 9


def test_the_rows_that_choose_are_those_of_the_lowest_hashes_whatever_the_seed():
    table = table_of(range(60))
    chosen = [splits.kfold(table, None, seed=seed).valid for seed in (0, 1)]
    assert (chosen[0] == chosen[1]).all()
    assert set(chosen[0]) == set(np.argsort(table.hashes)[:6])


def test_without_a_share_to_choose_by_all_rows_train_by_cross_validation():
    split = splits.fold(table_of(range(20)), None, k=4, valid=0)
    assert (split.how, split.valid.size, split.train.size) == ("all", 0, 15)


def test_rare_classes_are_told():
    split = splits.kfold(table_of(range(40)), np.array([0] * 37 + [1] * 3), k=5)
    assert split.notes == (
        "5 folds of 8 to 8 rows",
        "1 of 2 classes have fewer than 5 different inputs: some folds do not test them",
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"k": 1}, "data.split.k: k = 1 folds leave nothing"),
        ({"repeats": 0}, "data.split.repeats: repeats = 0"),
        ({"valid": 1.0}, "data.split.valid: valid = 1.0"),
        ({"valid": -0.1}, "data.split.valid"),
    ],
)
def test_what_makes_no_folds_is_an_error_of_the_recipe(options, said):
    with pytest.raises(RecipeError, match=said):
        splits.kfold(table_of(range(20)), None, **options)


@pytest.mark.parametrize("options", [{"fold": 6}, {"fold": 0}, {"repeat": 0}])
def test_a_fold_that_is_not_there_is_an_error(options):
    with pytest.raises(RecipeError, match="counted from 1"):
        splits.fold(table_of(range(20)), None, **options)


def test_more_folds_than_inputs_or_groups_are_an_error():
    with pytest.raises(DataError, match=r"toy.csv: 3 different inputs cannot fill 5 folds\n  -> k = 3 at most"):
        splits.kfold(table_of([1, 1, 1, 2, 2, 3, 3]), None)
    with pytest.raises(DataError, match='4 groups by "site"'):
        splits.fold(table_of(range(20), np.arange(20) % 4), None, by="site")
