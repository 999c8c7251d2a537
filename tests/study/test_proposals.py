"""What Optuna is asked on studies rebuilt from records: proposals, pruning, and the journal for others."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from tunesmith.study import proposals
from tunesmith.study.proposals import export, propose, prune, study_of
from tunesmith.study.record import Record

RANGES: dict[str, BaseDistribution] = {
    "train.lr": FloatDistribution(0.1, 10, log=True),
    "train.batch": CategoricalDistribution([8, 16]),
    "rank": IntDistribution(1, 64, log=True),
}
DEFAULTS = {"train.lr": 1.0, "train.batch": 16, "rank": 8}
FEW: dict[str, BaseDistribution] = {"kind": CategoricalDistribution(["a", "b"]), "depth": IntDistribution(1, 3)}


def tables() -> CategoricalDistribution:
    """An optimizer by its name or by its table, which Optuna itself warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CategoricalDistribution(["adamw", {"name": "sgd", "momentum": 0.9}, [1, 2]])


def trial(
    number: int, params: Mapping[str, Any], ranges: Mapping[str, BaseDistribution] = RANGES, **fields: Any
) -> Record:
    described = {path: distribution_to_json(ranges[path]) for path in params}
    return Record(number, **{"arm": "full", "params": dict(params), "distributions": described, "began": 1e9} | fields)


def searched(
    num_trials: int, score: Any, *, seed: int = 0, ranges: Mapping[str, BaseDistribution] = RANGES
) -> list[Record]:
    """Records of a search: `score(params)` is the value, or None for a collapse."""
    records: list[Record] = []
    for number in range(1, num_trials + 1):
        params = propose(records, "full", ranges, {}, direction="maximize", seed=seed)
        assert params is not None
        value = score(params)
        state = "failed" if value is None else "done"
        records.append(trial(number, params, ranges, state=state, value=value))
    return records


def test_the_first_trial_of_an_arm_is_the_defaults_whatever_other_arms_have_done():
    others = [trial(1, DEFAULTS, arm="head", state="done", value=0.5), trial(2, DEFAULTS, role="finalist")]
    assert propose(others, "full", RANGES, DEFAULTS, direction="maximize", seed=0) == DEFAULTS


def test_defaults_outside_the_ranges_are_moved_into_them_and_missing_ones_are_drawn():
    first = {"train.lr": 99.0, "train.batch": 24, "rank": 0}
    params = propose([], "full", RANGES, first, direction="maximize", seed=0)
    assert params is not None
    assert params["train.lr"] == 10 and params["rank"] == 1 and params["train.batch"] in (8, 16)


def test_a_default_between_two_steps_is_moved_to_the_nearer():
    ranges: dict[str, BaseDistribution] = {"depth": IntDistribution(1, 9), "rate": FloatDistribution(0, 1, step=0.25)}
    params = propose([], "full", ranges, {"depth": 6.6, "rate": 0.45}, direction="maximize", seed=0)
    assert params == {"depth": 7, "rate": 0.5}


def test_the_same_records_and_seed_give_the_same_params_and_another_seed_others():
    records = searched(8, lambda params: -params["train.lr"])
    asked = [propose(records, "full", RANGES, DEFAULTS, direction="maximize", seed=seed) for seed in (0, 0, 1)]
    assert asked[0] == asked[1] != asked[2]


def test_proposals_move_to_where_the_scores_are_better():
    def far(params: Mapping[str, Any]) -> float:
        return abs(math.log(params["train.lr"] / 5))

    for direction, score in (("maximize", lambda params: -far(params)), ("minimize", far)):
        records: list[Record] = []
        for number in range(1, 31):
            params = propose(records, "full", RANGES, DEFAULTS, direction=direction, seed=3)
            assert params is not None
            records.append(trial(number, params, state="done", value=score(params)))
        distances = [far(record.params) for record in records]
        assert sum(distances[-10:]) < 0.5 * sum(distances[1:11]), direction


def test_a_collapse_teaches_the_sampler_to_keep_away():
    """Above a rate of 1 all collapses, below it all scores the same: nothing but the collapses can teach."""
    records = searched(40, lambda params: None if params["train.lr"] > 1 else 0.5)
    late = [record for record in records[20:] if record.state == "failed"]
    assert len(late) <= 4, "half of the space, and it is still tried"


def test_a_collapse_after_a_good_beginning_teaches_the_same():
    """Nothing has come to its end, and what collapsed had come the farthest, with the best reports."""
    ranges: dict[str, BaseDistribution] = {"x": FloatDistribution(0, 1)}
    records = [
        trial(n, {"x": n / 20}, ranges, state="pruned", reports=((1, 0.5),))
        if n < 10
        else trial(n, {"x": n / 20}, ranges, state="failed", reports=((1, 0.9), (8, 0.9)))
        for n in range(20)
    ]
    asked = [propose(records, "full", ranges, {}, direction="maximize", seed=seed) for seed in range(12)]
    assert sum(params["x"] < 0.5 for params in asked if params) >= 9


