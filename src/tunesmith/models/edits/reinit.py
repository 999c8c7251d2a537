"""Re-initialisation: the weights of some stages are forgotten and drawn anew, as the library draws them."""

from __future__ import annotations

from typing import Any

import torch

from tunesmith.errors import ModelError
from tunesmith.models.edits.named import stages_named
from tunesmith.models.pretrained import Pretrained

DONE = "_is_hf_initialized"
"""The mark of transformers on what its initialisation leaves as it is."""


@torch.no_grad()
def edit(pretrained: Pretrained, *, stages: list[str] | None = None) -> None:
    """Draw the weights of `stages` anew; left out: the top block and the neck, such as BERT's pooler.

    The top of a pretrained body is made for its pretraining task; on few rows a fresh start is often better and less
    at the mercy of the seed (Zhang et al. 2021). Statistics of BatchNorm start anew too. ModelError where the library
    does not say how a parameter is drawn."""
    body: Any = pretrained.body
    chosen = stages_named(pretrained, _top(pretrained) if stages is None else stages, "reinit")
    named = dict(body.named_parameters())
    drawn = {name: named[name] for stage in chosen for name in stage.parameters}
    for parameter in drawn.values():
        # What is still NaN afterwards was drawn by nobody.
        parameter.fill_(torch.nan)
    inside = tuple(f"{path}." for stage in chosen for path in stage.modules)
    buffers = [buffer for name, buffer in body.named_buffers() if name.startswith(inside)]
    _draw(body, {id(tensor) for tensor in (*drawn.values(), *buffers)})
    for owner in dict.fromkeys(name.rpartition(".")[0] for name in drawn if drawn[name].isnan().any()):
        reset = getattr(body.get_submodule(owner), "reset_parameters", None)
        if reset is not None:
            reset()
    left = [name for name in drawn if drawn[name].isnan().any()]
    if left:
        what = f"nothing says how {left[0]} is drawn anew"
        raise ModelError(what, where=pretrained.origin.name, remedy="leave its stage out of model.edits.reinit")


def _top(pretrained: Pretrained) -> list[str]:
    names = [stage.name for stage in pretrained.stages]
    blocks = [name for name in names if name.startswith("block.")]
    return [*blocks[-1:], *(name for name in names if name == "neck")] or names[-1:]


def _draw(body: Any, drawn: set[int]) -> None:
    """The library's own initialisation of the tensors with these ids, and of none that it marks as done."""
    if not hasattr(body, "initialize_weights"):
        return
    for module in body.modules():
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        for tensor in own:
            setattr(tensor, DONE, id(tensor) not in drawn)
        # A module without tensors of its own may draw those below it: T5's attention does.
        every = [*module.parameters(), *module.buffers()]
        setattr(module, DONE, not any(id(tensor) in drawn for tensor in every))
    body.initialize_weights()
