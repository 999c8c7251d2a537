"""The loop: one generator that trains one phase and yields an Event a step; it never evaluates, saves or decides."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tunesmith.data.batch import Batch
from tunesmith.models.kinds import has_statistics
from tunesmith.objectives.objective import Objective
from tunesmith.seeds import fold, seed_everything
from tunesmith.training.machine import Machine, make_equal
from tunesmith.training.state import State


@dataclass(frozen=True)
class Event:
    """One finished optimizer step. `loss` stays a tensor until someone reads it: no waiting for the device."""

    step: int
    phase: str
    loss: Tensor
    rows: int
    rate: float
    seconds: float


Penalty = Callable[[list[nn.Parameter]], Tensor]


@dataclass(frozen=True)
class Pace:
    """How a phase moves: its last step, the learning rate at a step, what limits the gradients, what is added to them
    beside the loss's (a penalty; it returns its own value), and the run's seed."""

    last_step: int
    rate: Callable[[int], float]
    seed: int
    clip: Callable[[list[nn.Parameter]], None] | None = None
    penalty: Penalty | None = None


def train_phase(
    state: State,
    name: str,
    feed: Callable[[int], tuple[list[Batch], int]],
    objective: Objective,
    pace: Pace,
    machine: Machine,
) -> Iterator[Event]:
    """Train until `pace.last_step`. `feed(step)` gives this rank's parts of the step's batch and the rows of all ranks.

    The gradients of the parts are those of the sum of losses; they are added over parts and ranks and divided once by
    the whole count, so that any cut of a batch gives the gradient of the batch."""
    optimizer = state.optimizer
    assert optimizer is not None
    parameters: list[nn.Parameter] = [p for group in optimizer.param_groups for p in group["params"]]
    statistics = moving_statistics(state.net)
    while state.step < pace.last_step:
        started = time.perf_counter()
        rate = pace.rate(state.step)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["multiple"]
        batches, num_rows = feed(state.step)
        seen: list[Tensor] = []

        def gradients(batches: list[Batch] = batches, seen: list[Tensor] = seen) -> Tensor:
            """The step's gradients, anew; most optimizers ask once, L-BFGS as often as it likes."""
            optimizer.zero_grad(set_to_none=True)
            total = torch.zeros(2, device=machine.device)
            for part, batch in enumerate(batches):
                seed_everything(fold(pace.seed, "step", state.step, part, machine.rank))
                with machine.autocast(), torch.enable_grad():
                    with machine.dropout():
                        each = objective(state.net, batch)
                    each.sum.backward()
                total += torch.stack((each.sum.detach().float(), each.count.detach().float()))
            total = machine.sum(total)
            machine.sum_gradients(parameters)
            if state.phase_step == 0:
                check_gradients(state.net, parameters)
            _scale(parameters, total[1])
            value = total[0] / total[1]
            seen.append(value)
            if pace.penalty is not None:
                value = value + pace.penalty(parameters)
            if pace.clip is not None:
                pace.clip(parameters)
            return value

        optimizer.step(gradients)  # type: ignore[arg-type] # torch says float and means what can be made one
        optimizer.zero_grad(set_to_none=True)
        make_equal(statistics, machine)
        state.step += 1
        state.phase_step += 1
        yield Event(state.step, name, seen[0], num_rows, rate, time.perf_counter() - started)


def moving_statistics(net: nn.Module) -> list[Tensor]:
    """The running means and variances of the BatchNorms that train: each rank sees rows of its own."""
    moving = (module for module in net.modules() if has_statistics(module) and module.training)
    return [tensor for module in moving for tensor in module.buffers() if tensor.is_floating_point()]


def check_gradients(net: nn.Module, parameters: list[nn.Parameter]) -> None:
    """Frozen means frozen: after the first step each parameter that should train has a gradient, and no other."""
    training = {id(parameter) for parameter in parameters}
    for name, parameter in net.named_parameters():
        assert (parameter.grad is not None) == (id(parameter) in training), f"gradient of {name}"


def _scale(parameters: list[nn.Parameter], count: Tensor) -> None:
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    torch._foreach_div_(gradients, count.clamp(min=torch.finfo(torch.float32).tiny))
