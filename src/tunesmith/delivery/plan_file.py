"""plan.json: which stages of the net move in which steps of a run, and how fast, as it was trained."""

from __future__ import annotations

from typing import Any

from tunesmith.assemble.job import Cadence, Job
from tunesmith.models.tunable import Tunable
from tunesmith.run import Run
from tunesmith.strategies.plan import assign

FILE = "plan.json"


def write(job: Job, run: Run, net: Tunable, cadence: Cadence) -> None:
    """Write it, once all that is measured before training is known: the length and the stages that move."""
    if job.machine.first:
        run.write(FILE, plan_json(job, net, cadence))


def plan_json(job: Job, net: Tunable, cadence: Cadence) -> dict[str, Any]:
    """Phases with their steps; stage -> the multiple of the phase's rate (None = frozen) of what moves fastest in it,
    how many of its numbers move, and how many it has, in depth order."""
    strategy, kinds, start, phases = job.strategy or job.recipe.strategy, net.kinds(), 0, []
    for phase, end in zip(job.plan.phases, cadence.ends(job.plan), strict=True):
        rules, stages = assign(phase.rules, kinds), dict[str, dict[str, Any]]()
        for address, parameter in net.address().items():
            stage = stages.setdefault(address.partition("/")[0], {"rate": None, "moving": 0, "parameters": 0})
            stage["parameters"] += parameter.numel()
            if (rate := rules[address].lr) is not None:
                stage["rate"] = max(stage["rate"] or 0.0, rate)
                stage["moving"] += parameter.numel()
        named = {"name": phase.name, "objective": job.minimised(phase).name, "share": phase.share}
        phases.append(named | {"start": start, "end": end, "stages": stages})
        start = end
    chosen = {"name": strategy.name, "options": dict(strategy.options)}
    return {"strategy": chosen, "steps": cadence.total, "phases": phases}
