"""Trimming: the lower blocks of a body stay, those above them are taken out, and it is smaller and faster."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import torch
from torch import nn

from tunesmith.errors import ModelError, RecipeError
from tunesmith.models.pretrained import Pretrained

WHERE = "model.edits.trim"
REMEDY = "leave model.edits.trim out"
NUMBERS = ("num_hidden_layers", "num_layers", "n_layers", "n_layer", "encoder_layers")
"""What configurations call the number of blocks; those of several lists of blocks say it in `depths`."""


def edit(pretrained: Pretrained, *, keep: int) -> None:
    """Keep the lowest `keep` blocks of the body, with the stem below and the neck above them.

    The upper blocks are the most specific to the task of the pretraining, and a part of them can go before anything
    trains (Sajjad et al. 2023: of BERT's twelve the upper four to six cost little). The configuration says so
    afterwards, so that the model's library builds what is saved. RecipeError where the model has not as many blocks;
    ModelError where its library could not build the rest."""
    blocks = _blocks(pretrained)
    if not 1 <= keep <= len(blocks):
        what = f'"{WHERE}.keep" = {keep}, but this model has {len(blocks)} blocks'
        raise RecipeError(what, where="recipe", remedy=f"write 1 to {len(blocks)}")
    if keep == len(blocks):
        return
    going = blocks[keep:]
    path, left = _tail(pretrained, going)
    configs = _configs_without(pretrained, path, left)
    del _children(pretrained, path)[left:]
    for holder, config in zip((pretrained.module, pretrained.body), configs, strict=True):
        holder.config.__dict__.update(config.__dict__)
    pretrained.stages = tuple(stage for stage in pretrained.stages if stage.name not in going)


def least(pretrained: Pretrained) -> int | None:
    """The fewest blocks that `keep` may leave; None where no block can go."""
    blocks = _blocks(pretrained)
    for keep in range(1, len(blocks)):
        with contextlib.suppress(ModelError):
            _configs_without(pretrained, *_tail(pretrained, blocks[keep:]))
            return keep
    return None


def _blocks(pretrained: Pretrained) -> list[str]:
    return [stage.name for stage in pretrained.stages if stage.name.startswith("block.")]


def _children(pretrained: Pretrained, path: str) -> Any:
    return pretrained.body.get_submodule(path)


def _tail(pretrained: Pretrained, going: list[str]) -> tuple[str, int]:
    """The list of blocks that ends with the stages `going`, and how many of its items are left without them."""
    if not hasattr(pretrained.module, "config"):
        what = "only a model of the transformers library says how many blocks it is built with"
        raise ModelError(what, where=pretrained.origin.name, remedy=REMEDY)
    modules = [name for stage in pretrained.stages if stage.name in going for name in stage.modules]
    path = modules[0].rpartition(".")[0]
    items = _children(pretrained, path)
    tail = [f"{path}.{name}" for name, _ in items.named_children()][-len(modules) :]
    whole = len(modules) == len(items)
    if whole or not isinstance(items, nn.ModuleList | nn.Sequential) or sorted(tail) != sorted(modules):
        what = f"the {len(going)} upper blocks are not the end of one list"
        raise ModelError(what, where=pretrained.origin.name, remedy=f"keep more of them, or {REMEDY}")
    return path, len(items) - len(modules)


def _configs_without(pretrained: Pretrained, path: str, left: int) -> tuple[Any, Any]:
    """The configurations of network and body for a list of `left` blocks; ModelError unless the library builds from
    them what the network will be."""
    from tunesmith.models.loaders.transformers import quiet

    network: Any = pretrained.module
    configs = copy.deepcopy((network.config, getattr(pretrained.body, "config", network.config)))
    whole = len(_children(pretrained, path))
    for config in {id(config): config for config in configs}.values():
        _say(config, whole, left)
    prefix = next(name for name, module in network.named_modules() if module is _children(pretrained, path))
    gone = tuple(f"{prefix}.{number}." for number in range(left, whole))
    what = f"its configuration does not say how many blocks {prefix} has"
    try:
        with quiet(), torch.device("meta"):
            made = {name: value.shape for name, value in type(network)(configs[0]).state_dict().items()}
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        made, what = {}, f"its library does not build it with fewer blocks: {reason}"
    if made != {name: value.shape for name, value in network.state_dict().items() if not name.startswith(gone)}:
        raise ModelError(what, where=pretrained.origin.name, remedy=REMEDY)
    return configs


def _say(config: Any, whole: int, left: int) -> None:
    """Write the new number of blocks where the configuration says the old one, and shorten what it says of each."""
    depths = getattr(config, "depths", None)
    if isinstance(depths, list | tuple) and depths and depths[-1] == whole:
        config.depths = [*depths[:-1], left]
        return
    for name in NUMBERS:
        if getattr(config, name, None) == whole:
            setattr(config, name, left)
    of_each = getattr(config, "layer_types", None)
    if isinstance(of_each, list) and len(of_each) == whole:
        config.layer_types = of_each[:left]
