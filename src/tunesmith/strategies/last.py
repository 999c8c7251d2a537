"""The last blocks: the top of the body and the head move, what lies below is frozen."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.strategies import depth
from tunesmith.strategies.plan import Phase, Plan


def plan(names: Sequence[str], *, stages: int = 2) -> Plan:
    """The top `stages` blocks train, with the neck and the head (Yosinski et al. 2014; Lee, Tang & Lin 2019: a fourth
    of the layers of BERT reaches nine tenths of what all of them do).

    Raises RecipeError when the model has fewer blocks."""
    top = depth.top_blocks(names, stages, "stages")
    return Plan((Phase("last", (depth.HEAD, *depth.moving(top), depth.FROZEN)),))
