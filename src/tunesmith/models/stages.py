"""Stages: the units of depth of any model, found by tracing one forward pass, in execution order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


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
    A module that is never called belongs to the stem, where freezing keeps it as it was."""
    calls = _trace(model, run)
    blocks = _blocks(model, calls)
    order = {name: calls.first[name] for name in blocks}
    stages = ["stem", *(f"block.{i}" for i in range(len(blocks))), "neck"]
    last = calls.last_end(blocks[-1]) if blocks else -1

    def stage_of(name: str) -> int:
        inside = [i for i, block in enumerate(blocks) if name == block or name.startswith(f"{block}.")]
        if inside:
            return inside[0] + 1
        started = calls.first.get(name)
        if started is None:
            parent, _, child = name.rpartition(".")
            return stage_of(parent) if child and parent else 0
        if not blocks or any(block.startswith(f"{name}.") for block in blocks) or not name:
            return 0
        if started > last:
            return len(stages) - 1
        return sum(1 for block in blocks if order[block] < started)

    owner = {name: stage_of(name) for name, _ in model.named_modules()}
    parameters = _lowest_owner(model, owner)
    found = []
    for index, stage in enumerate(stages):
        mine = tuple(name for name, where in parameters.items() if where == index)
        modules = tuple(_outermost(name for name in owner if owner[name] == index and _whole(name, owner)))
        if mine or index == 0:
            found.append(Stage(stage, modules, mine))
    return tuple(found)


class _Calls:
    """When each module was first entered and last left, counted over one forward pass."""

    def __init__(self) -> None:
        self.clock = 0
        self.first: dict[str, int] = {}
        self.end: dict[str, int] = {}
        self.rank: dict[str, int] = {}

    def last_end(self, name: str) -> int:
        return self.end.get(name, self.first[name])


def _trace(model: nn.Module, run: Callable[[], Any]) -> _Calls:
    calls = _Calls()
    handles = []
    names: dict[nn.Module, str] = {}
    for name, module in model.named_modules():
        names.setdefault(module, name)

    def entered(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.clock += 1
        name = names[module]
        calls.first.setdefault(name, calls.clock)
        tensor = next((value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)), None)
        calls.rank.setdefault(name, -1 if tensor is None else tensor.dim())

    def left(module: nn.Module, _args: tuple[Any, ...], _output: Any) -> None:
        calls.clock += 1
        calls.end[names[module]] = calls.clock

    for module in names:
        handles.append(module.register_forward_pre_hook(entered, with_kwargs=True))
        handles.append(module.register_forward_hook(left))
    was_training = model.training
    try:
        model.eval()
        with torch.no_grad():
            run()
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return calls


def _blocks(model: nn.Module, calls: _Calls) -> list[str]:
    """The blocks of all block lists, in execution order; lists inside a block's list replace it (ResNet, Swin)."""
    found: list[str] = []
    called = {id(module): name for name, module in model.named_modules() if name in calls.first}
    taken: set[str] = set()

    def visit(prefix: str, module: nn.Module, rank: int | None) -> bool:
        """Collect the blocks below `module`; True when it held any."""
        any_found = False
        for child_name, child in module.named_children():
            name = f"{prefix}.{child_name}" if prefix else child_name
            items = [f"{name}.{key}" for key, item in child.named_children() if id(item) in called]
            if _is_block_list(child, items, calls, rank):
                for item in items:
                    inner = visit(item, child.get_submodule(item[len(name) + 1 :]), calls.rank[item])
                    if not inner and item not in taken:
                        taken.add(item)
                        found.append(item)
                any_found = True
            else:
                any_found = visit(name, child, rank) or any_found
        return any_found

    visit("", model, None)
    return sorted(found, key=lambda name: calls.first[name])


def _is_block_list(module: nn.Module, items: list[str], calls: _Calls, rank: int | None) -> bool:
    """A list of modules of one class, called in turn on states of one rank. Experts of a mixture see rows of tokens
    (another rank than their block), and the parts of one block are of different classes: neither is a block list."""
    if not isinstance(module, nn.ModuleList | nn.Sequential) or not items:
        return False
    kinds = {type(module.get_submodule(item.rpartition(".")[2])) for item in items}
    if any(isinstance(child, nn.ModuleList) for child in module.children()) or not all(
        any(True for _ in child.parameters()) for child in module.children()
    ):
        return False
    ranks = {calls.rank[item] for item in items}
    alike = len(kinds) == 1 or (isinstance(module, nn.ModuleList) and rank is None)
    nested = rank is not None
    return alike and (not nested or (ranks == {rank} and len(ranks) == 1)) and not (nested and len(kinds) > 1)


def _lowest_owner(model: nn.Module, owner: dict[str, int]) -> dict[str, int]:
    lowest: dict[str, int] = {}
    first_name: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        index = owner[name.rpartition(".")[0]]
        kept = first_name.setdefault(id(parameter), name)
        lowest[kept] = min(lowest.get(kept, index), index)
    return lowest


def _whole(name: str, owner: dict[str, int]) -> bool:
    """Whether everything below `name` belongs to one stage."""
    return name != "" and all(where == owner[name] for other, where in owner.items() if other.startswith(f"{name}."))


def _outermost(names: Iterable[str]) -> list[str]:
    kept: list[str] = []
    for name in sorted(names):
        if not any(name.startswith(f"{other}.") for other in kept):
            kept.append(name)
    return kept
