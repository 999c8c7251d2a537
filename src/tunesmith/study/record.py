"""The record of a trial: one file each, replaced whole, from which everything about a search can be rebuilt."""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import psutil
from filelock import FileLock

from tunesmith.files import sweep, write_json

Role = Literal["trial", "finalist", "refit"]
State = Literal["waiting", "running", "done", "pruned", "stopped", "failed"]

MAX_DEATHS = 3
"""A trial that so many workers died at is given up: it may be what kills them, out of memory for one."""
MAX_SILENCE_SECONDS = 120.0
"""So long may a worker of another machine not touch its record before it is taken for dead."""
BEAT_SECONDS = 2.0
"""A record is touched no oftener."""


@dataclass(frozen=True)
class Record:
    """One trial: what was tried, how it went, and what it cost."""

    number: int
    arm: str
    """What is searched by itself: a strategy, with its objective and backbone."""
    params: dict[str, Any] = field(default_factory=dict)
    """As they were drawn: path -> value; of a relative range the multiple."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Path -> value in the recipe, whole: what reproduces the trial."""
    distributions: dict[str, str] = field(default_factory=dict)
    """Path -> Optuna's distribution as JSON."""
    role: Role = "trial"
    state: State = "waiting"
    seed: int = 0
    reports: tuple[tuple[int, float], ...] = ()
    """(ninths of its length, valid score)."""
    value: float | None = None
    """The best valid score, with its 95 % interval."""
    low: float | None = None
    high: float | None = None
    predicted: float | None = None
    """Seconds for its whole length, foretold before it began."""
    seconds: float = 0.0
    steps: int = 0
    length: int = 0
    """Optimizer steps done, and of how many."""
    why: str = ""
    """Why it was pruned, stopped or failed, and what else happened, in words."""
    worker: str = ""
    """host:pid"""
    began: float = 0.0
    """Unix time."""
    deaths: int = 0
    """How many workers have died at it."""
    system_attrs: dict[str, Any] = field(default_factory=dict)
    """Optuna's, of this trial: without them its pruner prunes nothing."""
    cost: dict[str, float] = field(default_factory=dict)
    """`parameters`, `trained` of them, `bytes` as saved, and `row_seconds` to predict a row."""


