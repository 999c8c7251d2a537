"""The order of rows: every row once, pure in seed and epoch, like lengths together; parts of a batch."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.data.order import balanced, epoch_batches, parts

SIZES = st.integers(1, 300), st.integers(1, 40)


@given(*SIZES, st.booleans(), st.integers(0, 5), st.integers(0, 5))
def test_every_row_comes_once_an_epoch_in_whole_batches_but_one(num_rows, batch, lengths, seed, epoch):
    known = np.arange(num_rows) % 13 if lengths else None
    batches = epoch_batches(num_rows, known, batch=batch, seed=seed, epoch=epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(num_rows))
    assert len(batches) == -(-num_rows // batch)
    sizes = sorted(map(len, batches))
    if num_rows % batch == 1 and len(batches) > 1 and batch > 2:
        # BatchNorm has no statistics of one row: the batch before gives one of its own.
        assert sizes == sorted([2, batch - 1, *[batch] * (len(batches) - 2)])
    else:
        assert sizes[1:] == [batch] * (len(batches) - 1)


def test_the_order_is_a_function_of_seed_and_epoch_alone():
    def order(seed, epoch):
        return np.concatenate(epoch_batches(100, np.arange(100) % 7, batch=8, seed=seed, epoch=epoch)).tolist()

    np.random.seed(1)
    once = order(0, 3)
    np.random.seed(2)
    assert order(0, 3) == once
    assert order(0, 4) != once != order(1, 3)


def test_rows_of_like_length_come_together_and_the_batches_come_mixed():
    lengths = np.random.default_rng(0).integers(5, 200, size=1000)
    batches = epoch_batches(1000, lengths, batch=10, seed=0, epoch=0)
    spread = np.mean([np.ptp(lengths[rows]) for rows in batches])
    apart = np.mean([np.ptp(lengths[rows]) for rows in epoch_batches(1000, None, batch=10, seed=0, epoch=0)])
    assert spread < apart / 10
    means = [lengths[rows].mean() for rows in batches]
    assert abs(np.corrcoef(means, np.arange(100))[0, 1]) < 0.5


@given(st.integers(1, 100), st.integers(1, 40), st.integers(1, 8))
def test_parts_are_the_batch_near_equal_small_enough_and_enough_for_all_ranks(num_rows, micro, world):
    rows = np.arange(num_rows) * 3
    cut = parts(rows, micro=micro, world=world)
    assert np.concatenate(cut).tolist() == rows.tolist()
    sizes = [len(part) for part in cut]
    assert min(sizes) > 0 and max(sizes) <= micro and max(sizes) - min(sizes) <= 1
    assert len(cut) >= min(world, num_rows // 2 or 1)
    assert min(sizes) > 1 or micro < 3 or num_rows == 1, "BatchNorm has no statistics of one row"


@given(st.lists(st.integers(0, 4), min_size=1, max_size=120), st.integers(0, 5))
def test_a_balanced_epoch_has_each_class_alike_and_no_row_again_before_all_were_there(classes, epoch):
    classes = np.array(classes)
    drawn = balanced(classes, seed=1, epoch=epoch)
    assert len(drawn) == len(classes)
    counts = np.bincount(classes[drawn], minlength=5)[np.unique(classes)]
    assert counts.max() - counts.min() <= 1
    times = np.bincount(drawn, minlength=len(classes))
    for label in np.unique(classes):
        assert np.ptp(times[classes == label]) <= 1
    assert drawn.tolist() == balanced(classes, seed=1, epoch=epoch).tolist()


def test_another_epoch_draws_other_rows_of_the_large_class():
    classes = np.array([0] * 90 + [1] * 10)
    one, two = (set(balanced(classes, seed=0, epoch=epoch).tolist()) for epoch in (0, 1))
    assert one != two and set(range(90, 100)) <= one & two
