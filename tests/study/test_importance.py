"""Which choices mattered: told from those that survive, from what kills, and from the arm itself."""

import math
import random
from dataclasses import replace
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution, distribution_to_json

from tunesmith.study.proposals import MIN_IMPORTANCE_TRIALS, Direction, importance
from tunesmith.study.record import Record

RANGES = {
    "train.lr": FloatDistribution(0.1, 10, log=True),
    "train.batch": CategoricalDistribution([8, 16]),
    "rank": IntDistribution(1, 64, log=True),
}


def random_trials(num_trials: int, seed: int = 0) -> list[Record]:
    """Two arms of three choices; "full" alone has a rate."""
    generator = random.Random(seed)
    records = []
    for number in range(1, num_trials + 1):
        params = {"train.batch": generator.choice([8, 16]), "rank": generator.randint(1, 64)}
        arm = generator.choice(["full", "lora"])
        if arm == "full":
            params["train.lr"] = 10 ** generator.uniform(-1, 1)
        described = {path: distribution_to_json(RANGES[path]) for path in params}
        records.append(Record(number, arm, params=params, distributions=described, state="done", began=1e9))
    return records


def valued(records: list[Record], score: Any) -> list[Record]:
    return [replace(record, value=score(record)) for record in records]


@pytest.mark.parametrize("path", ["train.batch", "rank", "arm", "train.lr"])
def test_the_choice_that_decides_has_the_largest_share(path: str):
    def score(record: Record) -> float:
        noise = random.Random(record.number).gauss(0, 0.01)
        value = record.params.get(path, 3)
        return noise + {"arm": float(record.arm == "full"), "train.lr": math.log10(value)}.get(path, value / 64)

    shares = importance(valued(random_trials(30), score), "maximize")
    assert sum(shares.values()) == pytest.approx(1)
    assert next(iter(shares)) == path and shares[path] > 0.5


def test_a_choice_that_one_arm_alone_has_does_not_stand_for_that_arm():
    shares = importance(valued(random_trials(60), lambda record: float(record.arm == "full")), "maximize")
    assert shares["train.lr"] < 0.02


def test_what_kills_is_important_though_all_survivors_score_nearly_the_same():
    """Every rank above 32 collapses; of the others one has scored badly, whatever its rank."""
    records = valued(random_trials(40), lambda record: 0.5 + 0.01 * (record.params["train.batch"] == 16))
    records = [
        replace(record, state="failed", value=None) if record.params["rank"] > 32 else record for record in records
    ]
    survivor = next(n for n, record in enumerate(records) if record.params["rank"] == 5)
    records[survivor] = replace(records[survivor], value=0.2)
    assert importance(records, "maximize")["rank"] > 0.8


def test_what_is_given_up_early_counts_with_its_last_score():
    records = valued(random_trials(30), lambda record: 0.8)
    given_up: dict[str, Any] = {"state": "pruned", "value": None, "reports": ((1, 0.9), (3, 0.3))}
    records = [replace(record, **given_up) if record.params["train.batch"] == 16 else record for record in records]
    assert importance(records, "maximize")["train.batch"] > 0.9


@pytest.mark.parametrize(("direction", "worse"), [("maximize", -10), ("minimize", 10)])
def test_a_failed_trial_counts_as_the_worst_that_was_scored_and_no_worse(direction: Direction, worse: float):
    """A batch of 16 is worse, and some of its trials fail: the batch explains all, if they count as its others do."""
    records = valued(random_trials(30), lambda record: 100 + worse * (record.params["train.batch"] == 16))
    bad = [record.number for record in records if record.params["train.batch"] == 16][::3]
    records = [replace(record, state="failed", value=None) if record.number in bad else record for record in records]
    assert importance(records, direction)["train.batch"] > 0.99


def test_nothing_is_said_of_importance_with_few_trials_or_equal_scores():
    records = valued(random_trials(MIN_IMPORTANCE_TRIALS), lambda record: float(record.params["rank"]))
    assert importance(records, "maximize")
    assert importance(records[1:], "maximize") == {}
    assert importance([*records[1:], replace(records[0], role="finalist")], "maximize") == {}
    assert importance(valued(records, lambda record: 0.5), "maximize") == {}
    assert importance([replace(record, state="failed", value=None) for record in records], "maximize") == {}
    assert importance([], "maximize") == {}