@pytest.mark.parametrize(
    ("state", "reports", "lesson", "told"),
    [
        ("waiting", (), "RUNNING", {}),
        ("running", ((1, 0.4),), "RUNNING", {1: 0.4}),
        ("pruned", ((1, 0.4),), "PRUNED", {1: 0.4}),
        ("stopped", ((1, 0.4),), "PRUNED", {1: 0.4}),
        ("stopped", (), "FAIL", {}),
        ("failed", ((1, 0.4),), "PRUNED", {}),
        ("done", ((9, 0.4),), "COMPLETE", {9: 0.4}),
    ],
)
def test_a_trial_stopped_before_its_first_report_is_all_that_teaches_nothing(
    state: str, reports: tuple[tuple[int, float], ...], lesson: str, told: dict[int, float]
):
    record = trial(1, DEFAULTS, state=state, reports=reports, value=0.4 if state == "done" else None)
    taught = proposals._lesson(record, RANGES)
    assert (taught.state.name, taught.intermediate_values, taught.params) == (lesson, told, DEFAULTS)


def test_what_runs_and_what_waits_is_kept_away_from():
    ranges: dict[str, BaseDistribution] = {"x": FloatDistribution(0, 1)}
    done = [trial(n, {"x": n / 10}, ranges, state="done", value=1 - abs(n / 10 - 0.5)) for n in range(11)]
    busy = [
        trial(20 + n, {"x": 0.5 + n / 1000}, ranges, state=state) for n, state in enumerate(["running", "waiting"] * 8)
    ]

    def distance(records: list[Record]) -> float:
        asked = [propose(records, "full", ranges, {}, direction="maximize", seed=seed) for seed in range(12)]
        return sum(abs(params["x"] - 0.5) for params in asked if params)

    assert distance(done + busy) > 1.5 * distance(done)


def test_no_params_are_proposed_twice_and_none_is_told_when_all_were_tried():
    records = searched(6, lambda params: float(params["depth"]), ranges=FEW)
    tried = {(record.params["kind"], record.params["depth"]) for record in records}
    assert len(tried) == 6
    assert propose(records, "full", FEW, {}, direction="maximize", seed=0) is None
    assert propose(records[:-1], "full", FEW, {}, direction="maximize", seed=9) == records[-1].params


@pytest.mark.parametrize("left", [1, 57, 100])
def test_the_last_untried_params_are_found_where_all_others_were_tried(left: int):
    ranges: dict[str, BaseDistribution] = {
        "depth": IntDistribution(1, 100),
        "kind": CategoricalDistribution(["a", "b"]),
    }
    pairs = [{"depth": depth, "kind": kind} for depth in range(1, 101) for kind in ("a", "b")]
    last = {"depth": left, "kind": "b"}
    records = [
        trial(n, params, ranges, state="done", value=n / 200) for n, params in enumerate(pairs) if params != last
    ]
    assert propose(records, "full", ranges, {}, direction="maximize", seed=0) == last


@pytest.mark.parametrize("state", ["waiting", "running", "done", "pruned", "stopped", "failed"])
def test_a_trial_in_any_state_is_not_proposed_again(state: str):
    ranges: dict[str, BaseDistribution] = {"kind": CategoricalDistribution(["a", "b"])}
    record = trial(1, {"kind": "a"}, ranges, state=state, value=0.5 if state == "done" else None)
    assert propose([record], "full", ranges, {}, direction="maximize", seed=0) == {"kind": "b"}


def test_a_choice_without_effect_is_not_drawn_and_does_not_make_a_trial_another_one():
    ranges: dict[str, BaseDistribution] = {
        "optimizer": CategoricalDistribution(["adamw", "sgd"]),
        "momentum": CategoricalDistribution([0.0, 0.9]),
    }

    def applies(path: str, drawn: Mapping[str, Any]) -> bool:
        return path != "momentum" or drawn["optimizer"] == "sgd"

    records: list[Record] = []
    while (params := propose(records, "full", ranges, {}, direction="maximize", seed=0, applies=applies)) is not None:
        records.append(trial(len(records) + 1, params, ranges, state="done", value=0.0))
    found = {(record.params["optimizer"], record.params.get("momentum")) for record in records}
    assert len(records) == 3 and found == {("adamw", None), ("sgd", 0.0), ("sgd", 0.9)}


