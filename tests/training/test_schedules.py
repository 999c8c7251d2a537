"""Every schedule at points worked out by hand, and what holds of all of them whatever their options."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.errors import RecipeError
from tunesmith.training import schedules

SHARE = st.floats(0.01, 0.99)
FLOOR = st.floats(0, 0.9)
DRAWN = {
    "linear": st.fixed_dictionaries({}, optional={"floor": FLOOR}),
    "constant": st.just({}),
    "cosine": st.one_of(
        st.fixed_dictionaries({}, optional={"floor": FLOOR}),
        st.fixed_dictionaries(
            {"cycles": st.integers(2, 6)}, optional={"cycle_growth": st.floats(0.3, 3), "floor": FLOOR}
        ),
    ),
    "step": st.one_of(
        st.fixed_dictionaries({}, optional={"drops": st.integers(1, 9), "factor": SHARE}),
        st.fixed_dictionaries({"drops": st.integers(1, 3), "every": st.floats(0.01, 0.3), "factor": SHARE}),
    ),
    "exponential": st.fixed_dictionaries({}, optional={"end": SHARE}),
    "inverse_square_root": st.fixed_dictionaries({}, optional={"timescale": st.floats(1e-3, 10)}),
    "polynomial": st.fixed_dictionaries({}, optional={"power": st.floats(0.1, 5), "floor": FLOOR}),
    "one_cycle": st.fixed_dictionaries(
        {}, optional={"rise": st.floats(0.01, 0.49), "start": st.floats(0.1, 0.9), "end": st.floats(0, 0.1)}
    ),
    "slanted_triangular": st.fixed_dictionaries({}, optional={"cut_frac": SHARE, "ratio": st.floats(1.5, 100)}),
}
OWN_RISE = ("one_cycle", "slanted_triangular")
SCORES = st.lists(st.tuples(st.integers(1, 99), st.floats(-1, 1) | st.just(math.nan)), max_size=12)


def along(schedule, total, **options):
    return [schedule(step, total, **options) for step in range(total + 1)]


@given(data=st.data(), total=st.integers(1, 60))
@pytest.mark.parametrize("name", DRAWN)
def test_whatever_the_options_a_factor_lies_between_0_and_1_and_depends_on_the_step_alone(name, data, total):
    schedule, options = getattr(schedules, name), data.draw(DRAWN[name])
    values = [schedule(step, total, **options) for step in range(total + 3)]
    assert values == [schedule(step, total, **options) for step in reversed(range(total + 3))][::-1]
    assert all(0 <= value <= 1 for value in values)
    assert values[total] == values[total + 1] == values[total + 2] or name == "inverse_square_root"
    if name not in OWN_RISE:
        assert values[0] == pytest.approx(1)
        assert options.get("cycles", 1) > 1 or values == sorted(values, reverse=True)


@given(scores=SCORES, more=SCORES, patience=st.integers(1, 4), factor=SHARE, floor=FLOOR)
def test_a_plateau_depends_on_the_scores_alone_and_never_rises_again(scores, more, patience, factor, floor):
    options = {"patience": patience, "factor": factor, "floor": floor}
    value = schedules.plateau(3, 10, scores, **options)
    assert 0 <= value <= 1
    assert value == schedules.plateau(8, 99, list(scores), **options)
    assert schedules.plateau(9, 10, [*scores, *more], **options) <= value


def test_constant_stays():
    assert set(along(schedules.constant, 10)) == {1.0}


def test_linear_falls_from_one_to_its_floor():
    assert [schedules.linear(step, 4) for step in range(6)] == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    assert schedules.linear(4, 4, floor=0.1) == pytest.approx(0.1) and schedules.linear(2, 4, floor=0.5) == 0.75


def test_cosine_falls_along_half_a_cosine():
    assert along(schedules.cosine, 6) == pytest.approx([(1 + math.cos(math.pi * s / 6)) / 2 for s in range(7)])
    assert along(schedules.cosine, 2, floor=0.2) == pytest.approx([1, 0.6, 0.2])


def test_cosine_restarts_at_the_peak_in_cycles_that_grow():
    values = along(schedules.cosine, 14, cycles=3, cycle_growth=2.0)
    assert [step for step, value in enumerate(values) if value == 1] == [0, 2, 6]
    assert values[1] == values[4] == pytest.approx(0.5) and values[10] == pytest.approx(0.5)
    assert values[13] == pytest.approx((1 + math.cos(math.pi * 7 / 8)) / 2) and values[14] == 0


def test_step_drops_at_equal_spaces_or_at_every_given_share():
    assert along(schedules.step, 6, drops=2, factor=0.5) == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.25]
    assert along(schedules.step, 10, drops=9, factor=0.5) == [0.5 ** min(step, 9) for step in range(11)]
    resnet = along(schedules.step, 100, drops=3, every=0.3)
    assert [resnet[step] for step in (29, 30, 59, 60, 89, 90, 99)] == pytest.approx(
        [1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    )


def test_exponential_falls_by_one_ratio():
    values = along(schedules.exponential, 4, end=0.0625)
    assert values == pytest.approx([1, 0.5, 0.25, 0.125, 0.0625])


def test_inverse_square_root_continues_the_published_form_after_its_warm_up():
    warmup, total = 20, 100
    values = along(schedules.inverse_square_root, total - warmup, timescale=warmup / (total - warmup))
    assert values == pytest.approx([math.sqrt(warmup / step) for step in range(warmup, total + 1)])


def test_polynomial_is_a_power_of_what_is_left():
    assert along(schedules.polynomial, 4, power=3.0) == pytest.approx([1, 27 / 64, 1 / 8, 1 / 64, 0])
    assert schedules.polynomial(2, 4, floor=0.2) == pytest.approx(0.2 + 0.8 / 4)
    assert along(schedules.polynomial, 4, power=1.0) == along(schedules.linear, 4)


def test_one_cycle_rises_falls_as_long_and_goes_on_to_its_end():
    values = along(schedules.one_cycle, 10, rise=0.4, start=0.2, end=0.02)
    assert values == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 0.8, 0.6, 0.4, 0.2, 0.11, 0.02])


def test_slanted_triangular_is_the_formula_of_the_paper():
    total, cut_frac, ratio = 200, 0.1, 32

    def paper(t):
        cut = math.floor(total * cut_frac)
        p = t / cut if t < cut else 1 - (t - cut) / (cut * (1 / cut_frac - 1))
        return (1 + p * (ratio - 1)) / ratio

    assert along(schedules.slanted_triangular, total) == pytest.approx([paper(step) for step in range(total + 1)])
    values = along(schedules.slanted_triangular, 19)
    assert values[1] == 1 and values[10] == pytest.approx((1 + 31 / 2) / 32), "it falls over the whole rest"
    assert along(schedules.slanted_triangular, 4) == pytest.approx([(1 + 31 * (1 - s / 4)) / 32 for s in range(5)])


def test_a_plateau_falls_when_so_many_evaluations_brought_nothing_better():
    def after(*values, **options):
        return schedules.plateau(0, 10, list(enumerate(values)), **options)

    assert after() == after(0.5) == after(0.5, 0.4) == 1
    assert after(0.5, 0.4, 0.5) == after(0.5, 0.4, 0.5, 0.4) == 0.5
    assert after(0.5, 0.4, 0.5, 0.4, 0.3) == 0.25
    assert after(0.5, 0.4, 0.6, 0.5) == 1, "a better score starts the count anew"
    assert after(math.nan, math.nan) == 0.5
    assert after(0.5, 0.55, 0.6, threshold=0.2) == 0.5 and after(0.5, 0.55, 0.6) == 1
    assert after(0.5, 0.4, patience=1, factor=0.1) == 0.1
    assert after(*[0.5] * 50, floor=0.2) == 0.2


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("linear", {"floor": 1.0}, "floor"),
        ("cosine", {"floor": -0.1}, "floor"),
        ("cosine", {"cycles": 0}, "cycles"),
        ("cosine", {"cycles": 2, "cycle_growth": 0.0}, "cycle_growth"),
        ("cosine", {"cycle_growth": 2.0}, "no effect"),
        ("step", {"drops": 0}, "drops"),
        ("step", {"every": 1.0}, "every"),
        ("step", {"drops": 3, "every": 0.4}, "do not all happen"),
        ("step", {"factor": 1.0}, "factor"),
        ("exponential", {"end": 0.0}, "end"),
        ("inverse_square_root", {"timescale": 0.0}, "timescale"),
        ("polynomial", {"power": 0.0}, "power"),
        ("polynomial", {"floor": 1.0}, "floor"),
        ("one_cycle", {"rise": 0.5}, "rise"),
        ("one_cycle", {"start": 0.1, "end": 0.2}, "end"),
        ("slanted_triangular", {"cut_frac": 1.0}, "cut_frac"),
        ("slanted_triangular", {"ratio": 1.0}, "ratio"),
        ("plateau", {"patience": 0}, "patience"),
        ("plateau", {"factor": 1.0}, "factor"),
        ("plateau", {"threshold": -0.1}, "threshold"),
        ("plateau", {"floor": 1.0}, "floor"),
    ],
)
def test_an_option_out_of_its_range_is_an_error_that_names_it(name, options, named):
    scores = ([],) if name == "plateau" else ()
    with pytest.raises(RecipeError, match=named):
        getattr(schedules, name)(0, 10, *scores, **options)


def test_every_schedule_that_ships_is_drawn():
    from tunesmith import plugins

    shipped = {
        name for name in plugins.names("schedule") if plugins.get("schedule", name).__module__ == schedules.__name__
    }
    assert shipped == {*DRAWN, "plateau"}
