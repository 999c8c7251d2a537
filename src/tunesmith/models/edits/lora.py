"""Adapters of the peft library in the linear layers of some stages, and their way back into the weights."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

from tunesmith.errors import ModelError, RecipeError
from tunesmith.models.edits.named import stages_named
from tunesmith.models.loaders.keras import ADAPTER, KerasLayer, KerasNetwork
from tunesmith.models.loaders.transformers import quiet
from tunesmith.models.pretrained import Pretrained

Method = Literal["lora", "rslora", "dora", "ia3", "vera", "oft"]
VECTORS = ("ia3", "vera")
"""The methods that learn vectors, not matrices."""

WHERE = "model.edits.lora"
_UNREAD: dict[Method, tuple[str, ...]] = {
    "lora": (),
    "rslora": (),
    "dora": (),
    "ia3": ("rank", "alpha", "dropout"),
    "vera": ("alpha",),
    # peft 0.21 makes a dropout of OFT and never calls it.
    "oft": ("alpha", "dropout"),
}


def edit(
    pretrained: Pretrained,
    *,
    stages: list[str] | None = None,
    method: Method = "lora",
    rank: int | None = None,
    alpha: float | None = None,
    dropout: float = 0.0,
) -> None:
    """Put an adapter into every linear layer of `stages` (left out: all but the stem); the outputs do not change yet.

    `lora`: W + alpha/rank BA (Hu et al. 2022); `rslora`: alpha/sqrt(rank) (Kalajdzievski 2023); `dora`: a learnt norm
    for each output as well (Liu et al. 2024); `ia3`: a learnt factor for each output, where a layer narrows for each
    input (Liu et al. 2022); `vera`: LoRA with fixed random matrices that all layers share and two learnt vectors
    (Kopiczko et al. 2024); `oft`: a learnt rotation of the inputs in blocks (Qiu et al. 2023). Of a Keras model the
    layers Dense, EinsumDense and the convolutions take `lora`, by Keras' own adapters.
    `rank`: 8, of vera 256; of oft the block size, the largest up to 32 that divides every width. `alpha`: the rank.
    `dropout`: of the adapters' inputs; ia3 and oft have none."""
    if adapters(pretrained.body):
        raise RecipeError(
            "the model has adapters already", where=WHERE, remedy="use the strategy or the edit, not both"
        )
    _check(method, rank, alpha, dropout)
    names = [stage.name for stage in pretrained.stages if stage.name != "stem"]
    layers = _linear(pretrained, names if stages is None else stages)
    if isinstance(pretrained.body, KerasNetwork):
        if method != "lora" or dropout:
            what = f"the layers of Keras take adapters of the method lora without dropout, not {method}"
            raise RecipeError(what, where=WHERE, remedy="leave the method and the dropout out")
        for layer in layers.values():
            layer.adapt(rank or 8, alpha or rank or 8)
        return
    config = _CONFIGS[method](layers, rank, alpha, dropout)
    config.inference_mode = False
    with quiet():
        _tuner(config)(pretrained.body, config, adapter_name="default")


def adapters(body: nn.Module) -> dict[str, Any]:
    """The layers of the body that have an adapter, by name."""
    if isinstance(body, KerasNetwork):
        return {name: layer for name, layer in body.named_modules() if hasattr(layer, ADAPTER[0])}
    if not hasattr(body, "peft_config"):
        return {}
    from peft.tuners.tuners_utils import BaseTunerLayer

    return {name: layer for name, layer in body.named_modules() if isinstance(layer, BaseTunerLayer)}


def fits(pretrained: Pretrained) -> bool:
    """Whether a stage above the stem has a layer that takes an adapter."""
    names = [stage.name for stage in pretrained.stages if stage.name != "stem"]
    with contextlib.suppress(ModelError, RecipeError):
        return bool(_linear(pretrained, names))
    return False


def _check(method: Method, rank: int | None, alpha: float | None, dropout: float) -> None:
    """RecipeError for an option that the method does not read, or that is out of its range."""
    given = {"rank": rank, "alpha": alpha, "dropout": dropout or None}
    for name, value in given.items():
        if value is not None and name in _UNREAD[method]:
            raise RecipeError(f'"{name}" has no effect on {method}', where=WHERE, remedy="leave it out")
        if value is not None and (value <= 0 or (name == "dropout" and value >= 1)):
            raise RecipeError(f'"{name}" = {value} is out of range', where=WHERE)


@torch.no_grad()
def merge(pretrained: Pretrained) -> None:
    """Add the adapters to the weights beside them and take them out: the body is what its library knows again."""
    homes, body = pretrained.homes(), pretrained.body
    for name, layer in adapters(body).items():
        layer.merge()
        if not isinstance(body, KerasNetwork):
            body.set_submodule(name, layer.get_base_layer())
    if hasattr(body, "peft_config"):
        del body.peft_config
    pretrained.restage(homes)