def test_choices_may_be_tables_and_lists():
    ranges: dict[str, BaseDistribution] = {"train.optimizer": tables()}
    first = {"train.optimizer": {"momentum": 0.9, "name": "sgd"}}
    records: list[Record] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        while (params := propose(records, "full", ranges, first, direction="maximize", seed=0)) is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                records.append(trial(len(records) + 1, params, ranges, state="done", value=float(len(records))))
        assert records[0].params == first
        tried = [record.params["train.optimizer"] for record in records]
        assert len(tried) == 3 and all(choice in tried for choice in ("adamw", [1, 2], first["train.optimizer"]))
        assert {str(of.params["train.optimizer"]) for of in study_of(records, "maximize").trials} == {
            "adamw", "[1, 2]", '{"momentum": 0.9, "name": "sgd"}',
        }  # fmt: skip


def test_ranges_that_changed_since_the_records_were_made_are_no_obstacle():
    records = searched(12, lambda params: params["train.lr"])
    asked: dict[str, BaseDistribution] = {
        "train.lr": FloatDistribution(0.5, 2.0),
        "train.batch": CategoricalDistribution([32]),
        "rank": FloatDistribution(0.0, 1.0),
        "new": IntDistribution(0, 5),
    }
    params = propose(records, "full", asked, {}, direction="maximize", seed=0)
    assert params is not None and params.keys() == asked.keys()
    assert 0.5 <= params["train.lr"] <= 2 and params["train.batch"] == 32 and 0 <= params["rank"] <= 1


def halved(keeps_attrs: bool) -> tuple[list[Record], list[int]]:
    """Three good trials, then twelve bad ones, each reporting every ninth; and those given up. One study a question."""
    records: list[Record] = []
    given_up = []
    for number in range(1, 16):
        good = number <= 3
        record = trial(number, {"train.lr": 1.0}, state="running")
        for ninth in range(1, 10):
            score = (0.8 - number / 100 if good else 0.3 - number / 1000) + ninth / 100
            record = replace(record, reports=(*record.reports, (ninth, score)))
            bad, attrs = prune([*records, replace(record, reports=())], record, "maximize")
            record = replace(record, system_attrs=attrs if keeps_attrs else {})
            if bad:
                given_up.append(number)
                break
        records.append(replace(record, state="pruned" if bad else "done", value=record.reports[-1][1]))
    return records, given_up


def test_bad_trials_are_given_up_at_the_first_rung_though_the_study_is_rebuilt_each_time():
    records, given_up = halved(keeps_attrs=True)
    assert set(range(4, 16)) <= set(given_up) and 1 not in given_up
    assert all(record.reports[-1][0] == 2 for record in records[3:])


def test_without_the_attributes_nothing_would_be_given_up():
    """Why a record keeps them; where this fails, Optuna has learnt to do without, and so may we."""
    assert halved(keeps_attrs=False)[1] == []


def test_only_the_rungs_of_its_own_arm_and_of_trials_count_against_a_trial():
    record = trial(9, DEFAULTS, state="running", reports=((2, 0.2),))
    better = [
        trial(n, DEFAULTS, state="pruned", reports=((2, 0.9),), system_attrs={"completed_rung_0": 0.9})
        for n in range(4)
    ]
    assert prune(better, record, "maximize")[0]
    assert not prune(better, record, "minimize")[0]
    assert not prune([replace(other, arm="head") for other in better], record, "maximize")[0]
    assert not prune([replace(other, role="finalist") for other in better], record, "maximize")[0]


def test_a_trial_begun_anew_does_not_compete_with_what_it_was():
    was = trial(1, DEFAULTS, state="running", system_attrs={"completed_rung_0": 0.9})
    assert not prune([was], replace(was, reports=((2, 0.5),), system_attrs={}), "maximize")[0]


def test_a_trial_may_be_judged_whatever_its_state_says():
    record = trial(1, DEFAULTS, state="done", value=0.5, reports=((2, 0.5),))
    assert prune([], record, "maximize") == (False, {"completed_rung_0": 0.5})


def test_a_trial_at_its_end_or_before_its_first_report_is_not_given_up():
    better = [
        trial(n, DEFAULTS, state="done", value=0.9, system_attrs={f"completed_rung_{rung}": 0.9 for rung in range(3)})
        for n in range(4)
    ]
    record = trial(9, DEFAULTS, state="running", system_attrs={"completed_rung_0": 0.1, "completed_rung_1": 0.1})
    assert prune(better, record, "maximize") == (False, record.system_attrs)
    assert not prune(better, replace(record, reports=((9, 0.1),)), "maximize")[0]
    assert prune(better, replace(record, reports=((4, 0.1),), system_attrs={"completed_rung_0": 0.1}), "maximize")[0]


