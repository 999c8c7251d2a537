"""Plan: a strategy as data, phases of rules that say which parameters move and how fast; first match wins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from tunesmith.errors import RecipeError, nearest


@dataclass(frozen=True)
class Rule:
    """Parameters whose address `stage/parameter` fits the glob `match` move at `lr` times the recipe's rate;
    None = frozen. `decay` scales the optimizer's weight decay."""

    match: str
    lr: float | None
    decay: float = 1.0


@dataclass(frozen=True)
class Phase:
    """Rules in force for `share` of the run's length."""

    name: str
    rules: tuple[Rule, ...]
    share: float = 1.0


@dataclass(frozen=True)
class Plan:
    """Phases in order; their shares add up to 1."""

    phases: tuple[Phase, ...]


def assign(rules: Iterable[Rule], addresses: Iterable[str]) -> Mapping[str, Rule]:
    """The rule of each address; an address without a rule and a rule without an address are errors."""
    rules, found, used = tuple(rules), {}, set()
    addresses = list(addresses)
    for address in addresses:
        rule = next((rule for rule in rules if fnmatchcase(address, rule.match)), None)
        if rule is None:
            raise RecipeError(
                f'no rule covers the parameter "{address}"', where="strategy", remedy='end with Rule("*", ...)'
            )
        found[address] = rule
        used.add(rule)
    for rule in rules:
        if rule not in used and rule.match != "*":
            stages = list(dict.fromkeys(address.partition("/")[0] for address in addresses))
            remedy = nearest(rule.match.partition("/")[0], stages)
            raise RecipeError(f'the rule "{rule.match}" matches no parameter', where="strategy", remedy=remedy)
    return found
