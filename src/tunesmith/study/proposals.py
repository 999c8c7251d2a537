"""What to try next within an arm, and what to give up: Optuna on a study rebuilt from the records of the trials."""

from __future__ import annotations

import contextlib
import functools
import json
import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    json_to_distribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from tunesmith.files import write_text
from tunesmith.seeds import fold
from tunesmith.study.record import Record

Direction = Literal["maximize", "minimize"]

NINTHS = 9
"""A trial reports in ninths of its length."""
FIRST_RUNG, REDUCTION = 2, 2
"""One in so many goes on from a rung, and the next rung is so many times as far: the rungs are 2, 4 and 8. The first
lies behind a warm-up of a tenth, in which a trial shows little of what it will be."""
NUM_STARTUP_TRIALS = 5
"""So many trials of an arm, its defaults first, come before the sampler learns; Optuna's ten are half of a budget."""
NUM_ASKS = 10
"""So often the sampler may answer what was tried before, then an untried one is looked for."""
MIN_IMPORTANCE_TRIALS = 12
"""With fewer trials nothing is said of importance; so many find the one choice of six that matters nearly always."""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Optuna's notes and its warnings of experimental parts are not for the people who run a search."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)


@_quiet()
def propose(
    records: Sequence[Record],
    arm: str,
    distributions: Mapping[str, BaseDistribution],
    first: Mapping[str, Any],
    *,
    direction: Direction,
    seed: int,
    applies: Callable[[str, Mapping[str, Any]], bool] = lambda path, drawn: True,
) -> dict[str, Any] | None:
    """The params of the next trial of `arm`, path -> value, as no trial of it has had them; None when all were tried.

    The first trial is `first`, moved into the ranges where it lies outside them. From then on the tree-structured
    Parzen estimator draws (Bergstra et al. 2011, the multivariate one of Falkner et al. 2018); it keeps away from what
    is running and from what failed. `applies(path, drawn)` says whether a choice has an effect beside those `drawn`
    before it, in the order of `distributions`; one without is not drawn. Same records and seed, same answer.
    """
    tried = _of_arm(records, arm)
    seed = fold(seed, arm, len(tried)) % 2**32
    ranges = {path: _plain(distribution) for path, distribution in distributions.items()}
    known = {} if tried else _within(first, ranges)
    sampler = optuna.samplers.TPESampler(n_startup_trials=NUM_STARTUP_TRIALS, seed=seed)
    study = optuna.create_study(direction=direction, sampler=sampler)
    study.add_trials([_lesson(record, ranges) for record in tried])
    seen = {_text(record.params) for record in tried}
    for _ in range(NUM_ASKS):
        trial = study.ask()
        params: dict[str, Any] = {}
        for path, range_ in ranges.items():
            if applies(path, params):
                value = known[path] if path in known else _suggested(trial, path, range_)
                params[path] = _choice(distributions[path], value)
        if _text(params) not in seen:
            return params
    return _untried(distributions, applies, seen, random.Random(seed))


@_quiet()
def prune(records: Sequence[Record], record: Record, direction: Direction) -> tuple[bool, dict[str, Any]]:
    """Whether `record` is to be given up after its last report, and the `system_attrs` that it must bear from now on.

    Asynchronous successive halving within its arm (Li et al. 2020): after two, four and eight ninths of its length a
    trial goes on if it is in the better half of those that came as far. One at its end is never given up.
    """
    if not record.reports or record.reports[-1][0] >= NINTHS:
        return False, record.system_attrs
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=FIRST_RUNG, reduction_factor=REDUCTION)
    study = optuna.create_study(direction=direction, pruner=pruner)
    others = [other for other in _of_arm(records, record.arm) if other.number != record.number]
    study.add_trials([_lesson(other, {}) for other in [*others, replace(record, state="running")]])
    given_up = pruner.prune(study, study.get_trials(deepcopy=False)[-1])
    return given_up, study.get_trials(deepcopy=False)[-1].system_attrs


@_quiet()
def study_of(records: Sequence[Record], direction: Direction) -> optuna.Study:
    """An Optuna study of the trials of all arms, the arm one more choice; no finalists: other rows have judged them."""
    study = optuna.create_study(direction=direction, study_name="tunesmith search")
    study.add_trials(_shown(records))
    return study