def test_a_score_that_is_no_number_is_given_up():
    assert prune([], trial(1, DEFAULTS, state="running", reports=((2, float("nan")),)), "maximize")[0]


def test_the_question_changes_neither_the_record_nor_optunas_settings_and_says_nothing(
    capfd: pytest.CaptureFixture[str],
):
    record = trial(1, DEFAULTS, state="running", reports=((2, 0.5),))
    before = optuna.logging.get_verbosity()
    try:
        optuna.logging.set_verbosity(optuna.logging.INFO)
        prune([record], record, "maximize")
        propose([record], "full", RANGES, DEFAULTS, direction="maximize", seed=0)
        assert optuna.logging.get_verbosity() == optuna.logging.INFO
    finally:
        optuna.logging.set_verbosity(before)
    assert record.system_attrs == {} and capfd.readouterr() == ("", "")


def test_a_trial_that_ended_without_a_score_is_shown_as_failed_and_teaches():
    records = [trial(1, DEFAULTS, state="done", value=None), trial(2, DEFAULTS, state="done", value=0.5)]
    assert [shown.state.name for shown in study_of(records, "maximize").trials] == ["FAIL", "COMPLETE"]
    assert propose(records, "full", RANGES, DEFAULTS, direction="maximize", seed=0)


def mixed() -> list[Record]:
    """Trials in every state and of two arms that share a path with different ranges and kinds."""
    wide: dict[str, BaseDistribution] = {
        "train.lr": FloatDistribution(0.01, 2),
        "rank": IntDistribution(32, 128),
        "train.batch": IntDistribution(4, 8),
    }
    lora = {"arm": "lora", "ranges": wide}
    return [
        trial(1, DEFAULTS, state="done", value=0.8, reports=((2, 0.7), (9, 0.8)), seconds=60.0, low=0.7, high=0.9),
        trial(
            2,
            {"train.lr": 0.02, "rank": 100, "train.batch": 5},
            **lora,
            state="pruned",
            reports=((2, 0.4),),
            why="late",
        ),
        trial(3, {"train.lr": 0.05}, **lora, state="failed", reports=((2, 0.3),), why="collapsed"),
        trial(4, {"train.lr": 0.1}, **lora, state="stopped", reports=((2, 0.3), (2, 0.6))),
        trial(5, {"train.lr": 0.1}, **lora, state="running", reports=((2, 0.3),)),
        trial(6, {"train.lr": 0.1}, **lora, state="waiting", began=0.0),
        trial(7, DEFAULTS, state="done", value=0.99, role="finalist"),
    ]


def test_the_study_of_all_trials_has_the_arm_as_a_choice_and_no_finalists():
    study = study_of(mixed(), "maximize")
    assert [shown.state.name for shown in study.trials] == [
        "COMPLETE",
        "PRUNED",
        "FAIL",
        "PRUNED",
        "RUNNING",
        "WAITING",
    ]
    assert [shown.params["arm"] for shown in study.trials] == ["full", *["lora"] * 5]
    assert study.best_value == 0.8 and study.trials[0].intermediate_values == {2: 0.7, 9: 0.8}
    assert [shown.user_attrs["number"] for shown in study.trials] == list(range(1, 7))
    assert study.trials[2].user_attrs["why"] == "collapsed"
    assert study.trials[0].duration is not None and study.trials[0].duration.total_seconds() == 60


def test_ranges_of_the_same_path_are_merged_over_the_arms():
    first, second, *_ = study_of(mixed(), "maximize").trials
    assert first.distributions == second.distributions
    assert first.distributions["train.lr"] == FloatDistribution(0.01, 10)
    assert first.distributions["rank"] == IntDistribution(1, 128)
    assert first.distributions["train.batch"] == CategoricalDistribution([8, 16, 5])


def test_the_journal_is_read_by_optuna_as_the_same_study(tmp_path: Path):
    path = tmp_path / "study.log"
    for records in (mixed()[:2], mixed()):
        export(records, path, "maximize")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read = optuna.load_study(study_name=None, storage=JournalStorage(JournalFileBackend(str(path))))
        shown = study_of(records, "maximize")
        assert read.direction == shown.direction and len(read.trials) == len(shown.trials)
        for one, other in zip(read.trials, shown.trials, strict=True):
            for name in ("state", "params", "distributions", "intermediate_values", "user_attrs", "datetime_complete"):
                assert getattr(one, name) == getattr(other, name), name
            assert one.values == other.values
    assert [file.name for file in tmp_path.iterdir()] == ["study.log"]


def test_an_empty_study_can_be_shown_and_exported(tmp_path: Path):
    assert study_of([], "minimize").trials == []
    export([], tmp_path / "study.log", "minimize")
    assert (tmp_path / "study.log").read_text().count("\n") == 1
