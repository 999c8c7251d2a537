"""Stages: the units of depth of any model, found by tracing one forward pass, in execution order."""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.models.kinds import is_norm


@dataclass(frozen=True)
class Stage:
    """One unit of depth: of freezing, of learning-rate decay, of caching.

    `name` is `stem`, `block.0` ..., `neck` or `head`; `modules` are the outermost modules that belong to it alone,
    `parameters` the names of its parameters (a tied one belongs to the lowest stage that holds it)."""

    name: str
    modules: tuple[str, ...]
    parameters: tuple[str, ...]


def find_stages(model: nn.Module, run: Callable[[], Any]) -> tuple[Stage, ...]:
    """The stages of `model`: `stem`, each block of its block lists in execution order, `neck`.

    `run` performs one forward pass. What is called before the first block is the stem; what is called after the last
    is the neck; what lies between two blocks goes with the earlier one. A block called more than once is one stage.
    A module that is never called goes with the module around it; with the whole model, that is with the stem."""
    calls = _trace(model, run)
    blocks, end = _blocks(model, calls)
    owner = _owners(model, calls, blocks, end)
    parameters = _lowest_owner(model, owner)
    modules = _whole_modules(model, owner)
    names = ["stem", *(f"block.{i}" for i in range(len(blocks))), "neck"]
    found = [
        Stage(
            name,
            tuple(module for module, where in modules.items() if where == index),
            tuple(parameter for parameter, where in parameters.items() if where == index),
        )
        for index, name in enumerate(names)
    ]
    return tuple(stage for stage in found if stage.parameters or stage.name == "stem")


@dataclass
class _Call:
    """What one module did in a forward pass: its first entry and last exit on a clock, whether its first tensor was
    states (not ids), and the shape of what it gave."""

    first: int
    on_states: bool
    last: int = 0
    shape: tuple[int, ...] = ()


