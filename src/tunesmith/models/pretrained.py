"""Pretrained: a body as it was published, its stages, what it expects of inputs, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from tunesmith.models.stages import Stage


@dataclass(frozen=True)
class Origin:
    """Where the weights came from: the name asked for, the folder read, and a digest of the weight files."""

    name: str
    folder: Path
    digest: str


@dataclass
class Pretrained:
    """A loaded model. `module` is the whole network of its library; `body` (the same object or a part of it) turns
    inputs into hidden states (rows, tokens, `width`); what of `module` lies outside `body` is its own head."""

    module: nn.Module
    body: nn.Module
    stages: tuple[Stage, ...]
    """Of `body`, in execution order."""
    width: int
    tokenizer: Any
    max_positions: int
    origin: Origin
    told: str
    """One line: what was loaded and what was newly made."""
    poolings: tuple[str, ...]
    """The poolings that make sense for its hidden states; empty when only its own head fits."""
    own_head: bool
    """Whether `module` has a classification head of its own."""
    labels: tuple[str, ...] = ()
    """The label names that the loaded head was trained for; empty when the head is new."""
    standardised: bool = False
    """Whether the kept own head of a regression was brought from the target's unit to standard deviations."""
    head_choice: dict[str, Any] = field(default_factory=dict)
    """The pooled head of an earlier Run: its options and its weights."""
    switches: list[tuple[Any, str, Any]] | None = None
    """What acts at random over the stages (layerdrop, masked inputs): holder, name and first value."""
    added: set[int] = field(default_factory=set)
    """`id` of the parameters that edits added."""

    def restage(self, before: Mapping[int, str]) -> None:
        """Sort the parameters into the stages again after an edit: those known `before` (id -> stage) stay, a new one
        belongs to the stage whose module holds it."""
        holds = {module: stage.name for stage in self.stages for module in stage.modules}
        found: dict[str, list[str]] = {stage.name: [] for stage in self.stages}
        for name, parameter in self.body.named_parameters():
            home = before.get(id(parameter))
            if home is None:
                self.added.add(id(parameter))
                home = next((holds[path] for path in _paths(name) if path in holds), self.stages[0].name)
            found[home].append(name)
        self.stages = tuple(replace(stage, parameters=tuple(found[stage.name])) for stage in self.stages)

    def homes(self) -> dict[int, str]:
        """`id` of each parameter of the body -> its stage."""
        named = dict(self.body.named_parameters())
        return {id(named[name]): stage.name for stage in self.stages for name in stage.parameters}


def _paths(name: str) -> list[str]:
    """The modules around a parameter, innermost first."""
    parts = name.split(".")[:-1]
    return [".".join(parts[:depth]) for depth in range(len(parts), 0, -1)]
