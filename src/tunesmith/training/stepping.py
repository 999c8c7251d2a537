"""Optimizers of several parts or of several looks at the loss a step, and the weights by which one is judged."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

Closure = Callable[[], Any]


class Joined(torch.optim.Optimizer):
    """Several optimizers as one, each with parameter groups of its own.

    State and groups are held here once, and lent to the parts at each step: so `state_dict`, loading, and state carried
    from an earlier phase work as they do for one optimizer."""

    def __init__(self, parts: dict[str, torch.optim.Optimizer]) -> None:
        groups = [group | {"part": name} for name, part in parts.items() for group in part.param_groups]
        super().__init__(groups, {})
        self._parts = parts

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:
        """One look at the loss, then a step of every part."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for name, part in self._parts.items():
            part.state = self.state
            part.param_groups = [group for group in self.param_groups if group["part"] == name]
            part.step()
        return loss


class ScaledLBFGS(torch.optim.Optimizer):
    """`torch.optim.LBFGS`, which knows one parameter group, for groups that differ in `multiple` and weight decay.

    It works on u = p / sqrt(multiple). The gradient by u is sqrt(multiple) times that by p, so a step of size t along
    it moves p by t times multiple times its gradient: the multiple scales the rate as in gradient descent. A parameter
    whose multiple is 0 is left out. Weight decay w adds w/2 |p|^2 to the loss, and w p to the gradient."""

    def __init__(self, groups: list[dict[str, Any]], **settings: Any) -> None:
        super().__init__(groups, {"lr": 1.0, "weight_decay": 0.0})
        self._settings = settings

    @torch.no_grad()
    def step(self, closure: Closure) -> Any:  # type: ignore[override]
        """As many looks at the loss as the iterations and the line search take; at rate 0 one look and no move."""
        groups = [group for group in self.param_groups if group["multiple"] > 0]
        moving = [parameter for group in groups for parameter in group["params"]]
        roots = [math.sqrt(group["multiple"]) for group in groups for _ in group["params"]]
        decays = [group["weight_decay"] for group in groups for _ in group["params"]]
        rate = groups[0]["lr"] / groups[0]["multiple"] if groups else 0.0
        if rate == 0:
            with torch.enable_grad():
                return closure()
        # Made anew from the parameters at each step: a run that continues from a checkpoint has nothing else.
        scaled = [nn.Parameter(parameter / root) for parameter, root in zip(moving, roots, strict=True)]

        def place() -> None:
            for parameter, u, root in zip(moving, scaled, roots, strict=True):
                parameter.copy_(u * root)

        def look() -> Any:
            with torch.no_grad():
                place()
            loss = closure()
            with torch.no_grad():
                for parameter, u, root, decay in zip(moving, scaled, roots, decays, strict=True):
                    gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                    u.grad = (gradient + decay * parameter) * root
                return loss + _penalty(moving, decays) if any(decays) else loss

        part = torch.optim.LBFGS(scaled, lr=rate, **self._settings)
        part.state[scaled[0]] = self._memory(moving, roots)
        loss = part.step(look)
        place()
        return loss

    def _memory(self, moving: list[nn.Parameter], roots: list[float]) -> dict[str, Any]:
        """What is known of the curvature, kept with the first parameter; empty where it is that of other variables."""
        states, start, same = [self.state[parameter] for parameter in moving], 0, True
        for state, parameter, root in zip(states, moving, roots, strict=True):
            same &= state.get("place") == (start, root)
            start += parameter.numel()
        same &= states[0].get("size") == start
        if not same:
            start = 0
            for state, parameter, root in zip(states, moving, roots, strict=True):
                state.clear()
                state["place"] = (start, root)
                start += parameter.numel()
            states[0]["size"] = start
        memory: dict[str, Any] = states[0]
        return memory


@contextlib.contextmanager
def evaluated(optimizer: torch.optim.Optimizer | None) -> Iterator[None]:
    """The weights to score and to keep, for as long as the `with` lasts; then those of training again, to the bit.

    Of most optimizers they are the same. Schedule-Free trains at one point and is judged at an average: it has methods
    `eval` and `train`, which move the weights from one to the other and back, but for rounding."""
    if optimizer is None or not _averages(optimizer) or not all(g["train_mode"] for g in optimizer.param_groups):
        yield
        return
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    kept = [parameter.detach().clone() for parameter in parameters]
    finish(optimizer)
    try:
        yield
    finally:
        optimizer.train()  # type: ignore[attr-defined]
        with torch.no_grad():
            for parameter, old in zip(parameters, kept, strict=True):
                parameter.copy_(old)


def finish(optimizer: torch.optim.Optimizer | None) -> None:
    """Put the weights to score and to keep in place for good, when an optimizer has made its last step."""
    if optimizer is not None and _averages(optimizer):
        optimizer.eval()  # type: ignore[attr-defined]


def _averages(optimizer: torch.optim.Optimizer) -> bool:
    return hasattr(optimizer, "eval") and hasattr(optimizer, "train")


def _penalty(parameters: list[nn.Parameter], decays: list[float]) -> Tensor:
    parts = [decay / 2 * parameter.square().sum() for parameter, decay in zip(parameters, decays, strict=True)]
    return torch.stack(parts).sum()
