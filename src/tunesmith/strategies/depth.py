"""Depth as strategies count it: from the top, each block a unit, the neck with the top block, the stem last."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.errors import RecipeError
from tunesmith.strategies.plan import Phase, Rule

HEAD = Rule("head/*", lr=1.0)
FROZEN = Rule("*", lr=None)


def units(names: Sequence[str]) -> list[tuple[str, ...]]:
    """The stages of the body from the top, those that count as one together.

    >>> units(["stem", "block.0", "block.1", "neck", "head"])
    [('block.1', 'neck'), ('block.0',), ('stem',)]
    """
    below = [name for name in names if name not in ("neck", "head")]
    found: list[tuple[str, ...]] = [(name,) for name in reversed(below)]
    return [(*found[0], "neck"), *found[1:]] if "neck" in names else found


def top_blocks(names: Sequence[str], count: int, option: str) -> list[str]:
    """The stages of the top `count` blocks, with the neck; RecipeError where the model has not as many."""
    blocks = [unit for unit in units(names) if unit[0] != "stem"]
    if not 1 <= count <= len(blocks):
        what = f'"strategy.{option}" = {count}, but this model has {len(blocks)} blocks'
        remedy = "the strategy head moves the head alone" if count < 1 else "the strategy full moves everything"
        raise RecipeError(what, where="strategy", remedy=remedy)
    return [name for unit in blocks[:count] for name in unit]


def moving(stages: Sequence[str], lr: float = 1.0) -> tuple[Rule, ...]:
    """A rule for each stage."""
    return tuple(Rule(f"{stage}/*", lr) for stage in stages)


def falling(names: Sequence[str], decay: float) -> tuple[Rule, ...]:
    """The head at the whole rate, each unit below it at `decay` times the rate above; RecipeError where that is no
    decay. The lowest takes all that is left, and so may be without parameters."""
    if not 0 < decay < 1:
        remedy = "write a number between 0 and 1, such as 0.9; the strategy full moves everything at one rate"
        raise RecipeError(f'"strategy.decay" = {decay} is no decay', where="strategy", remedy=remedy)
    every = units(names)
    rates = {name: decay**depth for depth, unit in enumerate(every, 1) for name in unit}
    rules = [rule for unit in every[:-1] for name in unit for rule in moving([name], rates[name])]
    return (HEAD, *rules, Rule("*", decay ** len(every)))


def probe(share: float, name: str = "head") -> Phase:
    """A phase in which the head alone moves."""
    return Phase(name, (HEAD, FROZEN), share, moves="head")


def check_share(value: float, option: str) -> None:
    """RecipeError unless `value` is a true part of the whole."""
    if not 0 < value < 1:
        what = f'"strategy.{option}" = {value} is no share of the length'
        raise RecipeError(what, where="strategy", remedy="write a number between 0 and 1, such as 0.5")
