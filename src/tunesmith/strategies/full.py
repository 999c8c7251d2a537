"""Full fine-tuning: everything moves at one rate."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.strategies.plan import Phase, Plan, Rule


def plan(names: Sequence[str]) -> Plan:
    """Every parameter trains, body and head, at the recipe's rate (Devlin et al. 2019)."""
    return Plan((Phase("full", (Rule("*", lr=1.0),)),))
