"""Adapters: small matrices or vectors beside frozen linear layers move, and the head."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.models.edits.lora import VECTORS, Method
from tunesmith.strategies import depth
from tunesmith.strategies.plan import Edit, Phase, Plan, Rule


def plan(
    names: Sequence[str],
    *,
    method: Method = "lora",
    rank: int | None = None,
    alpha: float | None = None,
    dropout: float = 0.0,
    last: int | None = None,
) -> Plan:
    """LoRA (Hu et al. 2022) and its kin in the linear layers of the top `last` blocks (default: all), with the neck.

    The other options are those of the edit `lora`; the adapters are merged into the weights when the run ends."""
    blocks = len([unit for unit in depth.units(names) if unit[0] != "stem"])
    stages = depth.top_blocks(names, blocks if last is None else last, "last")
    given = {"method": method, "rank": rank, "alpha": alpha, "dropout": dropout, "stages": stages}
    # Vectors that start at 1 must not be drawn to 0.
    adapters = Rule("*", lr=1.0, decay=0.0 if method in VECTORS else 1.0, kind="adapter")
    rules = (depth.HEAD, adapters, depth.FROZEN)
    phase = Phase("adapters", rules, moves="vectors" if method in VECTORS else "adapters")
    return Plan((phase,), edits=(Edit("lora", given),))
