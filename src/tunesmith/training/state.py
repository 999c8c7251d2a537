"""State: everything that changes while training; its fields are the checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from tunesmith.models.tunable import Tunable

Weights = dict[str, torch.Tensor]


@dataclass
class State:
    """One net on its way. `step` counts optimizer steps over all phases, `phase_step` those of this phase."""

    net: Tunable
    optimizer: torch.optim.Optimizer | None = None
    step: int = 0
    phase: int = 0
    phase_step: int = 0
    moved: set[str] = field(default_factory=set)
    """Names of the parameters that any phase trains: what a checkpoint and the best weights must hold."""
    scores: list[dict[str, Any]] = field(default_factory=list)
    """The validation scores so far: {step, value}; a value that these rows do not define is None."""
    best: dict[str, Any] | None = None
    """{step, value, digest} of the best so far; its weights are kept in `checkpoints/best-STEP.safetensors`."""
    members: list[dict[str, Any]] = field(default_factory=list)
    """{step, value, digest} of the checkpoints that a soup may be made of, the best first; their weights alike."""
    averages: dict[str, torch.Tensor] = field(default_factory=dict)
    """The running averages of the parameters that moved, by name."""
    num_averaged: int = 0
    """How many steps the averages are made of."""
    attempt: int = 0
    """0, or 1 after a restart: the first attempt had collapsed."""
    watched: dict[str, Any] = field(default_factory=dict)
    """What the guard against a collapse has seen of this phase: see `training/collapse.py`."""
    events_bytes: int = 0
    """The length of events.jsonl at the checkpoint: it is cut to it on resume."""
    fresh: set[str] = field(default_factory=set)
    """Names of the parameters that were not pretrained: of a new head, and what edits added."""
    start: dict[str, torch.Tensor] | None = None
    """`weights()` before the first step, in the host's memory, while a penalty, an average or a restart may need them.
    Neither is in a checkpoint: a resume finds them where the run did, in the pretrained model."""

    def weights(self) -> dict[str, torch.Tensor]:
        """The tensors that training may have changed: parameters that moved, and all buffers."""
        parameters = {name: p.detach() for name, p in self.net.named_parameters() if name in self.moved}
        return parameters | {name: b.detach() for name, b in self.net.named_buffers()}

    def keep_start(self) -> None:
        """Take a copy of the weights before anything moves or is restored."""
        if self.start is None:
            self.start = {name: tensor.to("cpu", copy=True) for name, tensor in self.weights().items()}

    def begin_again(self) -> None:
        """Forget all but the net, what moves and what is new: a second attempt begins at the first step."""
        again = State(self.net, moved=self.moved, attempt=self.attempt + 1, fresh=self.fresh, start=self.start)
        vars(self).update(vars(again))

    @torch.no_grad()
    def load_weights(self, weights: dict[str, torch.Tensor]) -> None:
        """Copy weights back in place."""
        own = dict(self.net.named_parameters()) | dict(self.net.named_buffers())
        for name, tensor in weights.items():
            own[name].copy_(tensor)


@torch.no_grad()
def mixed(first: Weights, second: Weights, share: float) -> Weights:
    """Between two sets of weights, `share` of the second; what does not float is the first's."""
    return {
        name: torch.lerp(tensor, second[name].to(tensor.device), share) if tensor.is_floating_point() else tensor
        for name, tensor in first.items()
    }
