"""What two groups differ by: figures of the literature, scipy's, and what simulations say."""

from __future__ import annotations

import numpy as np
import pytest

from tunesmith.evaluation.two_groups import compared, holm, wilson


def shares(hits, rows):
    return np.repeat([1.0, 0.0], [hits, rows - hits])


@pytest.mark.parametrize(
    ("hits", "rows", "ends"),
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_wilsons_interval_is_that_of_newcombe_1998a_table_1(hits, rows, ends):
    assert wilson(hits, rows) == pytest.approx(ends, abs=6e-5)


@pytest.mark.parametrize(
    ("one", "other", "ends"),
    [
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((5, 56), (0, 29), (-0.0381, 0.1926)),
        ((10, 10), (0, 10), (0.6075, 1.0)),
    ],
)
def test_the_interval_of_a_difference_is_that_of_newcombe_1998b_table_2(one, other, ends):
    assert compared(shares(*one), shares(*other)).difference_ends == pytest.approx(ends, abs=6e-5)


def test_fishers_test_is_scipys_whichever_direction_is_worse():
    stats = pytest.importorskip("scipy.stats")
    for one, other in [((3, 12), (70, 90)), ((0, 5), (5, 5)), ((12, 12), (800, 900)), ((1, 400), (30, 3000))]:
        table = [[one[0], one[1] - one[0]], [other[0], other[1] - other[0]]]
        for rising, side in ((True, "less"), (False, "greater")):
            found = compared(shares(*one), shares(*other), rising=rising).worse
            assert found == pytest.approx(stats.fisher_exact(table, alternative=side)[1], rel=1e-9)


def test_welchs_test_is_scipys_but_for_degrees_of_freedom_that_are_whole():
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(0)
    for sizes, scale in [((8, 40), 1.0), ((30, 200), 3.0), ((500, 9000), 1.0)]:
        group, rest = random.exponential(scale, sizes[0]), random.exponential(1.0, sizes[1])
        found = compared(group, rest, rising=False)
        test = stats.ttest_ind(group, rest, equal_var=False, alternative="greater")
        assert found.worse == pytest.approx(test.pvalue, rel=0.15, abs=1e-9)
        interval = stats.ttest_ind(group, rest, equal_var=False).confidence_interval()
        assert found.difference_ends == pytest.approx((interval.low, interval.high), rel=0.03, abs=0.01)
        assert found.ends == pytest.approx(
            stats.t.interval(0.95, sizes[0] - 1, group.mean(), group.std(ddof=1) / sizes[0] ** 0.5), rel=0.01
        )


def test_groups_without_any_spread_differ_for_sure_or_not_at_all():
    two, three = np.full(9, 2.0), np.full(9, 3.0)
    assert [compared(three, two, rising=False).worse, compared(two, three, rising=False).worse] == [0.0, 1.0]
    assert compared(two, two).worse == 1.0 and compared(two, two).difference_ends == (0.0, 0.0)


def test_holm_multiplies_by_the_tests_that_are_left_keeps_the_order_and_never_exceeds_one():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


@pytest.mark.parametrize(("rows", "share"), [(8, 0.9), (30, 0.5), (100, 0.97)])
def test_wilsons_interval_holds_the_true_share_about_as_often_as_it_says(rows, share):
    random = np.random.default_rng(1)
    ends = [wilson(int(hits), rows) for hits in random.binomial(rows, share, 2000)]
    assert 0.92 < np.mean([low <= share <= high for low, high in ends]) < 0.99
