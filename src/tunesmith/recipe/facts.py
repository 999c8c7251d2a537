"""The facts about data, weights and machine from which every "auto" is resolved."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Facts:
    """What `resolve` may look at, and nothing else."""

    name: str
    """Of the data: the first file's, without its extension."""
    task: str
    inputs: tuple[str, ...]
    target: str | tuple[str, ...]
    num_train: int
    """Training rows."""
    num_valid: int
    num_outputs: int
    """Classes, labels, or 1 for regression."""
    num_parameters: int
    """Of the pretrained model."""
    phases: tuple[tuple[str, str], ...]
    """Of the strategy: the name of each phase, and what mainly moves: `body`, `head`, `vectors` or `adapters`."""
    max_positions: int
    """Tokens the model can read."""
    longest: int
    """Tokens (seconds of a sound) of the longest row, before any cut."""
    device: str
    precision: str
    split: str
    """How the rows were split: `hash`, `column`, `given`, or `all` (every row trains)."""
    select: str
    """The metric that the task is judged by."""
    metrics: tuple[str, ...]
    """What is reported."""
    modality: str = "text"
    """What a row is to the model: text, image, sound, table or tensor."""
    seconds: float = 0.0
    """What the model reads of a sound at most."""
    pairs: bool = False
    """Whether the body is tuned on pairs of rows before the head."""
    pretrained: bool = True
    """Whether the model brings weights; without, it learns all from these rows."""
