"""BitFit: only the biases and the head move."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.strategies import depth
from tunesmith.strategies.plan import Phase, Plan, Rule


def plan(names: Sequence[str]) -> Plan:
    """Every bias trains, those of normalization layers too, and the head (Ben Zaken et al. 2022).

    A model without biases, such as Llama, is an error when the rules meet it."""
    return Plan((Phase("biases", (depth.HEAD, Rule("*bias", lr=1.0), depth.FROZEN), moves="vectors"),))
