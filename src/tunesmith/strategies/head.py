"""Linear probing: only the head moves, the body stays as it was pretrained."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.strategies.plan import Phase, Plan, Rule


def plan(stages: Sequence[str]) -> Plan:
    """The head trains on a frozen body (Alain & Bengio 2017)."""
    return Plan((Phase("head", (Rule("head/*", lr=1.0), Rule("*", lr=None)), moves="head"),))
