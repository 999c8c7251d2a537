"""Linear probing, then full fine-tuning: a fitted head does not pull the features out of shape."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.strategies import depth
from tunesmith.strategies.plan import Phase, Plan, Rule


def plan(names: Sequence[str], *, probe: float = 0.3) -> Plan:
    """LP-FT (Kumar et al. 2022): the head alone for the share `probe` of the length, then everything at one rate."""
    depth.check_share(probe, "probe")
    return Plan((depth.probe(probe, "probe"), Phase("full", (Rule("*", lr=1.0),), 1 - probe)))
