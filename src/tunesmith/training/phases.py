"""From a Plan's rules to what trains: gradients on and off, parameter groups, and what the loss never reaches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from tunesmith.data.batch import Batch
from tunesmith.models.stages import evaluating
from tunesmith.models.tunable import Tunable
from tunesmith.objectives.objective import Objective
from tunesmith.strategies.plan import Phase, Plan, assign

Optimizer = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]


def open_phase(net: Tunable, phase: Phase) -> None:
    """Switch gradients and modes to what the phase's rules say."""
    rules = assign(phase.rules, net.kinds())
    for address, parameter in net.address().items():
        parameter.requires_grad_(rules[address].lr is not None)
    net.settle()


def freeze_unreached(net: Tunable, objective: Objective, batch: Batch) -> list[str]:
    """Freeze and name the parameters that the loss does not depend on, such as a pooler that the head does not read."""
    with evaluating(net):
        objective(net, batch).sum.backward()
    unreached = [name for name, p in net.named_parameters() if p.requires_grad and p.grad is None]
    named = dict(net.named_parameters())
    for name in unreached:
        named[name].requires_grad_(False)
    net.zero_grad(set_to_none=True)
    return unreached


def moving(net: Tunable, plan: Plan) -> set[str]:
    """The names of the parameters that any phase trains."""
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    addresses, kinds, found = net.address(), net.kinds(), set()
    for phase in plan.phases:
        rules = assign(phase.rules, kinds)
        found |= {names[id(p)] for address, p in addresses.items() if rules[address].lr is not None}
    return found


def groups(net: Tunable, phase: Phase) -> list[dict[str, Any]]:
    """Parameter groups by rate and decay, with the addresses of their parameters; biases, norms and other vectors do
    not decay."""
    rules = assign(phase.rules, net.kinds())
    found: dict[tuple[float, float], dict[str, nn.Parameter]] = {}
    for address, parameter in net.address().items():
        if parameter.requires_grad:
            rule = rules[address]
            decay = rule.decay if parameter.dim() > 1 else 0.0
            found.setdefault((float(rule.lr or 0.0), decay), {})[address] = parameter
    return [
        {"params": [*own.values()], "addresses": [*own], "multiple": lr, "decay": decay}
        for (lr, decay), own in found.items()
    ]


def carry(old: torch.optim.Optimizer | None, new: torch.optim.Optimizer) -> None:
    """Give the new phase's optimizer what the old one knew of the parameters that go on moving."""
    if old is None or hasattr(old, "eval"):  # Schedule-Free counts its steps by group: its state is of one phase.
        return
    for group in new.param_groups:
        for parameter in group["params"]:
            if parameter in old.state:
                new.state[parameter] = old.state[parameter]