def _trace(model: nn.Module, run: Callable[[], Any]) -> Mapping[nn.Module, _Call]:
    """Every module that `run` calls, in the order of its first entry."""
    calls: dict[nn.Module, _Call] = {}
    clock = count()

    def entered(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        now = next(clock)
        if module not in calls:
            first = next(_tensors((args, kwargs)), None)
            calls[module] = _Call(now, first is not None and first.is_floating_point())

    def left(module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        calls[module].last = next(clock)
        calls[module].shape = next((tuple(tensor.shape) for tensor in _tensors(output)), ())

    handles = []
    for module in model.modules():
        handles.append(module.register_forward_pre_hook(entered, with_kwargs=True))
        handles.append(module.register_forward_hook(left))
    try:
        with evaluating(model), torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    return calls


@contextlib.contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """The net in evaluation mode for as long as the `with` lasts; then every module in the mode that it had."""
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and dicts (a library's output classes are one of these), in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)


def _blocks(model: nn.Module, calls: Mapping[nn.Module, _Call]) -> tuple[list[nn.Module], int]:
    """The blocks of all block lists, in execution order, and when the last of them ends.

    Lists that run interleaved (XLM keeps attentions, norms and feed-forwards in a list each) are one list: the blocks
    begin where the items of the first of them do, and the items of the others go with the block before them. Where no
    block list is found, every layer with weights is a block, but the first, which is the stem, and norms."""
    blocks: list[nn.Module] = []
    end = -1
    lists = list(_lists(model, calls)) or [items for items in [_layers(calls)] if items]
    for items in sorted(lists, key=lambda items: calls[items[0]].first):
        if calls[items[0]].first > end:
            blocks += sorted(items, key=lambda item: calls[item].first)
        end = max(end, *(calls[item].last for item in items))
    return blocks, end


def _layers(calls: Mapping[nn.Module, _Call]) -> list[nn.Module]:
    """The layers with weights of their own after the first, in execution order; a norm goes with the one before it."""
    weighty = [
        module for module in calls if not is_norm(module) and any(True for _ in module.parameters(recurse=False))
    ]
    return weighty[1:]


def _lists(module: nn.Module, calls: Mapping[nn.Module, _Call]) -> Iterator[list[nn.Module]]:
    """The block lists in `module`, outermost first; a list whose items change the shape of the states one after the
    other is a list of lists (the stages of ResNet, ConvNeXt, Swin). Lists inside other blocks are parts of the block:
    experts, T5's sub-layers, the feed-forwards of MobileBERT, the convolutions of a residual block."""
    items = list(dict.fromkeys(item for item in module.children() if item in calls))
    if not _is_block_list(module, items, calls):
        if parts := _parts_of_several_classes(module, items, calls):
            yield parts
            return
        for child in module.children():
            yield from _lists(child, calls)
    elif len({calls[item].shape for item in items}) == 1:
        yield items
    else:
        for item in items:
            yield from list(_lists(item, calls)) or [[item]]


def _is_block_list(module: nn.Module, items: list[nn.Module], calls: Mapping[nn.Module, _Call]) -> bool:
    """Called on states, with weights, and of one class; a ModuleList also of several, where each is made of parts."""
    if not items or not all(calls[item].on_states and any(True for _ in item.parameters()) for item in items):
        return False
    one_class = len({type(item) for item in items}) == 1
    if isinstance(module, nn.ModuleList):
        return one_class or all(any(True for _ in item.children()) for item in items)
    return isinstance(module, nn.Sequential) and one_class


def _parts_of_several_classes(
    module: nn.Module, items: list[nn.Module], calls: Mapping[nn.Module, _Call]
) -> list[nn.Module]:
    """The blocks of a Sequential of several classes, each made of parts, as MobileNet and SqueezeNet have it; single
    layers between them are no blocks. Empty where it is no such list."""
    if not isinstance(module, nn.Sequential):
        return []
    weighty = [item for item in items if any(True for _ in item.parameters())]
    parts = [item for item in weighty if calls[item].on_states and any(True for _ in item.children())]
    return parts if len(parts) > 2 and 2 * len(parts) > len(weighty) else []


def _owners(model: nn.Module, calls: Mapping[nn.Module, _Call], blocks: list[nn.Module], end: int) -> dict[str, int]:
    """Module name -> the number of its stage: 0 the stem, 1 the first block ..., one past the last block the neck."""
    starts = [calls[block].first for block in blocks]
    number = {block: index for index, block in enumerate(blocks, 1)}
    owner: dict[str, int] = {}
    inside: set[str] = set()
    for name, module in model.named_modules(remove_duplicate=False):
        parent = name.rpartition(".")[0]
        if parent in inside or module in number:
            inside.add(name)
            owner[name] = owner[parent] if parent in inside else number[module]
        elif module not in calls:
            owner[name] = owner.get(parent, 0)
        elif blocks and calls[module].first > end:
            owner[name] = len(blocks) + 1
        else:
            owner[name] = bisect_right(starts, calls[module].first)
    return owner


def _lowest_owner(model: nn.Module, owner: Mapping[str, int]) -> dict[str, int]:
    """Parameter name (its first, where it is tied) -> the lowest stage that holds it."""
    first_name = {parameter: name for name, parameter in model.named_parameters()}
    lowest: dict[str, int] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        index, kept = owner[name.rpartition(".")[0]], first_name[parameter]
        lowest[kept] = min(lowest.get(kept, index), index)
    return lowest


def _whole_modules(model: nn.Module, owner: Mapping[str, int]) -> dict[str, int]:
    """The outermost modules that lie in one stage with everything below them, and that stage."""
    below: dict[str, set[int]] = {}
    for name in reversed(list(owner)):
        below.setdefault(name, set()).add(owner[name])
        if name:
            below.setdefault(name.rpartition(".")[0], set()).update(below[name])
    whole = {name for name in owner if name and len(below[name]) == 1}
    return {name: owner[name] for name in owner if name in whole and name.rpartition(".")[0] not in whole}
