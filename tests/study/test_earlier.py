"""What earlier searches leave and what later ones take of it."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.study import earlier
from tunesmith.study.earlier import Alike
from tunesmith.study.record import Record

TASK = Alike("classification", "text", 500, 6, 40, "bert", 22_000_000)
SIZES = st.integers(1, 10**7)
TASKS = st.builds(
    Alike, st.just("classification"), st.just("text"), SIZES, SIZES, SIZES, st.sampled_from("ab"), st.integers(0, 10**9)
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNESMITH_STUDIES", str(tmp_path / "studies"))
    return tmp_path / "studies"


@pytest.fixture
def told():
    return []


def trial(number, arm, value, *, params=None, **more):
    return Record(number, arm, params or {"train.lr": number / 10}, state="done", value=value, seconds=2.0, **more)


def keep(task=TASK, records=None, *, name="first", rising=True, baseline=0.7, tell=print):
    records = [trial(1, "lora", 0.8), trial(2, "full", 0.9)] if records is None else records
    return earlier.remember(task, records, name=name, metric="accuracy", rising=rising, baseline=baseline, tell=tell)


def test_a_search_takes_the_best_of_each_arm_the_best_arm_first_and_says_where_it_is_from(told):
    records = [trial(1, "lora", 0.8), trial(2, "full", 0.9), trial(3, "lora", 0.85), trial(4, "lora", 0.5)]
    keep(records=records)
    found = earlier.advice(replace(TASK, rows=600), ["lora", "full", "head"], told.append)
    assert [(one.arm, one.params) for one in found] == [("full", {"train.lr": 0.2}), ("lora", {"train.lr": 0.3})]
    assert found[0].why == (
        "full: accuracy 0.900, +0.200 over frozen features in an earlier search "
        "(first: text classification, 500 rows, 6 classes, bert)"
    )
    assert not told


def test_of_a_metric_that_falls_the_lowest_is_the_best_and_the_gain_is_what_was_saved():
    keep(records=[trial(1, "lora", 0.8), trial(2, "full", 0.3)], rising=False)
    found = earlier.advice(TASK, ["lora", "full"], print)
    assert [one.arm for one in found] == ["full", "lora"] and "+0.400 over" in found[0].why


def test_only_trials_that_went_to_their_end_are_kept():
    others = [
        replace(trial(2, "full", 0.99), state="pruned"),
        replace(trial(3, "head", 0.99), role="finalist"),
        trial(4, "last", float("nan")),
        trial(5, "last", None),
    ]
    assert keep(records=others) is None
    keep(records=[trial(1, "lora", 0.8), *others])
    assert [one.arm for one in earlier.advice(TASK, ["lora", "full", "head", "last"], print)] == ["lora"]


@pytest.mark.parametrize(
    "other",
    [
        {"task": "regression"},
        {"modality": "image"},
        {"rows": 500 * 30},
        {"classes": 6 * 30},
        {"family": "t5", "rows": 500 * 10},
        {"parameters": 22_000_000 * 10**6},
    ],
)
def test_a_task_that_is_not_alike_gives_no_advice(other):
    keep(replace(TASK, **other))
    assert earlier.advice(TASK, ["lora", "full"], print) == []


def test_the_nearest_task_is_asked_first_and_equal_advice_is_given_once():
    keep(replace(TASK, rows=700), [trial(3, "full", 0.6), trial(2, "lora", 0.5)], name="near")
    keep(replace(TASK, rows=2000), [trial(1, "full", 0.99), trial(2, "lora", 0.5)], name="far")
    found = earlier.advice(TASK, ["full", "lora"], print)
    assert [(one.arm, one.params["train.lr"]) for one in found] == [("full", 0.3), ("lora", 0.2), ("full", 0.1)]


def test_no_more_is_taken_than_a_search_can_try():
    for number in range(10):
        arms = [trial(10 * number + place, f"arm{place}", 0.9 - place / 100) for place in range(4)]
        keep(replace(TASK, rows=500 + number), arms, name=str(number))
    found = earlier.advice(TASK, [f"arm{place}" for place in range(4)], print)
    assert [one.arm for one in found] == ["arm0", "arm1", "arm2", "arm3", "arm0"]


def test_an_arm_of_another_backbone_stands_for_its_strategy_but_an_own_one_only_for_itself():
    keep(records=[trial(1, "full @ one", 0.9), trial(2, "lora", 0.8)])
    found = earlier.advice(TASK, ["full @ two", "full @ three", "lora", "lora @ two"], print)
    assert [one.arm for one in found] == ["full @ two", "full @ three", "lora"]
    assert [one.arm for one in earlier.advice(TASK, ["full @ one", "full @ two"], print)] == ["full @ one"]


def test_a_search_that_is_finished_again_replaces_what_it_left(folder):
    keep()
    keep(records=[trial(7, "full", 0.95)])
    assert len(list(folder.iterdir())) == 1
    assert [one.params for one in earlier.advice(TASK, ["full"], print)] == [{"train.lr": 0.7}]


def test_the_folder_holds_the_latest_searches_only(folder, monkeypatch):
    monkeypatch.setattr(earlier, "MOST_KEPT", 3)
    for number in range(5):
        path = keep(name=str(number))
        os.utime(path, (number, number))
    left = sorted(json.loads(path.read_text())["name"] for path in folder.iterdir())
    assert left == ["2", "3", "4"]


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[]",
        "\udcff",
        '{"task": 7}',
        {"task": {}},
        {"task": {"rows": "many"}},
        {"arms": []},
        {"arms": {"full": {"params": 3, "score": 0.5, "gain": None}}},
        {"arms": {"full": {"params": {}, "score": "high", "gain": None}}},
        {"arms": {"full": {"params": {}, "score": 0.5, "gain": "x"}}},
        {"finished": None},
    ],
)
def test_a_damaged_file_is_told_and_passed_over(damage, folder, told):
    kept = keep()
    broken = folder / "broken.json"
    if isinstance(damage, dict):
        whole = json.loads(kept.read_text())
        whole |= {key: whole[key] | part if key == "task" and part else part for key, part in damage.items()}
        damage = json.dumps(whole)
    broken.write_bytes(damage.encode(errors="surrogateescape"))
    assert [one.arm for one in earlier.advice(TASK, ["full"], told.append)] == ["full"]
    assert len(told) == 1 and str(broken) in told[0]


def test_a_folder_that_cannot_be_written_is_told(folder, told):
    folder.write_text("a file where the folder should be")
    assert keep(tell=told.append) is None
    assert "not kept" in told[0]
    assert earlier.advice(TASK, ["full"], told.append) == []


def test_what_json_cannot_hold_is_told(folder, told):
    assert keep(records=[trial(1, "full", 0.9, params={"train.lr": float("nan")})], tell=told.append) is None
    assert "not kept" in told[0] and not list(folder.glob("*"))


def test_the_folder_stands_beside_the_prefix_cache(monkeypatch, tmp_path):
    from tunesmith.models import store

    for variable in ("TUNESMITH_STUDIES", "TUNESMITH_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert earlier.root() == store.root().parent / "studies" == tmp_path / "tunesmith" / "studies"


@given(TASKS, TASKS)
def test_the_distance_is_that_of_a_space(one, other):
    assert earlier.distance(one, one) == 0
    assert (
        earlier.distance(one, other) == pytest.approx(earlier.distance(other, one))
        and earlier.distance(one, other) >= 0
    )
