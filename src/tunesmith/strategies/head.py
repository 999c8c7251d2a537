"""Linear probing: only the head moves, the body stays as it was pretrained."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.strategies import depth
from tunesmith.strategies.plan import Plan


def plan(names: Sequence[str]) -> Plan:
    """The head trains on a frozen body (Alain & Bengio 2017)."""
    return Plan((depth.probe(1.0),))
