"""The record of a trial: one file each, replaced whole, from which everything about a search can be rebuilt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["waiting", "running", "done", "pruned", "stopped", "failed"]


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
    role: Literal["trial", "finalist", "refit"] = "trial"
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
    system_attrs: dict[str, Any] = field(default_factory=dict)
    """Optuna's, of this trial: without them its pruner prunes nothing."""
    cost: dict[str, float] = field(default_factory=dict)
    """`parameters`, `trained` of them, `bytes` as saved, and `row_seconds` to predict a row."""
