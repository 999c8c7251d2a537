"""Averages of weights: which are kept along the way, which are scored, and what is made of them at the end; a function
each, whose keyword-only parameters are the options."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from tunesmith.models.kinds import has_statistics
from tunesmith.models.stages import evaluating
from tunesmith.training import checkpoint
from tunesmith.training.state import State, Weights, mixed

Inputs = Callable[[], Iterable[Mapping[str, Tensor]]]
"""The inputs of the training rows, in batches."""
Score = Callable[[Weights], float]
"""Weights -> their score on the validation rows, more is better; the weights are in the net afterwards."""


@dataclass(frozen=True)
class Average:
    """`step(state, share, evaluated)` after each step, at `share` of the length. `scored(state)` gives the weights that
    are scored and kept in place of those that train, None for these themselves. `finish(state, folder, score)`, after
    the last step, leaves what it chose in the net and says what that is, in words and as data. `members` are the
    checkpoints to keep for it; with `needs_start` the State holds the weights before the first step."""

    step: Callable[[State, float, bool], None] | None = None
    scored: Callable[[State], Weights | None] | None = None
    finish: Callable[[State, Path, Score], tuple[str, dict[str, Any]]] | None = None
    members: int = 0
    needs_start: bool = False

    @contextlib.contextmanager
    def in_place(self, state: State, inputs: Inputs) -> Iterator[None]:
        """Put what is scored into the net for as long as the `with` lasts; then what trains, to the bit."""
        found = self.scored(state) if self.scored is not None else None
        if found is None:
            yield
            return
        kept = {name: tensor.clone() for name, tensor in state.weights().items()}
        self.put(state, found, inputs)
        try:
            yield
        finally:
            state.load_weights(kept)

    @staticmethod
    def put(state: State, found: Weights, inputs: Inputs) -> None:
        """Load averaged weights for good, and with them the BatchNorm statistics that they give on `inputs`."""
        state.load_weights(found)
        _recompute_statistics(state.net, inputs)


def ema(*, decay: Annotated[float, Field(gt=0, lt=1)] = 0.99) -> Average:
    """An exponential moving average of the weights, corrected for its start (Polyak & Juditsky 1992, Kingma & Ba 2015).

    After n steps the weights of step i count in proportion to decay^(n - i): the average reaches back about
    1 / (1 - decay) steps, and over fewer steps than that it is nearly the plain mean."""

    def step(state: State, share: float, evaluated: bool) -> None:
        state.num_averaged += 1
        # The weight of the newest in a sum of weights that is 1: (1 - decay) divided by Adam's correction.
        _move(state, (1 - decay) / (1 - decay**state.num_averaged))

    return Average(step, _averages)


def swa(*, start: Annotated[float, Field(ge=0, lt=1)] = 0.75, every: Literal["step", "evaluation"] = "step") -> Average:
    """The plain mean of the weights from `start` of the length on, of each step or evaluation (Izmailov et al. 2018).

    Meant for a rate that does not fall to zero there: a constant or a cyclic schedule."""

    def step(state: State, share: float, evaluated: bool) -> None:
        if share > start and (evaluated or every == "step"):
            state.num_averaged += 1
            _move(state, 1 / state.num_averaged)

    return Average(step, _averages)


def soup(*, size: Annotated[int, Field(ge=2)] = 5) -> Average:
    """The greedy soup of the `size` checkpoints that scored best: a mean that takes each unless the score falls.

    Wortsman et al. 2022a make it of models of several runs; here they are checkpoints of one. It begins with the best,
    and the next best joins the mean if the mean then scores at least as well on the validation rows."""

    def finish(state: State, folder: Path, score: Score) -> tuple[str, dict[str, Any]]:
        first, *others = state.members
        mean = checkpoint.kept_weights(first, folder)
        best, steps = score(mean), [first["step"]]
        for member in others:
            tried = mixed(mean, checkpoint.kept_weights(member, folder), 1 / (len(steps) + 1))
            value = score(tried)
            if value >= best:
                mean, best, steps = tried, value, [*steps, member["step"]]
        score(mean)
        of, steps = len(state.members), sorted(steps)
        told = f"the mean of {len(steps)} of {of} checkpoints, of the steps {', '.join(map(str, steps))}"
        return told, {"steps": steps, "of": of}

    return Average(finish=finish, members=size)


def wise_ft(*, coefficient: Annotated[float, Field(ge=0, le=1)] | None = None) -> Average:
    """Between the pretrained body (0) and the tuned one (1), at a `coefficient` (WiSE-FT, Wortsman et al. 2022b).

    Left out, it is chosen from 0, 0.1 ... 1 by the validation rows after the last step, the larger of equals. Given
    (0.5 is the paper's advice), what is scored and kept all along are the weights at it. New weights, such as the
    head's, have no pretrained value and stay as tuned."""

    def at(state: State, tuned: Weights, share: float) -> Weights:
        assert state.start is not None
        known = {name: tensor for name, tensor in tuned.items() if name in state.start and name not in state.fresh}
        start = {name: state.start[name].to(tensor.device) for name, tensor in known.items()}
        return {**tuned, **mixed(start, known, share)}

    def scored(state: State) -> Weights | None:
        assert coefficient is not None
        return at(state, _parameters(state), coefficient)

    def finish(state: State, folder: Path, score: Score) -> tuple[str, dict[str, Any]]:
        tuned = {name: tensor.clone() for name, tensor in state.weights().items()}
        values = {tenth / 10: score(at(state, tuned, tenth / 10)) for tenth in range(11)}
        best = max(values, key=lambda share: (values[share], share))
        score(at(state, tuned, best))
        return f"the tuned weights at {best:g}, the pretrained at {1 - best:g}", {"coefficient": best}

    if coefficient is None:
        return Average(finish=finish, needs_start=True)
    return Average(scored=scored, needs_start=True)


def _averages(state: State) -> Weights | None:
    return state.averages or None


def _parameters(state: State) -> Weights:
    return {name: p.detach() for name, p in state.net.named_parameters() if name in state.moved}


@torch.no_grad()
def _move(state: State, share: float) -> None:
    """Move the averages by `share` of the way to the weights as they are."""
    weights = _parameters(state)
    if not state.averages:
        state.averages = {name: tensor.float().clone() for name, tensor in weights.items()}
        return
    torch._foreach_lerp_([state.averages[name] for name in weights], [w.float() for w in weights.values()], share)


@torch.no_grad()
def _recompute_statistics(net: nn.Module, inputs: Inputs) -> None:
    """BatchNorm's running mean and variance of the weights as they are, over `inputs` (Izmailov et al. 2018).

    Only of layers that are in training: a frozen one keeps the statistics it was pretrained with."""
    norms: list[Any] = [m for m in net.modules() if has_statistics(m) and m.training and m.track_running_stats]
    if not norms:
        return
    momenta = {module: module.momentum for module in norms}
    try:
        with evaluating(net):
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None
                norm.train()
            for batch in inputs():
                net(batch)
    finally:
        for norm, momentum in momenta.items():
            norm.momentum = momentum
