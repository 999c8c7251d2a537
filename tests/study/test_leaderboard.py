"""The leaderboard, the fronts and the lines of a search, from plain records."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.delivery.outcome import COSTS
from tunesmith.study import leaderboard
from tunesmith.study.record import Record


def trial(number, value, *, arm="full", role="trial", state="done", reach=0.02, row=1e-3, size=9e7, **more):
    low, high = (None, None) if value is None else (value - reach, value + reach)
    more = {"settings": {"strategy": arm.split(" @ ")[0], "train.lr": number / 100}, "seconds": 10.0} | more
    cost = {"parameters": 2e7, "trained": 1e6, "bytes": size, "row_seconds": row}
    return Record(number, arm, role=role, state=state, value=value, low=low, high=high, cost=cost, **more)


def again(number, of, value, **more):
    return replace(of, number=number, role="finalist", value=value, low=value - 0.03, high=value + 0.03, **more)


def found(records, **more):
    given_ = {"name": "trec", "model": "minilm", "metric": "accuracy", "rising": True, "seconds": 100.0}
    return leaderboard.outcome(records, **(given_ | more))


def said(records, **more):
    return "\n".join(leaderboard.lines(found(records, **more)))


FIRST, SECOND, THIRD = trial(1, 0.90), trial(2, 0.95), trial(3, 0.80)


def test_the_best_score_leads_and_of_a_falling_metric_the_lowest():
    records = [FIRST, SECOND, THIRD]
    assert [one["number"] for one in leaderboard.entries(records, True)] == [2, 1, 3]
    assert [one["number"] for one in leaderboard.entries(records, False)] == [3, 1, 2]


def test_rows_that_did_not_choose_stand_above_a_higher_score_on_rows_that_did():
    records = [FIRST, SECOND, THIRD, again(4, FIRST, 0.85), again(5, THIRD, 0.70)]
    assert [one["number"] for one in leaderboard.entries(records, True)] == [4, 1, 5, 3, 2]
    ranked = leaderboard.tried(records, True)
    assert [one.number for one in ranked] == [1, 3, 2]
    assert ranked[0].score["value"] == 0.85 and ranked[0].first["value"] == 0.90 and ranked[0].again
    assert ranked[0].seconds == 20.0 and ranked[0].costs["seconds"] == 10.0


def test_a_finalist_of_several_seeds_counts_by_the_mean_and_not_by_its_luck():
    lucky = [again(4, FIRST, 0.99, seed=1), again(5, FIRST, 0.61, seed=2)]
    steady = [again(6, THIRD, 0.84, seed=1), again(7, THIRD, 0.86, seed=2)]
    ranked = leaderboard.tried([FIRST, SECOND, THIRD, *lucky, *steady], True)
    assert [one.number for one in ranked] == [3, 1, 2]
    assert ranked[0].score == pytest.approx({"value": 0.85, "low": 0.82, "high": 0.88})


def test_the_named_winner_leads_whatever_it_scored_and_its_refit_stands_with_it():
    refit = replace(THIRD, number=9, role="refit", value=None, low=None, high=None)
    records = [FIRST, SECOND, THIRD, refit]
    assert [one["number"] for one in leaderboard.entries(records, True, winner=3)] == [3, 9, 2, 1]
    assert found(records, winner=9).winner.number == 3
    assert "trained again" in said(records, winner=3) and "trained again" not in said(records[:3])


def test_a_trial_without_a_score_counts_by_its_best_report_and_one_that_is_no_number_by_none():
    cut = trial(4, None, state="pruned", reports=((1, 0.3), (2, 0.92), (3, 0.91)))
    collapsed = trial(5, math.nan, state="failed", reports=((1, math.nan), (2, math.inf)))
    told = leaderboard.entries([FIRST, cut, collapsed], True)
    assert [(one["number"], one["score"]) for one in told] == [(4, 0.92), (1, 0.90), (5, None)]
    assert leaderboard.entries([cut], False)[0]["score"] == 0.3
    json.dumps(told, allow_nan=False)


def test_an_entry_holds_what_scripts_read():
    (told,) = leaderboard.entries([replace(FIRST, predicted=12.0, why="why")], True)
    assert told == {
        "number": 1,
        "strategy": "full",
        "role": "trial",
        "state": "done",
        "score": 0.9,
        "low": 0.88,
        "high": 0.92,
        "seconds": 10.0,
        "predicted": 12.0,
        "settings": {"strategy": "full", "train.lr": 0.01},
        "why": "why",
        "parameters": 2e7,
        "bytes": 9e7,
        "row_seconds": 1e-3,
    }


COSTED = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20), st.booleans()), min_size=1, max_size=12)


@given(COSTED, st.booleans())
def test_off_the_front_another_is_as_cheap_and_as_good_and_on_it_none_is(points, rising):
    sign = 1 if rising else -1
    records = [
        trial(number, sign * score / 20, row=cost / 1000, state="done" if done else "pruned")
        for number, (score, cost, done) in enumerate(points, 1)
    ]
    ranked = leaderboard.tried(records, rising)
    usable = [one for one in ranked if one.state == "done"]
    front = leaderboard.front(ranked, "row_seconds", rising)
    assert set(map(id, front)) <= set(map(id, usable))

    def beaten(one):
        cost, value = one.costs["row_seconds"], sign * one.first["value"]
        others = [(other.costs["row_seconds"], sign * other.first["value"]) for other in usable]
        return any(c <= cost and v >= value and (c, v) != (cost, value) for c, v in others)

    assert all(beaten(one) != any(one is other for other in front) or _twin(one, front) for one in usable)


def _twin(one, front):
    return any((one.costs["row_seconds"], one.first) == (other.costs["row_seconds"], other.first) for other in front)


def test_what_is_worth_having_lies_inside_the_interval_of_the_winners_trial_and_saves_a_fifth():
    winner = trial(1, 0.90, seconds=10.0)
    small = trial(2, 0.885, size=4e7, row=0.85e-3, seconds=9.0)
    poor = trial(3, 0.87, size=1e7, row=1e-4, seconds=1.0)
    ranked = leaderboard.tried([winner, small, poor], True)
    assert {cost: one.number for cost, one in leaderboard.worth(ranked, True).items()} == {"bytes": 2}
    text = said([winner, small, poor])
    assert "trial 2, full, 0.885 [0.865, 0.905], at 44% of its size." in text
    assert "these rows do not tell from it: 1." in text


def test_of_a_falling_metric_what_is_worth_having_lies_below_the_upper_end():
    ranked = leaderboard.tried([trial(1, 0.3), trial(2, 0.31, size=1e7), trial(3, 0.4, size=1e6)], False)
    assert {cost: one.number for cost, one in leaderboard.worth(ranked, False).items()} == {"bytes": 2}


def test_one_setting_that_saves_several_things_is_told_once():
    text = said([trial(1, 0.90), trial(2, 0.89, arm="head", row=1e-4, size=9e6, seconds=1.0)])
    assert "at 10% of its time for a row, 10% of its size, 10% of its time to train" in text
    assert text.count("trial 2, head") == 1
    assert "is cheaper by a fifth" in said([trial(1, 0.90), trial(2, 0.5, row=1e-4)])


def test_a_cost_that_all_share_has_no_front():
    assert list(found([trial(1, 0.9), trial(2, 0.8, row=2e-3)]).fronts) == ["row_seconds"]
    assert not found([trial(1, 0.9)]).fronts and not found([]).fronts
    assert set(found([trial(1, 0.9), trial(2, 0.8, row=2e-3, size=1e7, seconds=1.0)]).fronts) == set(COSTS)


def test_the_error_of_the_seconds_foretold_is_a_share_of_those_used_and_counts_what_was_not_cut():
    records = [
        replace(FIRST, predicted=12.0, seconds=10.0, steps=90, length=90),
        replace(SECOND, predicted=11.0, seconds=5.0, steps=45, length=90),
        replace(THIRD, predicted=9.0, seconds=10.0),
        replace(FIRST, number=4, predicted=900.0, state="pruned"),
        replace(FIRST, number=5, predicted=None),
    ]
    error, count = leaderboard.cost_error(records)
    assert (error, count) == (pytest.approx(0.1), 3)
    assert leaderboard.cost_error(records[3:]) is None
    assert "missed those used by 10%, in the median of 3 trainings" in said(records)


def test_like_reasons_are_joined_and_told_with_their_count():
    records = [FIRST]
    for number, value in enumerate((0.5, 0.61, 0.7), 2):
        why = f"{value} after {number} of 9, below the best third"
        records.append(trial(number, value, state="pruned", why=why))
    records.append(trial(8, None, state="failed", why="out of memory at batch 64"))
    records.append(trial(9, None, state="failed"))
    lines = said(records).splitlines()
    assert "    3 x pruned, such as: 0.5 after 2 of 9, below the best third" in lines
    assert "    1 x failed: out of memory at batch 64" in lines
    assert "    1 x failed: no reason told" in lines
    assert "Of 6 trials: 1 done, 3 pruned, 2 failed." in lines


def test_a_collapse_that_was_overcome_is_told_too():
    assert "1 x done: collapsed, went on" in said([replace(FIRST, why="collapsed, went on at a third of the rate")])


def test_the_curve_holds_each_better_trial_when_it_ended():
    records = [
        trial(1, 0.5, began=1000.0, seconds=10.0),
        trial(2, 0.9, began=1001.0, seconds=50.0),
        trial(3, 0.7, began=1011.0, seconds=5.0),
        trial(4, 0.6, began=1020.0, seconds=5.0),
        trial(5, 0.99, began=1100.0, role="finalist"),
    ]
    assert found(records).curve == [(10.0, 0.5, 1), (16.0, 0.7, 3), (51.0, 0.9, 2)]
    assert found(records, began=990.0).curve[0][0] == 20.0
    assert [number for _, _, number in found(records, rising=False).curve] == [1]


def test_each_arm_has_its_best_its_trials_and_its_seconds():
    records = [trial(1, 0.8, arm="head"), trial(2, 0.9), trial(3, 0.7), trial(4, None, arm="lora", state="failed")]
    arms = found(records).arms
    assert [(arm.name, arm.best and arm.best.number, arm.seconds) for arm in arms] == [
        ("full", 2, 20.0),
        ("head", 1, 10.0),
        ("lora", None, 10.0),
    ]
    assert arms[0].states == {"done": 2} and arms[2].states == {"failed": 1}


def test_the_lines_show_ten_settings_the_winner_first_and_its_choices():
    records = [trial(number, 0.5 + number / 100, arm="head") for number in range(1, 20)]
    records.append(again(20, records[0], 0.4))
    lines = said(records, budget=120.0, importance={"train.lr": 0.7, "strategy": 0.3}).splitlines()
    assert lines[0].split() == ["trial", "strategy", "accuracy", "time", "what", "was", "set"]
    assert lines[1] == "     1*  head      0.400 [0.370, 0.430]  20 s  lr 0.01"
    assert lines[2].startswith("    19   head") and lines[10].startswith("    11   head")
    assert lines[11] == "  * scored on rows that did not choose it"
    text = "\n".join(lines)
    assert "accuracy 0.400 [0.370, 0.430] on rows that did not choose it; on those that did, 0.510" in text
    assert "What mattered most: train.lr (70%), strategy (30%)." in text
    assert "100 s of 2 min 0 s were used." in text
    assert all(len(line) <= 120 for line in lines[:12])


def test_rivals_are_the_trials_inside_the_interval_of_the_winners():
    records = [trial(1, 0.9, reach=0.05), trial(2, 0.86), trial(3, 0.84)]
    assert [one.number for one in found(records).rivals] == [2]
    assert found([replace(records[0], low=None, high=None), records[1]]).rivals is None
    assert found(records[:1]).rivals == []


def test_a_search_without_a_score_says_so():
    assert found([]).winner is None
    text = said([trial(1, None, state="failed", why="out of memory")])
    assert "No trial got as far as a score" in text and "out of memory" in text