class Records:
    """The records of one study in its folder `trials/`, shared by all its workers, on this machine and on others.

    A file is replaced whole under one lock, which the system frees when its holder dies: a process killed at any point
    leaves each record as it was or as it was to be, and the trial that it was at to be taken up again.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._lock = FileLock(folder / ".lock")
        self._read: dict[str, tuple[tuple[int, ...], Record | str]] = {}
        self._beaten: dict[int, float] = {}

    def all(self) -> list[Record]:
        """Every record in the order of their numbers; only files that have changed are read again."""
        before, self._read = self._read, {}
        for path in sorted(self.folder.glob("[0-9]*.json")):
            with contextlib.suppress(FileNotFoundError):
                mark = _mark(path)
                same = path.name in before and before[path.name][0] == mark
                self._read[path.name] = before[path.name] if same else (mark, _parsed(path))
        found = [record for _, record in self._read.values() if isinstance(record, Record)]
        return sorted(found, key=lambda record: record.number)

    def unread(self) -> dict[str, str]:
        """What the last `all` left out: the name of a file -> why it is no record. No new trial takes its number."""
        return {name: why for name, (_, why) in self._read.items() if isinstance(why, str)}

    def claim(self, make: Callable[[Sequence[Record]], Record | None]) -> Record | None:
        """The trial that this process is to run now, written as running before another worker can ask.

        One that waits or whose worker has died comes first, begun anew with the same params and settings; else `make`
        decides on all records and leaves the number to this function. None where `make` has none.
        """
        with self._lock:
            sweep(self.folder)
            records = [self._taken_from_the_dead(record) for record in self.all()]
            claimed = next((record for record in records if record.state == "waiting"), None)
            if claimed is None and (made := make(records)) is not None:
                claimed = replace(made, number=self._next_number())
            if claimed is not None:
                claimed = replace(_anew(claimed), state="running", worker=_worker(), began=time.time())
                self._write(claimed)
            return claimed

    def add(self, record: Record) -> Record:
        """Give a record that is done already the next number, and write it."""
        with self._lock:
            added = replace(record, number=self._next_number(), worker=_worker(), began=time.time())
            self._write(added)
            return added

    def put(self, record: Record) -> bool:
        """Write `record`; False, and nothing written, where another worker has taken its trial up meanwhile."""
        with self._lock:
            path = self._path(record.number)
            now = _parsed(path) if path.exists() else record
            if isinstance(now, Record) and (now.worker, now.began) != (record.worker, record.began):
                return False
            self._write(record)
            return True

    def beat(self, record: Record) -> None:
        """Say that the worker of `record` lives; cheap enough for every step."""
        now = time.monotonic()
        if now - self._beaten.get(record.number, -math.inf) >= BEAT_SECONDS:
            self._beaten[record.number] = now
            with contextlib.suppress(OSError):  # a disk that is away for a moment ends no training
                os.utime(self._path(record.number))

    def _taken_from_the_dead(self, record: Record) -> Record:
        """`record`, waiting again if its worker has died, or given up if too many have."""
        if record.state != "running" or self._lives(record):
            return record
        deaths = record.deaths + 1
        if deaths < MAX_DEATHS:
            return replace(record, state="waiting", deaths=deaths)
        given_up = replace(record, state="failed", deaths=deaths, why=f"{deaths} workers died at it")
        self._write(given_up)
        return given_up

    def _lives(self, record: Record) -> bool:
        host, _, pid = record.worker.rpartition(":")
        if host == socket.gethostname() and pid.isdigit():
            return _runs(int(pid), record.began)
        clock = self.folder / ".clock"  # the clock of the file system, which other machines' beats are written with
        clock.touch()
        return clock.stat().st_mtime - self._path(record.number).stat().st_mtime <= MAX_SILENCE_SECONDS

    def _next_number(self) -> int:
        return 1 + max((int(path.stem) for path in self.folder.glob("*.json") if path.stem.isdigit()), default=0)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:04}.json"

    def _write(self, record: Record) -> None:
        """JSON has no NaN: a score that is none is left out."""
        numbers = {name: _finite(getattr(record, name)) for name in ("value", "low", "high", "predicted")}
        reports = [report for report in record.reports if math.isfinite(report[1])]
        write_json(self._path(record.number), asdict(record) | numbers | {"reports": reports})


def _anew(record: Record) -> Record:
    """`record` as if it had never been begun: what an earlier worker did is not counted twice."""
    return replace(record, reports=(), value=None, low=None, high=None, seconds=0.0, steps=0, why="", system_attrs={})


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _mark(path: Path) -> tuple[int, ...]:
    """What changes when the file does; the inode, because two replacements may fall into one tick of the clock."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


def _parsed(path: Path) -> Record | str:
    """The record in a file, or what is wrong with it."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        record = Record(**fields | {"reports": tuple((int(part), float(score)) for part, score in fields["reports"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        return f"no whole record of a trial: {error}"
    if record.state not in get_args(State) or record.role not in get_args(Role):
        return f"a record of another version of Tunesmith: state {record.state!r}, role {record.role!r}"
    return record if path.stem == f"{record.number:04}" else f"the record of trial {record.number}"


def _worker() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _runs(pid: int, began: float) -> bool:
    """Whether the process that began something at `began` still runs: another may bear its id by now."""
    try:
        process = psutil.Process(pid)
        began_after = process.create_time() > began + 2  # it is known to a second
        return process.status() != psutil.STATUS_ZOMBIE and not began_after
    except psutil.NoSuchProcess:
        return False
