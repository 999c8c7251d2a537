"""The memory of earlier searches: what was best on tasks alike, from a local folder that holds one file a search."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tunesmith.files import cache_folder, write_json
from tunesmith.study.record import Record

Tell = Callable[[str], None]

MOST_KEPT = 200
"""Searches; the oldest are forgotten."""
FARTHEST = 3.0
"""Beyond this distance a task is not alike: rows twenty times as many, for example."""
MOST_ASKED = 3
"""Searches that give advice."""
MOST_TAKEN = 5
"""Settings that are taken of them."""
OTHER_FAMILY = 1.0
"""The distance between two families of models."""
SMALLEST, PARAMETERS = 0.5, 0.25
"""What rows of the smallest class and parameters weigh beside rows and classes, whose weight is 1."""


@dataclass(frozen=True)
class Alike:
    """By what tasks are told alike. Task and modality have to be the same."""

    task: str
    modality: str
    rows: int
    """That train."""
    classes: int
    """Or labels; 1 for a regression."""
    smallest: int
    """Rows of the smallest class; those that train for a regression."""
    family: str
    """Of the model: `bert`, `vit` ..."""
    parameters: int
    """Of the model."""


@dataclass(frozen=True)
class Advice:
    """What to try first: params of an arm, as Optuna drew them, and why in words."""

    arm: str
    params: dict[str, Any]
    why: str


def root() -> Path:
    """Where the searches are kept: the folder in TUNESMITH_STUDIES, else in the user's cache folder."""
    return cache_folder("studies", "TUNESMITH_STUDIES")


def distance(one: Alike, other: Alike) -> float:
    """How far two tasks lie apart, in powers of e of their sizes; infinite for other tasks or modalities."""
    if (one.task, one.modality) != (other.task, other.modality):
        return math.inf
    weights = {"rows": 1.0, "classes": 1.0, "smallest": SMALLEST, "parameters": PARAMETERS}
    apart = math.fsum(
        weight * abs(math.log(max(1, getattr(one, name)) / max(1, getattr(other, name))))
        for name, weight in weights.items()
    )
    return apart + OTHER_FAMILY * (one.family != other.family)


def remember(
    task: Alike, records: Sequence[Record], *, name: str, metric: str, rising: bool, baseline: float | None, tell: Tell
) -> Path | None:
    """Keep what was best of each arm of a finished search; its file, or None where nothing is kept.

    `name` is of the search: the same one, finished again after a resume, replaces its file. `baseline` is the score of
    the frozen features, over which the gain is counted, where it is known."""
    best = _best(records, rising)
    if not best:
        return None
    arms = {
        arm: {
            "params": record.params,
            "score": record.value,
            "gain": None if baseline is None else (1 if rising else -1) * (_value(record) - baseline),
            "seconds": record.seconds,
        }
        for arm, record in best.items()
    }
    told = {"name": name, "finished": time.time(), "task": asdict(task), "metric": metric, "arms": arms}
    path = root() / f"{hashlib.sha256(json.dumps([name, asdict(task)]).encode()).hexdigest()[:16]}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, told)
        for _, old in _by_age()[:-MOST_KEPT]:
            old.unlink(missing_ok=True)
    except (OSError, TypeError, ValueError) as error:
        tell(f"this search is not kept for later ones: {path}: {error}")
        return None
    return path


def advice(task: Alike, arms: Sequence[str], tell: Tell) -> list[Advice]:
    """What was best in the nearest searches on tasks alike, for arms that this search has: first the nearest search's
    arms, the best first, then the next one's. An arm of another backbone stands for that of the same strategy."""
    alike = sorted(
        ((apart, kept) for kept in _kept(tell) if (apart := distance(task, kept.task)) <= FARTHEST),
        key=lambda found: (found[0], -found[1].finished),
    )
    found: dict[str, Advice] = {}
    for _, kept in alike[:MOST_ASKED]:
        for old in kept.arms:
            for arm in _same(old.arm, arms):
                one = Advice(arm, old.params, _why(kept, old))
                found.setdefault(json.dumps([arm, one.params], sort_keys=True), one)
    return list(found.values())[:MOST_TAKEN]


@dataclass(frozen=True)
class _Best:
    """What was best of an arm."""

    arm: str
    params: dict[str, Any]
    score: float
    gain: float | None


@dataclass(frozen=True)
class _Kept:
    """A file of the folder, as far as advice reads it."""

    name: str
    finished: float
    task: Alike
    metric: str
    arms: tuple[_Best, ...]
    """The best first."""


def _kept(tell: Tell) -> Iterator[_Kept]:
    """Every search that can be read; what is damaged is told and passed over."""
    try:
        paths = [path for _, path in _by_age()]
    except OSError as error:
        tell(f"earlier searches cannot be read: {error}")
        return
    for path in paths:
        try:
            yield _read(path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            tell(f"passed over {path}, which is damaged ({type(error).__name__}); delete it")


def _read(path: Path) -> _Kept:
    told = json.loads(path.read_text(encoding="utf-8"))
    task = Alike(**{field.name: told["task"][field.name] for field in fields(Alike)})
    arms = tuple(
        _Best(arm, dict(one["params"]), float(one["score"]), None if one["gain"] is None else float(one["gain"]))
        for arm, one in told["arms"].items()
    )
    kept = _Kept(str(told["name"]), float(told["finished"]), task, str(told["metric"]), arms)
    if not math.isfinite(distance(task, task)):
        raise ValueError("its sizes are no numbers")
    return kept


def _by_age() -> list[tuple[float, Path]]:
    """The files of the folder, the oldest first."""
    return sorted((path.stat().st_mtime, path) for path in root().glob("*.json"))


def _best(records: Sequence[Record], rising: bool) -> dict[str, Record]:
    """Arm -> its best trial that went to its end, the best arm first: the order is that of the file."""
    done = [record for record in records if record.role == "trial" and record.state == "done"]
    known = [record for record in done if record.value is not None and math.isfinite(record.value)]
    found: dict[str, Record] = {}
    for record in sorted(known, key=_value, reverse=rising):
        found.setdefault(record.arm, record)
    return found


def _value(record: Record) -> float:
    return math.nan if record.value is None else record.value


def _same(old: str, arms: Sequence[str]) -> list[str]:
    """The arms that an arm of an earlier search stands for: itself, else those of the same strategy."""
    return [old] if old in arms else [arm for arm in arms if arm.split(" @ ")[0] == old.split(" @ ")[0]]


def _why(kept: _Kept, best: _Best) -> str:
    task, gain = kept.task, "" if best.gain is None else f", {best.gain:+.3f} over frozen features"
    about = f"{task.modality} {task.task}, {task.rows:,} rows, {task.classes} classes, {task.family}"
    return f"{best.arm}: {kept.metric} {best.score:.3f}{gain} in an earlier search ({kept.name}: {about})"
