"""Gradual unfreezing: the head first, then stage by stage from the top, the lower the slower."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.errors import RecipeError
from tunesmith.strategies import depth
from tunesmith.strategies.plan import Phase, Plan


def plan(names: Sequence[str], *, stages_per_phase: int = 1, decay: float = 0.9, final: float = 0.5) -> Plan:
    """ULMFiT (Howard & Ruder 2018): each phase moves `stages_per_phase` units more, at rates that fall by `decay`.

    `final` is the share of the last phase, in which everything moves; those before share the rest evenly. Optimizer
    state and schedule run through. A phase is called after the lowest block that moves in it."""
    if stages_per_phase < 1:
        what = f'"strategy.stages_per_phase" = {stages_per_phase} never unfreezes the body'
        raise RecipeError(what, where="strategy", remedy="write 1 or more; the strategy head keeps the body frozen")
    depth.check_share(final, "final")
    rules, every = depth.falling(names, decay), depth.units(names)
    opened = range(stages_per_phase, len(every), stages_per_phase)
    share = (1 - final) / (1 + len(opened))
    phases = [depth.probe(share)]
    for count in opened:
        some = {f"{name}/*" for unit in every[:count] for name in unit} | {depth.HEAD.match}
        moved = tuple(rule for rule in rules if rule.match in some)
        phases.append(Phase(every[count - 1][0].replace(".", ""), (*moved, depth.FROZEN), share))
    return Plan((*phases, Phase("full", rules, final)), carry=True)
