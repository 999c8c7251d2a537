"""Discriminative fine-tuning: everything moves, the lower the slower."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.strategies import depth
from tunesmith.strategies.plan import Phase, Plan


def plan(names: Sequence[str], *, decay: float = 0.9) -> Plan:
    """Each unit of depth moves at `decay` times the rate of the one above it; the head at the recipe's rate.

    Howard & Ruder (2018) divide by 2.6 (`decay = 0.385`) in a net of four units; for Transformers of 12 or 24 blocks
    Clark et al. (2020) search 0.8 and 0.9. With `decay = 0.9` the stem under 12 blocks moves at 0.9^13 = 0.25."""
    return Plan((Phase("full", depth.falling(names, decay)),))
