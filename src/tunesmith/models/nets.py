"""Networks that begin without pretrained weights, a function each; its keyword-only parameters are options."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from tunesmith.errors import RecipeError

Activation = Literal["relu", "gelu", "silu", "tanh", "leaky_relu", "elu"]
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
}
WHERE = "model.options"


class Block(nn.Sequential):
    """One layer with what belongs to it: a unit of depth."""


def cnn(
    sample: Mapping[str, Tensor],
    num_outputs: int,
    *,
    layers: int = 3,
    channels: int | list[int] = 32,
    kernel: int | list[int] = 3,
    pooling: Literal["max", "average", "none"] = "max",
    norm: Literal["batch", "none"] = "batch",
    activation: Activation = "relu",
    dense: int | list[int] = 128,
    dropout: float = 0.0,
) -> nn.Module:
    """Convolution layers, each with pooling by two while there is room, then dense layers, for images and spectrograms.

    `channels`: of each layer, or of the first: it doubles with each further one. `kernel`: its side, an odd number, for
    all layers or for each. `dense`: the width of one dense layer, of several, or 0 for none. `dropout`: before each
    dense layer and the head. The last map is averaged to 2 x 2 places at most, so that any size of image fits."""
    images = next(iter(sample.values()))
    if images.dim() != 4:
        what = f"new:cnn reads images (rows, channels, height, width), and a batch here is {tuple(images.shape)}"
        raise RecipeError(what, where="model", remedy="use new:mlp for tables")
    widths = channels if isinstance(channels, list) else [channels * 2**number for number in range(layers)]
    sides = kernel if isinstance(kernel, list) else [kernel] * layers
    for name, values in (("channels", widths), ("kernel", sides)):
        if len(values) != layers:
            raise RecipeError(f"{name} has {len(values)} numbers for {layers} layers", where=WHERE)
    if layers < 1 or min(widths) < 1 or any(side < 1 or side % 2 == 0 for side in sides) or not 0 <= dropout < 1:
        what = f"layers = {layers}, channels = {channels}, kernel = {kernel}, dropout = {dropout}"
        remedy = "give one layer or more, of one channel or more, odd kernels, and a dropout of at least 0 and below 1"
        raise RecipeError(what, where=WHERE, remedy=remedy)
    height, width = images.shape[2:]
    blocks: list[nn.Module] = []
    for (before, after), side in zip(pairwise([images.shape[1], *widths]), sides, strict=True):
        parts: list[nn.Module] = [nn.Conv2d(before, after, side, padding=side // 2, bias=norm == "none")]
        parts += [nn.BatchNorm2d(after)] if norm == "batch" else []
        parts.append(ACTIVATIONS[activation]())
        if pooling != "none" and min(height, width) >= 4:
            parts.append(nn.MaxPool2d(2) if pooling == "max" else nn.AvgPool2d(2))
            height, width = height // 2, width // 2
        blocks.append(Block(*parts))
    places = (min(2, height), min(2, width))
    flat = [widths[-1] * places[0] * places[1], *([] if not dense else [dense] if isinstance(dense, int) else dense)]
    for before, after in pairwise(flat):
        first: list[nn.Module] = [] if len(blocks) > layers else [nn.AdaptiveAvgPool2d(places), nn.Flatten()]
        blocks.append(Block(*first, nn.Dropout(dropout), nn.Linear(before, after), ACTIVATIONS[activation]()))
    last: list[nn.Module] = [] if len(blocks) > layers else [nn.AdaptiveAvgPool2d(places), nn.Flatten()]
    return nn.Sequential(nn.Sequential(*blocks), *last, nn.Dropout(dropout), nn.Linear(flat[-1], num_outputs))
