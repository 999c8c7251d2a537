"""BatchNorm statistics stay as they were trained, also in stages that move."""

from __future__ import annotations

from tunesmith.errors import ModelError
from tunesmith.models.kinds import has_statistics
from tunesmith.models.pretrained import Pretrained


def edit(pretrained: Pretrained) -> None:
    """Keep every BatchNorm in evaluation mode; its weights and biases train where their stage does.

    The statistics of small batches are noise: on few rows those of the large source are often better. Frozen stages
    keep theirs anyhow."""
    if not any(has_statistics(module) for module in pretrained.module.modules()):
        raise ModelError("has no BatchNorm", where=pretrained.origin.name, remedy="leave the edit out")
    pretrained.fixed_statistics = True
