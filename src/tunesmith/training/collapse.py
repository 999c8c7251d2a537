"""Collapse: fine-tuning that has become worse than useless, told from its losses and outputs before a third is spent.

At too high a rate, or without a warm-up, a body can fall into a state in which it gives every row the same answer, and
from which it does not return; the gradients vanish (Mosbach et al. 2021). A run that is only slow is something else:
its outputs differ from row to row as they did before the first step, or more. All values are equal on all ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tunesmith.errors import TunesmithError
from tunesmith.training.loop import Event
from tunesmith.training.state import State

WATCHED = 0.3
"""The share of a phase in which outputs are watched, from its beginning."""
EVERY = 0.05
"""The share of a phase from one look to the next."""
CONSTANT = 0.02
"""Outputs whose spread over rows is less than this of what it was before the first step are the same for every row.
Measured: a collapse mostly falls under 0.01 within a few steps, a healthy run stays over 0.5 (bench/collapse.py)."""
NEARLY, WORSE = 0.15, 1.2
"""Outputs whose spread is less than the first are nearly the same; with a loss of more than the second times that of
a constant answer, they are worse than none. What only turns round its answers passes by, at a loss no higher."""
EXPLODED = 3.0
"""A mean loss of more than so many times what the run began with, or what a constant answer would cost."""

Policy = Literal["restart", "stop", "continue"]
Answer = Literal["restart", "stop", "end", "go on"]


class CollapseError(TunesmithError):
    """The training collapsed, and the recipe or the numbers forbid to go on."""


@dataclass(frozen=True)
class Look:
    """What was seen at a step of a phase: the mean loss since the look before, and the outputs' spread over rows."""

    step: int
    loss: float
    spread: float | None


@dataclass
class Watch:
    """Looks at a run on its way, and keeps what it sees in the State, so that a resume sees the same.

    `outputs()` are those of a few training rows as the net stands, (rows, outputs); `policy` is the recipe's. `told` is
    called with a reason when the run goes on all the same."""

    outputs: Callable[[], np.ndarray]
    policy: Policy
    told: Callable[[str], None]

    def open(self, state: State, num_steps: int, constant: float | None) -> None:
        """Begin a phase of so many steps. `constant` is the loss of the best constant answer; None = the head does not
        move in this phase, or what it answers is not what the loss is about: only losses are watched."""
        if state.watched.get("phase") == state.phase and state.phase_step:
            return
        state.watched = {"phase": state.phase, "num_steps": num_steps, "constant": constant, "looks": [], "losses": []}
        state.watched["spread"] = None if constant is None else spread(self.outputs())

    def see(self, state: State, event: Event) -> None:
        """Note the step's loss; at a look, judge. What follows from it is in the State before the step is yielded."""
        seen = state.watched
        seen["losses"].append(event.loss.detach())
        every = max(1, math.ceil(EVERY * seen["num_steps"]))
        if state.phase_step % every:
            return
        losses = [math.nan if loss is None else float(loss) for loss in seen["losses"]]
        if seen.get("answer") and math.isfinite(losses[-1]):
            seen["losses"] = []
            return
        seen.setdefault("first", losses[0] if math.isfinite(losses[0]) else None)
        is_watched = seen["spread"] is not None and state.phase_step <= WATCHED * seen["num_steps"]
        now = Look(state.phase_step, float(np.mean(losses)), spread(self.outputs()) if is_watched else None)
        seen["losses"], seen["looks"] = [], [*seen["looks"], [now.step, now.loss, now.spread]][-2:]
        reason = judge([Look(*look) for look in seen["looks"]], seen["first"], seen["constant"], seen["spread"])
        if reason is not None:
            self._answer(state, reason, finite=math.isfinite(now.loss))

    def _answer(self, state: State, reason: str, *, finite: bool) -> None:
        can_restart, has_best = state.start is not None, state.best is not None
        found = answer(self.policy, state.attempt, can_restart=can_restart, finite=finite, has_best=has_best)
        state.watched |= {"looks": [], "reason": reason, "answer": found}
        if found == "go on":
            self.told(reason)


def pending(state: State) -> str | None:
    """Why the steps must not go on from here; None where they may."""
    if state.watched.get("answer") in (None, "go on"):
        return None
    return str(state.watched["reason"])


def is_over(state: State, num_phases: int) -> bool:
    """Whether no look at outputs is left, so that no restart will ask for the weights from before the first step."""
    seen = state.watched
    return state.phase == num_phases - 1 and state.phase_step > WATCHED * seen.get("num_steps", math.inf)


def judge(looks: Sequence[Look], first: float | None, constant: float | None, start: float | None) -> str | None:
    """Why the run has collapsed, in words, from its last two looks; None where it has not.

    `first` is the loss of the first step, `constant` that of the best constant answer, `start` the spread of outputs
    before the first step. One look is enough for a loss that is no number; else two in a row must agree."""
    if not looks:
        return None
    if not math.isfinite(looks[-1].loss):
        return "the loss is not a finite number"
    if len(looks) < 2:
        return None
    begun = max(first or 0.0, constant or 0.0)
    if begun > 0 and all(look.loss > EXPLODED * begun for look in looks):
        return f"the loss has grown to {looks[-1].loss:.3g} from {begun:.3g}"
    spreads = [look.spread for look in looks if look.spread is not None]
    if not start or len(spreads) < len(looks):
        return None
    seen = f"outputs differ {spreads[-1] / start:.1g} times as much from row to row as before the first step"
    if max(spreads) < CONSTANT * start:
        return f"every row gets the same answer: {seen}"
    if constant and max(spreads) < NEARLY * start and all(look.loss > WORSE * constant for look in looks):
        return f"nearly the same answer for every row, and a worse one than always the same: {seen}"
    return None


def answer(policy: Policy, attempt: int, *, can_restart: bool, finite: bool, has_best: bool) -> Answer:
    """What follows from a collapse. A restart happens once; after it, and with "continue", a run goes on while its loss
    is a number; where it is none, the run ends with the best so far, or stops if there is no best."""
    if policy == "stop":
        return "stop"
    if policy == "restart" and attempt == 0 and can_restart:
        return "restart"
    if finite:
        return "go on"
    return "end" if has_best else "stop"


def spread(outputs: np.ndarray) -> float | None:
    """How much outputs differ from row to row: their standard deviation over the rows, as a mean over the outputs.

    None where they are no finite numbers.

    >>> spread(np.array([[0.0, 1.0], [2.0, 1.0]]))
    0.5
    """
    if not np.isfinite(outputs).all():
        return None
    return float(outputs.astype(np.float64).std(0).mean())