def _linear(pretrained: Pretrained, names: list[str]) -> dict[str, Any]:
    """The linear layers of these stages; those of nn.MultiheadAttention are read past their forward, and left out. Of
    Keras, the layers that take an adapter."""
    from transformers.pytorch_utils import Conv1D

    found: dict[str, Any] = {}
    for stage in stages_named(pretrained, names, "lora"):
        for path in stage.modules:
            inside = dict(pretrained.body.get_submodule(path).named_modules(prefix=path))
            whole = tuple(f"{name}." for name, module in inside.items() if isinstance(module, nn.MultiheadAttention))
            found |= {
                name: module
                for name, module in inside.items()
                if (isinstance(module, nn.Linear | Conv1D) and not name.startswith(whole))
                or (isinstance(module, KerasLayer) and module.takes_adapter())
            }
    if not found:
        raise ModelError("these stages have no linear layers", where=WHERE, remedy="name others")
    return found


def _widths(layer: Any) -> tuple[int, int]:
    """Inputs and outputs of a linear layer."""
    return (layer.in_features, layer.out_features) if isinstance(layer, nn.Linear) else (layer.nx, layer.nf)


def _turned(layers: dict[str, nn.Module]) -> bool:
    """Whether the weights are kept as (inputs, outputs): transformers' Conv1D."""
    return not any(isinstance(layer, nn.Linear) for layer in layers.values())


def _lora(layers: dict[str, nn.Module], rank: int | None, alpha: float | None, dropout: float, **more: Any) -> Any:
    from peft import LoraConfig

    rank = rank or 8
    scale: Any = alpha or rank
    return LoraConfig(
        r=rank,
        lora_alpha=scale,
        lora_dropout=dropout,
        target_modules=list(layers),
        fan_in_fan_out=_turned(layers),
        **more,
    )


def _rslora(layers: dict[str, nn.Module], rank: int | None, alpha: float | None, dropout: float) -> Any:
    return _lora(layers, rank, alpha, dropout, use_rslora=True)


def _dora(layers: dict[str, nn.Module], rank: int | None, alpha: float | None, dropout: float) -> Any:
    return _lora(layers, rank, alpha, dropout, use_dora=True)


def _ia3(layers: dict[str, nn.Module], _rank: int | None, _alpha: float | None, _dropout: float) -> Any:
    from peft import IA3Config

    narrowing = [name for name, layer in layers.items() if _widths(layer)[0] > _widths(layer)[1]]
    return IA3Config(target_modules=list(layers), feedforward_modules=narrowing, fan_in_fan_out=_turned(layers))


def _vera(layers: dict[str, nn.Module], rank: int | None, _alpha: float | None, dropout: float) -> Any:
    from peft import VeraConfig

    return VeraConfig(
        r=rank or 256,
        vera_dropout=dropout,
        target_modules=list(layers),
        fan_in_fan_out=_turned(layers),
        # The seed of this edit: the fixed matrices are drawn by a generator of their own.
        projection_prng_key=torch.initial_seed() % 2**31,
    )


def _oft(layers: dict[str, nn.Module], rank: int | None, _alpha: float | None, _dropout: float) -> Any:
    from peft import OFTConfig

    other = next((name for name, layer in layers.items() if not isinstance(layer, nn.Linear)), None)
    if other is not None:
        raise ModelError(f"oft does not fit {other}, a Conv1D", where=WHERE, remedy="use another method, such as lora")
    common = math.gcd(*(_widths(layer)[0] for layer in layers.values()))
    size = rank or max(size for size in range(1, 33) if common % size == 0)
    if size < 2 or common % size:
        what = f"blocks of {size} do not divide every width"
        raise RecipeError(what, where=f"{WHERE}.rank", remedy=f"write a divisor of {common} above 1")
    # The default of peft is a series that is a rotation only near 0.
    return OFTConfig(r=0, oft_block_size=size, use_cayley_neumann=False, target_modules=list(layers))


_CONFIGS: dict[Method, Callable[[dict[str, nn.Module], int | None, float | None, float], Any]] = {
    "lora": _lora,
    "rslora": _rslora,
    "dora": _dora,
    "ia3": _ia3,
    "vera": _vera,
    "oft": _oft,
}


def _tuner(config: Any) -> Any:
    """The class of peft that puts adapters into a module in place; `inject_adapter_in_model` refuses VeRA."""
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    return PEFT_TYPE_TO_TUNER_MAPPING[config.peft_type]
