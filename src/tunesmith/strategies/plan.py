"""Plan: a strategy as data, phases of rules that say which parameters move and how fast; first match wins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

from tunesmith.errors import RecipeError, nearest
from tunesmith.models.kinds import Kind

Moves = Literal["body", "head", "vectors", "adapters"]
"""What mainly moves in a phase: published learning rates depend on it."""


@dataclass(frozen=True)
class Rule:
    """Parameters whose address `stage/parameter` fits the glob `match`, and which are of `kind` if one is given, move
    at `lr` times the recipe's rate; None = frozen. `decay` scales the optimizer's weight decay."""

    match: str
    lr: float | None
    decay: float = 1.0
    kind: Kind | None = None

    def fits(self, address: str, kind: Kind) -> bool:
        return fnmatchcase(address, self.match) and self.kind in (None, kind)


@dataclass(frozen=True)
class Phase:
    """Rules in force for `share` of the run's length."""

    name: str
    rules: tuple[Rule, ...]
    share: float = 1.0
    moves: Moves = "body"
    objective: str | None = None
    """What is minimised, if not what the recipe says."""


@dataclass(frozen=True)
class Edit:
    """A change of the network before anything trains: the name of a function in `models/edits` and its options."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """Edits, then phases in order, whose shares add up to 1.

    Each phase has its own optimizer, warm-up and schedule. With `carry` the optimizer keeps its state where a parameter
    goes on moving, and one warm-up and schedule run through all phases."""

    phases: tuple[Phase, ...]
    edits: tuple[Edit, ...] = ()
    carry: bool = False

    @property
    def shortens(self) -> bool:
        """Whether the net in the midst of a run is about that of a shorter run: where all phases minimise one thing."""
        return len({phase.objective for phase in self.phases}) == 1

    def answers(self, index: int) -> bool:
        """Whether what the net answers in that phase means something: not while the head is still as it was made."""
        return self.phases[index].objective == self.phases[-1].objective

    @property
    def heaviest(self) -> Phase:
        """The last phase in which more than the head moves, if there is one: what needs the most memory."""
        return next((phase for phase in reversed(self.phases) if phase.moves != "head"), self.phases[-1])


def then_head(plan: Plan, objective: str) -> Plan:
    """The plan for an objective that does not reach the head: its phases with the head frozen, half of the length; then
    a phase in which only the head moves, under the supervised objective. Phases that moved only the head are left out,
    RecipeError if no other is left."""
    tuned = [phase for phase in plan.phases if phase.moves != "head"]
    if not tuned:
        what = f"{objective} tunes the body, and the strategy moves only the head"
        raise RecipeError(what, where="strategy", remedy="use a strategy that moves the body, such as full")
    whole = sum(phase.share for phase in tuned)
    frozen = Rule("head/*", lr=None)
    phases = [
        replace(
            phase,
            rules=(frozen, *(rule for rule in phase.rules if not rule.match.startswith("head"))),
            share=phase.share / whole / 2,
            objective=objective,
        )
        for phase in tuned
    ]
    head = Phase("head", (Rule("head/*", lr=1.0), Rule("*", lr=None)), 0.5, "head", "supervised")
    return replace(plan, phases=(*phases, head), carry=False)


def assign(rules: tuple[Rule, ...], addresses: Mapping[str, Kind]) -> Mapping[str, Rule]:
    """The rule of each address; an address without a rule and a rule without an address are errors."""
    found, used = {}, set()
    for address, kind in addresses.items():
        rule = next((rule for rule in rules if rule.fits(address, kind)), None)
        if rule is None:
            raise RecipeError(
                f'no rule covers the parameter "{address}"', where="strategy", remedy='end with Rule("*", ...)'
            )
        found[address] = rule
        used.add(rule)
    for rule in rules:
        if rule not in used and (rule.match != "*" or rule.kind):
            raise _idle(rule, addresses)
    return found


def _idle(rule: Rule, addresses: Mapping[str, Kind]) -> RecipeError:
    stages = list(dict.fromkeys(address.partition("/")[0] for address in addresses))
    if rule.match.startswith("*"):
        what = f"parameters of the kind {rule.kind}" if rule.kind else f'parameters like "{rule.match}"'
        return RecipeError(f"this model has no {what}", where="strategy", remedy="choose another strategy")
    kind = f" of the kind {rule.kind}" if rule.kind else ""
    remedy = nearest(rule.match.partition("/")[0], stages)
    return RecipeError(f'the rule "{rule.match}" matches no parameter{kind}', where="strategy", remedy=remedy)
