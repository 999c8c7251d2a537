"""The stages that an edit changes: those whose names fit what was written, or the edit's own choice."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from tunesmith.errors import Problem, RecipeError, nearest
from tunesmith.models.pretrained import Pretrained
from tunesmith.models.stages import Stage


def stages_named(pretrained: Pretrained, names: Sequence[str], edit: str) -> list[Stage]:
    """The stages of the body whose names fit one of `names` (`"block.5"`, `"block.*"`), in depth order.

    Raises RecipeError, with the nearest name, for each that fits none, and where there is nothing to fit."""
    where, known = f"model.edits.{edit}.stages", [stage.name for stage in pretrained.stages]
    if not names:
        raise RecipeError("no stage is named", where=where, remedy="leave it out for the edit's own choice")
    problems = [
        Problem(f'no stage is called "{wanted}"', where, nearest(wanted, known))
        for wanted in names
        if not any(fnmatchcase(name, wanted) for name in known)
    ]
    if problems:
        raise RecipeError(problems)
    return [stage for stage in pretrained.stages if any(fnmatchcase(stage.name, wanted) for wanted in names)]
