"""Dropout: another rate in the body, in all its stages or in some, wherever the library keeps it."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from tunesmith.errors import ModelError, RecipeError, nearest
from tunesmith.models.pretrained import Pretrained

HELD = re.compile(r"(?!classifier_)(\w+_)?(dropout|pdrop|attn_drop)(_p|_prob|_rate)?")
"""Attributes that hold a rate as a number: the library's attention asks for them at each pass, and has no module."""


def edit(pretrained: Pretrained, *, rate: float = 0.1, stages: list[str] | None = None) -> None:
    """Set every dropout of the body to `rate` (Srivastava et al. 2014), or of the `stages` that fit these names.

    Modules and rates that are held as numbers alike: attention of Llama or ViT holds one. Dropped layers and paths keep
    their rates, and the head has an option of its own. What a model reads from its configuration during the pass
    (Falcon's MLP, Persimmon's attention) is not reached. ModelError where a stage that was named has no dropout."""
    if not 0 <= rate < 1:
        raise RecipeError(f"rate = {rate} is not at least 0 and below 1", where="model.edits.dropout")
    names = [stage.name for stage in pretrained.stages]
    for pattern in stages or ():
        found = [stage for stage in pretrained.stages if fnmatchcase(stage.name, pattern)]
        if not found:
            what = f'no stage is called "{pattern}"'
            raise RecipeError(what, where="model.edits.dropout.stages", remedy=nearest(pattern, names))
        modules = [pretrained.body.get_submodule(name) for stage in found for name in stage.modules]
        _set(modules, rate, f"the stages {pattern}")
    if stages is None:
        _set([pretrained.body], rate, "this model")
    elif not stages:
        raise RecipeError("no stage is named", where="model.edits.dropout.stages", remedy="leave stages out for all")


def _set(modules: list[nn.Module], rate: float, where: str) -> None:
    number = 0
    for module in (inner for outer in modules for inner in outer.modules()):
        if isinstance(module, _DropoutNd):
            module.p = rate
            number += 1
        for name, value in vars(module).items():
            if HELD.fullmatch(name) and isinstance(value, int | float) and not isinstance(value, bool):
                setattr(module, name, rate)
                number += 1
    if not number:
        raise ModelError(f"{where} has no dropout", where="model.edits.dropout", remedy="leave the edit out")
