"""Networks by name: torchvision:NAME, timm:NAME, new:NAME (not pretrained), code:MODULE:FUNCTION (a person's own)."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from tunesmith import plugins
from tunesmith.errors import ModelError, RecipeError, nearest
from tunesmith.extras import need
from tunesmith.models.loaders import keras
from tunesmith.recipe.schema import Model

LIBRARIES = ("torchvision", "timm", "new", "code")
MEMORY = "memory:"
"""A module that a Python caller hands over is recorded under this and the name of its class."""


def matches(name: str) -> bool:
    """Whether a model of this name is a network that is built here, not a folder of the transformers library."""
    return name.partition(":")[0] in LIBRARIES or name.startswith(MEMORY) or keras.is_file(name)


def modality_of(name: str) -> str | None:
    """What a row is to the network, where its name tells."""
    library, _, rest = name.partition(":")
    if library in ("torchvision", "timm"):
        return "image"
    return "table" if library == "new" and rest in ("mlp", "ft_transformer") else None


def inputs_of(name: str) -> dict[str, Any] | None:
    """How the images of a torchvision or timm model are prepared (`ImageEncoder`'s fields), as its library says; None
    for others."""
    library, _, rest = name.partition(":")
    if library == "torchvision":
        return _torchvision_inputs(rest)
    if library == "timm":
        return _timm_inputs(rest)
    return None


def build(model: Model, sample: Mapping[str, Tensor], num_outputs: int, *, pretrained: bool) -> nn.Module:
    """The network; with `pretrained` and without a file of weights, with those that its library has for it."""
    library, _, name = model.name.partition(":")
    fetched = pretrained and model.weights is None
    if library == "torchvision":
        return _torchvision(name, fetched)
    if library == "timm":
        return _timm(name, fetched)
    if library == "new":
        make = plugins.get("net", name)
        made: nn.Module = make(sample, num_outputs, **model.options)
        return made
    return _of_code(name, model.trust, model.options)


def _torchvision(name: str, fetched: bool) -> nn.Module:
    models = need("torchvision", f"torchvision:{name}").models
    _known(name, models.list_models(), "torchvision")
    try:
        # Inception and GoogLeNet give an auxiliary answer in training, which no objective here reads.
        auxiliary = name in ("googlenet", "inception_v3") and not fetched
        extra = {"aux_logits": False, "init_weights": False} if auxiliary else {}
        made: nn.Module = models.get_model(name, weights="DEFAULT" if fetched else None, **extra)
    except Exception as error:
        raise _not_fetched(f"torchvision:{name}", error) from None
    if hasattr(made, "aux_logits"):
        for part in ("aux_logits", "AuxLogits", "aux1", "aux2"):
            setattr(made, part, None)
    return made


def _torchvision_inputs(name: str) -> dict[str, Any]:
    models = need("torchvision", f"torchvision:{name}").models
    _known(name, models.list_models(), "torchvision")
    preset = models.get_model_weights(name).DEFAULT.transforms()
    side, resize = preset.crop_size[0], preset.resize_size[0]
    return {"height": side, "width": side, "resize": resize, "mean": tuple(preset.mean), "std": tuple(preset.std)}


def _timm(name: str, fetched: bool) -> nn.Module:
    timm = need("timm", f"timm:{name}")
    try:
        made: nn.Module = timm.create_model(name, pretrained=fetched)
    except RuntimeError as error:
        if "Unknown model" in str(error):
            _known(name, timm.list_models(), "timm")
        raise _not_fetched(f"timm:{name}", error) from None
    except Exception as error:
        raise _not_fetched(f"timm:{name}", error) from None
    return made


def _timm_inputs(name: str) -> dict[str, Any]:
    timm = need("timm", f"timm:{name}")
    if not timm.is_model(name):
        _known(name, timm.list_models(), "timm")
    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    _, height, width = config["input_size"]
    resize = int(min(height, width) / config["crop_pct"])
    return {"height": height, "width": width, "resize": resize, "mean": config["mean"], "std": config["std"]}


def _known(name: str, names: list[str], library: str) -> None:
    if name not in names:
        raise ModelError(f'{library} has no model "{name}"', where=f"{library}:{name}", remedy=nearest(name, names))


def _not_fetched(name: str, error: Exception) -> ModelError:
    reason = (str(error).strip().split("\n") or [""])[0] or type(error).__name__
    remedy = "check the network, or give a file of its weights: --set model.weights=FILE"
    return ModelError(f"could not be built with its pretrained weights: {reason}", where=name, remedy=remedy)


def _of_code(place: str, trust: bool, options: Mapping[str, Any]) -> nn.Module:
    """What a function of a person's own module gives, found from the current folder on."""
    where = f"code:{place}"
    if not trust:
        remedy = "where you trust it, add --allow-code"
        raise RecipeError("runs Python code of yours, which is asked for first", where=where, remedy=remedy)
    module_name, _, function = place.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        make = getattr(importlib.import_module(module_name), function)
        made = make(**options)
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).strip().split(chr(10))[0]}"
        remedy = "write code:MODULE:FUNCTION, where FUNCTION() gives a torch.nn.Module"
        raise ModelError(f"cannot be built ({reason})", where=where, remedy=remedy) from None
    if not isinstance(made, nn.Module):
        raise ModelError(f"gives a {type(made).__name__}, not a torch.nn.Module", where=where)
    return made
