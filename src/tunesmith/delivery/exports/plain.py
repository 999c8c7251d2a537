"""A plain state dict of torch, under the names that the network itself has: `model.pth` and `model.safetensors`."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_model

from tunesmith.models.tunable import Tunable


def write(net: Tunable, folder: Path) -> None:
    """Write the weights of the whole network, its new head at its old place.

    `torch.load(..., weights_only=True)` opens `model.pth`; the network takes it once its last layer has the outputs of
    the labels."""
    torch.save(dict(net.body.state_dict()), folder / "model.pth")
    save_model(net.body, str(folder / "model.safetensors"))
    (folder / "model.safetensors").chmod(0o644)
