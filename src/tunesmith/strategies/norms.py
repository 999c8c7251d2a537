"""Norm tuning: only the normalization layers and the head move."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.strategies import depth
from tunesmith.strategies.plan import Phase, Plan, Rule


def plan(names: Sequence[str]) -> Plan:
    """Scales and shifts of LayerNorm, RMSNorm, BatchNorm ... train, and the head (Frankle et al. 2021; Qi et al. 2022).

    A model without such parameters is an error when the rules meet it."""
    return Plan((Phase("norms", (depth.HEAD, Rule("*", lr=1.0, kind="norm"), depth.FROZEN), moves="vectors"),))