@_quiet()
def export(records: Sequence[Record], path: Path, direction: Direction) -> None:
    """Replace `path` by `study_of` as a journal, for optuna-dashboard and `optuna.storages.JournalStorage` to open."""
    journal = _Journal()
    study = optuna.create_study(direction=direction, study_name="tunesmith search", storage=JournalStorage(journal))
    study.add_trials(_shown(records))
    write_text(path, "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in journal.lines))


@_quiet()
def importance(records: Sequence[Record], direction: Direction) -> dict[str, float]:
    """How much each choice, `arm` among them, decided which trials are the best: path -> share, the largest first.

    Functional ANOVA of a random forest (Hutter et al. 2014). Where an arm does not have a choice it is drawn by lot,
    so that it can neither explain anything there nor stand for the arm. A trial given up counts with its last score
    and a failed one with the worst of all: among the survivors alone, what kills would seem not to matter. Empty
    below `MIN_IMPORTANCE_TRIALS` trials, and where all scored the same.
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances  # and scikit-learn: seconds

    ended = [(record, _last_score(record)) for record in records if record.role == "trial"]
    known = [score for record, score in ended if score is not None]
    if not known:
        return {}
    worst = min(known) if direction == "maximize" else max(known)
    scored = [
        replace(record, state="done", value=worst if score is None else score)
        for record, score in ended
        if score is not None or record.state == "failed"
    ]
    if len(scored) < MIN_IMPORTANCE_TRIALS or len(set(known)) == 1:
        return {}
    trials = _shown(scored)
    ranges = {path: range_ for trial in trials for path, range_ in trial.distributions.items()}
    generator = random.Random(len(trials))
    for trial in trials:
        absent = sorted(ranges.keys() - trial.params.keys())
        trial.params |= {path: _some(ranges[path], 1, generator)[0] for path in absent}
        trial.distributions = ranges
    study = optuna.create_study(direction=direction)
    study.add_trials(trials)
    # Trees of any depth say the same and take 45 s on 500 trials, these 0.4 s.
    evaluator = FanovaImportanceEvaluator(n_trees=32, max_depth=5, seed=0)
    return {path: float(share) for path, share in get_param_importances(study, evaluator=evaluator).items()}


class _Journal(BaseJournalBackend):
    """Optuna's journal in memory: its own file is flushed to the disk at every line, a hundred times as slow."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        return iter(self.lines[log_number_from:])

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.lines.extend(logs)


def _of_arm(records: Sequence[Record], arm: str) -> list[Record]:
    return [record for record in records if record.arm == arm and record.role == "trial"]


def _last_score(record: Record) -> float | None:
    """What is known of a trial that has ended; of a failed one nothing is."""
    if record.state == "done" and record.value is not None:
        return record.value
    return record.reports[-1][1] if record.state in ("pruned", "stopped") and record.reports else None


def _lesson(record: Record, ranges: Mapping[str, BaseDistribution]) -> FrozenTrial:
    """What a trial teaches the sampler and the pruner.

    A failed one, a collapse for instance, is to Optuna one given up before its first report: the sampler ranks it
    behind all others and keeps away. FAIL would be left out, and tried again; a worst value would be a score that
    nobody measured. One that was stopped for want of time teaches as far as it came; before its first report, nothing.
    """
    reports = {} if record.state == "failed" else dict(record.reports)
    state = TrialState.PRUNED
    if record.state in ("waiting", "running"):
        state = TrialState.RUNNING
    elif record.state == "done" and record.value is not None:
        state = TrialState.COMPLETE
    elif record.state == "stopped" and not reports:
        state = TrialState.FAIL
    return _frozen(record, state, _within(record.params, ranges), ranges, reports)


_SHOWN = {
    "waiting": TrialState.WAITING,
    "running": TrialState.RUNNING,
    "done": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


def _shown(records: Sequence[Record]) -> list[FrozenTrial]:
    """The trials of all arms as people look at them."""
    trials = [record for record in records if record.role == "trial"]
    ranges = _merged(trials) | {"arm": CategoricalDistribution(sorted({record.arm for record in trials}) or [""])}
    shown = []
    for record in trials:
        params = _within({path: record.params[path] for path in record.distributions}, ranges) | {"arm": record.arm}
        told = ("number", "state", "why", "settings", "predicted", "seconds", "low", "high", "cost", "worker")
        scored = record.state != "done" or record.value is not None
        trial = _frozen(record, _SHOWN[record.state if scored else "failed"], params, ranges, dict(record.reports))
        trial.user_attrs = {name: getattr(record, name) for name in told}
        if trial.state != TrialState.WAITING:
            trial.datetime_start = datetime.fromtimestamp(record.began)
        if trial.state.is_finished():
            trial.datetime_complete = datetime.fromtimestamp(record.began + record.seconds)
        shown.append(trial)
    return shown


def _frozen(
    record: Record,
    state: TrialState,
    params: dict[str, Any],
    ranges: Mapping[str, BaseDistribution],
    reports: dict[int, float],
) -> FrozenTrial:
    return create_trial(
        state=state,
        value=record.value if state == TrialState.COMPLETE else None,
        params=params,
        distributions={path: ranges[path] for path in params},
        intermediate_values=reports,
        system_attrs=record.system_attrs,
    )


def _merged(records: Sequence[Record]) -> dict[str, BaseDistribution]:
    """One range a path that holds those of all arms: Optuna wants the same choices for the same name."""
    ranges: dict[str, list[BaseDistribution]] = {}
    values: dict[str, list[Any]] = {}
    for record in records:
        for path, text in record.distributions.items():
            ranges.setdefault(path, []).append(_read(text))
            values.setdefault(path, []).append(record.params[path])
    return {path: _merge(list(dict.fromkeys(ranges[path])), values[path]) for path in ranges}


def _merge(ranges: Sequence[BaseDistribution], values: list[Any]) -> BaseDistribution:
    numeric = [range_ for range_ in ranges if isinstance(range_, FloatDistribution | IntDistribution)]
    if len(numeric) < len(ranges):
        choices = [
            choice for range_ in ranges if isinstance(range_, CategoricalDistribution) for choice in range_.choices
        ]
        return CategoricalDistribution(list(dict.fromkeys([*choices, *map(_token, values)])))
    low, high = min(range_.low for range_ in numeric), max(range_.high for range_ in numeric)
    log = all(range_.log for range_ in numeric)
    if all(isinstance(range_, IntDistribution) for range_ in numeric):
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(low, high, log=log)


@functools.lru_cache(maxsize=4096)
def _read(text: str) -> BaseDistribution:
    return _plain(json_to_distribution(text))


def _plain(distribution: BaseDistribution) -> BaseDistribution:
    """`distribution` with choices that Optuna can store: a list or a table among them becomes its JSON text."""
    if isinstance(distribution, CategoricalDistribution):
        return CategoricalDistribution([_token(choice) for choice in distribution.choices])
    return distribution


def _token(choice: Any) -> Any:
    return choice if choice is None or isinstance(choice, bool | int | float | str) else _text(choice)


def _choice(distribution: BaseDistribution, token: Any) -> Any:
    """What `token` stands for in `distribution`."""
    if isinstance(distribution, CategoricalDistribution):
        return next(choice for choice in distribution.choices if _token(choice) == token)
    return token


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _within(params: Mapping[str, Any], ranges: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """Of `params` what `ranges` know, numbers moved to the nearest that they hold; an unknown choice is left out."""
    within: dict[str, Any] = {}
    for path, range_ in ranges.items():
        value = _token(params.get(path))
        if path in params and isinstance(range_, CategoricalDistribution) and value in range_.choices:
            within[path] = value
        elif isinstance(range_, FloatDistribution | IntDistribution) and isinstance(value, int | float):
            nearest = min(max(value, range_.low), range_.high)
            within[path] = (
                range_.low + round((nearest - range_.low) / range_.step) * range_.step if range_.step else nearest
            )
    return within


def _suggested(trial: optuna.Trial, path: str, range_: BaseDistribution) -> Any:
    if isinstance(range_, CategoricalDistribution):
        return trial.suggest_categorical(path, range_.choices)
    if isinstance(range_, IntDistribution):
        return trial.suggest_int(path, range_.low, range_.high, step=range_.step, log=range_.log)
    assert isinstance(range_, FloatDistribution), range_
    return trial.suggest_float(path, range_.low, range_.high, step=range_.step, log=range_.log)


def _untried(
    distributions: Mapping[str, BaseDistribution],
    applies: Callable[[str, Mapping[str, Any]], bool],
    seen: set[str],
    generator: random.Random,
) -> dict[str, Any] | None:
    """Params that are not among `seen`, found choice by choice, or None if there are none."""
    paths = list(distributions)

    def completed(params: dict[str, Any], depth: int) -> dict[str, Any] | None:
        if depth == len(paths):
            return None if _text(params) in seen else params
        path = paths[depth]
        if not applies(path, params):
            return completed(params, depth + 1)
        values = _some(distributions[path], len(seen) + 1, generator)
        tries = (completed({**params, path: value}, depth + 1) for value in values)
        return next((found for found in tries if found is not None), None)

    return completed({}, 0)


def _some(distribution: BaseDistribution, num_values: int, generator: random.Random) -> Sequence[Any]:
    """Up to `num_values` different values in any order; more than were ever tried are not needed to find a new one."""
    if isinstance(distribution, CategoricalDistribution):
        return generator.sample(distribution.choices, len(distribution.choices))
    assert isinstance(distribution, FloatDistribution | IntDistribution), distribution
    low, high, step = distribution.low, distribution.high, distribution.step
    if step is None:
        return [generator.uniform(low, high)]
    num_steps = int((high - low) / step + 1e-9) + 1
    return [low + number * step for number in generator.sample(range(num_steps), min(num_values, num_steps))]
