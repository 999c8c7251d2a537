"""The laws that every plug-in of a kind must satisfy; call them from your own tests."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from tunesmith.data.split import Split
from tunesmith.data.table import Table
from tunesmith.evaluation.learnable import Learnable
from tunesmith.models.kinds import Kind
from tunesmith.plugins import options
from tunesmith.strategies.plan import Plan, assign
from tunesmith.tasks.task import Target

STAGES = ("stem", "block.0", "block.1", "block.2", "neck", "head")


def has_documented_options(thing: Callable[..., Any]) -> None:
    """It says in one sentence what it is, and each option has a type and a default."""
    assert thing.__doc__ and thing.__doc__.strip().split("\n")[0], "a plug-in opens with one sentence"
    for name, option in options(thing).items():
        assert option.annotation is not option.empty, f"the option {name} has no type"
        assert option.default is not option.empty, f"the option {name} has no default"


def strategy(plan: Callable[[Sequence[str]], Plan], stages: Sequence[str] = STAGES) -> None:
    """The plan is pure; its phases share the whole length; in every phase each parameter has a rule, some move, and
    the head moves in the end."""
    made = plan(stages)
    assert made == plan(stages), "a plan is a pure function of the stages"
    assert math.isclose(sum(phase.share for phase in made.phases), 1.0), "the phases' shares add up to 1"
    kinds: tuple[Kind, ...] = ("weight", "bias", "norm", *(("adapter",) if made.edits else ()))
    addresses = {f"{stage}/{kind}": kind for stage in stages for kind in kinds}
    for phase in made.phases:
        rules = assign(phase.rules, addresses)
        assert set(rules) == set(addresses)
        assert any(rule.lr is not None for rule in rules.values()), f"nothing moves in the phase {phase.name}"
    assert any(rule.lr for address, rule in rules.items() if address.startswith("head/")), "the new head must move"


def schedule(factor: Callable[..., float], total: int = 20) -> None:
    """Pure in the step, and in the scores where it takes them as its third parameter; between 0 and 1 throughout."""
    import inspect

    named = inspect.signature(factor).parameters.values()
    takes = sum(parameter.kind is not parameter.KEYWORD_ONLY for parameter in named)
    assert takes in (2, 3), "a schedule is a function of the step, the length, and perhaps the scores"
    rising = [(number, number / 20) for number in range(20)]
    worse = [(number, -value) for number, value in rising]
    for scores in ([], rising, worse, [(1, math.nan), *worse]) if takes == 3 else (None,):
        known = () if scores is None else (tuple(scores),)
        values = [factor(step, total, *known) for step in range(total)]
        assert values == [factor(step, total, *known) for step in reversed(range(total))][::-1]
        assert all(0.0 <= value <= 1.0 for value in values) and max(values) > 0


def optimizer(make: Callable[[list[dict[str, Any]]], torch.optim.Optimizer]) -> None:
    """It looks at the loss in every step, lowers a convex one, moves each parameter but where the rate is 0, and
    continues to the bit from its state as saved and loaded with weights_only."""
    import io

    def start() -> tuple[list[torch.nn.Parameter], torch.optim.Optimizer]:
        matrix = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3) / 3 - 0.8)
        vector, table = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3, 2) / 2)
        groups: list[dict[str, Any]] = [
            {"params": [matrix, table], "addresses": ["block.0/weight", "stem/weight"], "multiple": 1.0, "decay": 1.0},
            {"params": [vector], "addresses": ["block.0/bias"], "multiple": 0.5, "decay": 0.0},
        ]
        return [matrix, vector, table], make(groups)

    def step(parameters: list[torch.nn.Parameter], made: torch.optim.Optimizer, rate: float = 1e-2) -> float:
        looks = []

        def look() -> float:
            made.zero_grad(set_to_none=True)
            with torch.enable_grad():
                loss = torch.stack([(parameter**2).sum() for parameter in parameters]).sum()
                loss.backward()
            looks.append(float(loss.detach()))
            return looks[-1]

        for group in made.param_groups:
            group["lr"] = rate * group["multiple"]
        made.step(look)
        assert looks, "an optimizer has its gradients from the function it is given"
        return looks[0]

    whole, made = start()
    held = {id(parameter) for group in made.param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in whole}, "its groups hold the parameters it was given, all of them"
    before = [parameter.detach().clone() for parameter in whole]
    step(whole, made, rate=0.0)
    assert all(torch.equal(*pair) for pair in zip(before, whole, strict=True)), "it moves at rate 0"
    losses = [step(whole, made) for _ in range(6)]
    assert losses[-1] < losses[0]
    assert not any(torch.equal(*pair) for pair in zip(before, whole, strict=True)), "a parameter stayed where it was"
    parameters, made = start()
    step(parameters, made, rate=0.0)
    for _ in range(3):
        step(parameters, made)
    file = io.BytesIO()
    torch.save(made.state_dict(), file)
    file.seek(0)
    resumed, again = start()
    with torch.no_grad():
        for parameter, stored in zip(resumed, parameters, strict=True):
            parameter.copy_(stored)
    again.load_state_dict(torch.load(file, weights_only=True))
    for _ in range(3):
        step(resumed, again)
    ended = all(torch.equal(*pair) for pair in zip(whole, resumed, strict=True))
    assert ended, "resumed from its state it ends elsewhere"


def metric(function: Callable[..., torch.Tensor], codes: np.ndarray, chances: np.ndarray, target: Target) -> None:
    """One value a resample, the same alone as among others, and not moved by the order of the rows."""
    truth, given = torch.from_numpy(codes), torch.from_numpy(chances)
    turned = torch.arange(len(truth)).flip(0)
    alone = function(truth[None], given[None], target)
    several = function(torch.stack([truth, truth[turned]]), torch.stack([given, given[turned]]), target)
    assert alone.shape == (1,) and several.shape == (2,)
    torch.testing.assert_close(several.double(), alone.double().expand(2), rtol=1e-5, atol=1e-6)


def baseline(function: Callable[[Learnable], np.ndarray], rows: Learnable) -> None:
    """A finite output for every row and label, probabilities where there are labels."""
    outputs = function(rows)
    assert outputs.shape == (len(rows.asked), rows.target.num_outputs)
    assert np.isfinite(outputs).all()
    if rows.target.num_outputs > 1:
        assert ((outputs >= 0) & (outputs <= 1)).all()


def head(make: Callable[..., torch.nn.Module | None], width: int = 8, num_outputs: int = 3) -> None:
    """Outputs (rows, num_outputs) that do not depend on what stands in the padding."""
    made = make(width, num_outputs)
    if made is None:  # the model's own head is part of the model
        return
    made.eval()
    states, mask = torch.randn(2, 5, width), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    other = states.clone()
    other[1, 2:] = 99.0
    assert made(states, mask).shape == (2, num_outputs)
    assert torch.equal(made(states, mask), made(other, mask))


def split(function: Callable[..., Split], table: Table, labels: np.ndarray) -> None:
    """Every row in exactly one part, some to train on, and the same parts each time."""
    made, again = function(table, labels), function(table, labels)
    rows = np.concatenate([made.train, made.valid, made.test])
    assert sorted(rows) == list(range(table.num_rows))
    assert len(made.train)
    assert all(np.array_equal(getattr(made, part), getattr(again, part)) for part in ("train", "valid", "test"))
