"""Networks that begin without pretrained weights, a function each; its keyword-only parameters are options."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from tunesmith.errors import RecipeError
from tunesmith.models import tabular

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


def mlp(
    sample: Mapping[str, Tensor],
    num_outputs: int,
    *,
    layers: int = 3,
    width: int | list[int] = 256,
    activation: Activation = "relu",
    norm: Literal["layer", "none"] = "none",
    dropout: float = 0.1,
    embedding: int = 16,
    spread: float = 0.1,
) -> nn.Module:
    """Dense layers on the columns of a table: the first adds up what each column says, the others follow.

    `layers`: hidden ones. `width`: of all, or of each. `embedding`: the learnt waves by which a number is read beside
    its value, 0 for none; `spread`: of their frequencies (Gorishniy et al. 2022). `dropout`: after each layer."""
    _check_table(sample, "mlp")
    widths = width if isinstance(width, list) else [width] * layers
    if len(widths) != layers:
        raise RecipeError(f"width has {len(widths)} numbers for {layers} layers", where=WHERE)
    if layers < 1 or min(widths) < 1 or embedding < 0 or not spread > 0 or not 0 <= dropout < 1:
        what = f"layers = {layers}, width = {width}, embedding = {embedding}, spread = {spread}, dropout = {dropout}"
        remedy = "give one layer or more, of width 1 or more, a spread above 0, and a dropout of at least 0 and below 1"
        raise RecipeError(what, where=WHERE, remedy=remedy)

    def end(wide: int) -> list[nn.Module]:
        norms: list[nn.Module] = [nn.LayerNorm(wide)] if norm == "layer" else []
        return [*norms, ACTIVATIONS[activation](), nn.Dropout(dropout)]

    first = tabular.Summed(sample, widths[0], embedding, spread, end(widths[0]))
    blocks = [Block(nn.Linear(before, after), *end(after)) for before, after in pairwise(widths)]
    return tabular.Mlp(first, blocks, widths[-1], num_outputs)


def ft_transformer(
    sample: Mapping[str, Tensor],
    num_outputs: int,
    *,
    blocks: int = 3,
    width: int = 192,
    heads: int = 8,
    hidden: float = 4 / 3,
    dropout: float = 0.1,
    attention_dropout: float = 0.2,
) -> nn.Module:
    """FT-Transformer (Gorishniy et al. 2021): a vector for every column of a table, and attention among them.

    The defaults are its makers'. `hidden`: the width of the layers between, as a multiple of `width`; `dropout`: there;
    `attention_dropout`: of the attention's weights. It costs far more time than `mlp`."""
    _check_table(sample, "ft_transformer")
    rates = (dropout, attention_dropout)
    if blocks < 1 or width < 1 or heads < 1 or width % heads or not all(0 <= rate < 1 for rate in rates):
        what = f"blocks = {blocks}, width = {width}, heads = {heads}, dropout = {dropout} and {attention_dropout}"
        remedy = "give one block or more, a width that the heads divide, and dropouts of at least 0 and below 1"
        raise RecipeError(what, where=WHERE, remedy=remedy)
    made = [
        tabular.Attending(width, heads, max(1, int(width * hidden)), (attention_dropout, dropout), first=number == 0)
        for number in range(blocks)
    ]
    return tabular.FTTransformer(tabular.Tokens(sample, width), made, width, num_outputs)


def _check_table(sample: Mapping[str, Tensor], name: str) -> None:
    if not {"numbers", "categories"} & {*sample}:
        shapes = ", ".join(f"{key} {tuple(tensor.shape)}" for key, tensor in sample.items())
        what = f"new:{name} reads the columns of a table, and a batch here is {shapes}"
        raise RecipeError(what, where="model", remedy="use new:cnn for images")
