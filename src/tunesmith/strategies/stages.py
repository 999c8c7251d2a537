"""Surgical fine-tuning: the stages named move, or those that the rows ask to be moved, and the head."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Literal

from tunesmith.errors import Problem, RecipeError, nearest
from tunesmith.strategies import depth
from tunesmith.strategies.plan import Phase, Plan, Rule


def plan(names: Sequence[str], *, train: list[str] | Literal["auto"] = "auto", count: int | None = None) -> Plan:
    """The stages whose names fit one of `train` move, with the head (Lee et al. 2023): `["block.0", "block.1*"]`.

    "auto": the `count` (default 2) stages with the largest relative gradient norm, measured before the training; until
    then each of them may be among those that move. Raises RecipeError for a name that fits no stage."""
    if train == "auto":
        body = [name for name in names if name != "head"]
        if count is not None and not 1 <= count <= len(body):
            what = f'"strategy.count" = {count}, but this model has {len(body)} stages'
            raise RecipeError(what, where="strategy", remedy=f"write 1 to {len(body)}")
        return Plan((Phase("stages", (Rule("*", lr=1.0),)),))
    if count is not None:
        what = '"strategy.count" has no effect beside the names in "strategy.train"'
        raise RecipeError(what, where="strategy", remedy="leave one of them out")
    if not train:
        raise RecipeError(
            '"strategy.train" is empty', where="strategy", remedy="the strategy head moves the head alone"
        )
    problems = [
        Problem(f'"strategy.train": this model has no stage "{wanted}"', "strategy", nearest(wanted, names))
        for wanted in train
        if not any(fnmatchcase(name, wanted) for name in names)
    ]
    if problems:
        raise RecipeError(problems)
    body = [name for name in names if name != "head" and any(fnmatchcase(name, wanted) for wanted in train)]
    return Plan((Phase("stages", (depth.HEAD, *depth.moving(body), depth.FROZEN)),))
