"""Pretrained: a body as it was published, its stages, what it expects of inputs, and where it came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.errors import ModelError
from tunesmith.models.stages import Stage

PLACES = "places"
"""Among the inputs of a batch of sounds, what no network reads: which hidden states count (rows, places), where the
samples are other places than the states."""


@dataclass(frozen=True)
class Origin:
    """Where the weights came from: the name asked for, the folder read, and a digest of the weight files."""

    name: str
    folder: Path
    digest: str


@dataclass(frozen=True)
class Calling:
    """How a library's networks are called and what they give."""

    run: Callable[[nn.Module, Mapping[str, Tensor]], Any]
    """(network, inputs) -> what it gives."""
    outputs: Callable[[Any], Tensor]
    """What the whole network gives -> outputs of its own head (rows, num_outputs)."""
    states: Callable[[Any, Mapping[str, Tensor]], tuple[Tensor, Tensor]]
    """What the body gives, and the inputs -> hidden states (rows, places, width), and which of the places count."""


@dataclass
class Pretrained:
    """A loaded model. `module` is the whole network of its library; `body` (the same object or a part of it) turns
    inputs into hidden states (rows, places, `width`). What of `module` lies outside `body` is its own head; where both
    are one object, the own head is the layer of the body that is called `head_path`."""

    module: nn.Module
    body: nn.Module
    stages: tuple[Stage, ...]
    """Of `body`, in execution order."""
    width: int
    processor: Any
    """What prepares its inputs in its library: a tokenizer, image processor or feature extractor; None for others."""
    max_positions: int
    """Tokens that it reads at most; 0 where a row is no text."""
    origin: Origin
    told: str
    """One line: what was loaded and what was newly made."""
    poolings: tuple[str, ...]
    """The poolings that make sense for its hidden states; empty when only its own head fits."""
    own_head: bool
    """Whether `module` has a classification head of its own."""
    calling: Calling
    """How `module` and `body` are called."""
    modality: str = "text"
    head_path: str = ""
    own_layer: Any = None
    """The layer that stands at `head_path` when the own head is chosen."""
    labels: tuple[str, ...] = ()
    """The label names that the loaded head was trained for; empty when the head is new."""
    standardised: bool = False
    """Whether the kept own head of a regression was brought from the target's unit to standard deviations."""
    head_choice: dict[str, Any] = field(default_factory=dict)
    """The pooled head of an earlier Run: its options and its weights."""
    fixed_statistics: bool = False
    """Whether every BatchNorm stays in evaluation mode."""
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
            if self.head_path and name.startswith(f"{self.head_path}."):
                continue
            home = before.get(id(parameter))
            if home is None:
                self.added.add(id(parameter))
                home = next((holds[path] for path in _paths(name) if path in holds), self.stages[0].name)
            found[home].append(name)
        self.stages = tuple(replace(stage, parameters=tuple(found[stage.name])) for stage in self.stages)

    @property
    def weights(self) -> dict[str, Tensor]:
        """The body's parameters and buffers by name, as they are; those of a head inside it are left out."""
        named = {**dict(self.body.named_parameters()), **dict(self.body.named_buffers())}
        inside = f"{self.head_path}." if self.head_path else None
        return {name: tensor.detach() for name, tensor in named.items() if not inside or not name.startswith(inside)}

    @torch.no_grad()
    def put(self, weights: Mapping[str, Tensor]) -> None:
        """Copy weights of these names into the body, in place."""
        own = self.weights
        for name, tensor in weights.items():
            own[name].copy_(tensor)

    @property
    def embeddings(self) -> Tensor:
        """The table of embeddings of its tokens: (vocabulary, width)."""
        found = getattr(self.module, "get_input_embeddings", lambda: None)()
        if not isinstance(getattr(found, "weight", None), Tensor):
            what = "it has no table of embeddings that neighbours of a word could be looked up in"
            raise ModelError(what, where=self.origin.name, remedy='use synonyms = "wordnet", or a file')
        return found.weight  # type: ignore[no-any-return,union-attr]

    def homes(self) -> dict[int, str]:
        """`id` of each parameter of the body -> its stage."""
        named = dict(self.body.named_parameters())
        return {id(named[name]): stage.name for stage in self.stages for name in stage.parameters}


def _paths(name: str) -> list[str]:
    """The modules around a parameter, innermost first."""
    parts = name.split(".")[:-1]
    return [".".join(parts[:depth]) for depth in range(len(parts), 0, -1)]
