"""How strongly the loss pulls at each stage: gradient norms relative to weight norms, of a net that is left alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tunesmith.data.batch import Batch
from tunesmith.models.tunable import Tunable
from tunesmith.objectives.objective import Objective
from tunesmith.training.machine import Machine


def relative_norms(
    net: Tunable, objective: Objective, batches: Sequence[Sequence[Batch]], machine: Machine
) -> dict[str, float]:
    """Stage of the body -> |gradient| / |weights|, the mean over `batches` (Lee et al. 2023, Auto-RGN).

    `batches` holds this rank's parts of each. What does not require a gradient counts in neither norm; a stage of such
    parameters alone is left out. The net is in evaluation mode: no dropout. No gradient stays behind."""
    net.eval()
    named = {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}
    found: dict[str, list[float]] = {}
    for parts in batches:
        net.zero_grad(set_to_none=True)
        count = torch.zeros((), device=machine.device)
        for part in parts:
            with machine.autocast():
                loss = objective(net, part)
            loss.sum.backward()
            count += loss.count.detach()
        count = machine.sum(count)
        machine.sum_gradients(named.values())
        for stage in net.stages:
            reached = [named[name] for name in stage.parameters if name in named]
            if reached and stage.name != "head":
                found.setdefault(stage.name, []).append(_ratio(reached) / float(count))
    net.zero_grad(set_to_none=True)
    return {stage: sum(ratios) / len(ratios) for stage, ratios in found.items()}


def _ratio(parameters: list[nn.Parameter]) -> float:
    weights = _norm([parameter.detach() for parameter in parameters])
    return _norm([parameter.grad for parameter in parameters if parameter.grad is not None]) / (weights or 1.0)


def _norm(tensors: list[Tensor]) -> float:
    """The Euclidean norm of all tensors as one vector."""
    return float(torch.stack([torch.linalg.vector_norm(tensor.float()) for tensor in tensors]).norm())
