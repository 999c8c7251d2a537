"""Any torch network as a Pretrained: its head found or named and made anew, its stages found."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.errors import ModelError, nearest
from tunesmith.files import size
from tunesmith.models.pooling import outputs_of_layer, read_by
from tunesmith.models.pretrained import Calling, Origin, Pretrained
from tunesmith.models.stages import Stage, evaluating, find_stages


def of_module(
    module: nn.Module,
    sample: Mapping[str, Tensor],
    labels: Sequence[str],
    *,
    name: str,
    modality: str,
    head: str | None = None,
    told: Sequence[str] = (),
) -> Pretrained:
    """The network as a Pretrained whose head is made anew for `labels`; new weights follow torch's seed.

    `sample`: the tensors of two rows. `head`: the name of its last layer, which is found if not given. Raises
    ModelError where the network cannot read the rows, or has no last layer that can be made anew."""
    module.to("cpu", torch.float32)
    run = _calling(module, sample)
    calling = Calling(run, _outputs, _states)
    path = head or _last_layer(module, lambda: calling.run(module, sample), sample, name)
    layer = _layer(module, path, name)
    width = _width(layer)
    made = anew(layer, len(labels))
    module.set_submodule(path, made)
    outputs = _tried(module, calling, sample, name)
    if outputs.shape != (len(next(iter(sample.values()))), len(labels)):
        what = f"gives {tuple(outputs.shape)} for two rows where two rows of {len(labels)} outputs are wanted"
        raise ModelError(what, where=name, remedy=f"name the layer that ends it: model.head = {_EXAMPLE}")
    with evaluating(module), torch.no_grad():
        read = read_by(made, lambda: calling.run(module, sample))
    stages = _without(path, find_stages(module, lambda: calling.run(module, sample)), module)
    folded = _is_folded(module)
    told = [*told, *["its BatchNorm is folded into the convolutions: statistics stay fixed"] * folded]
    parameters = sum(parameter.numel() for parameter in module.parameters())
    what = f"({type(module).__name__}, {parameters / 1e6:.1f}M parameters, {size(4 * parameters)})"
    new = name.startswith("new:")
    line = f"made {name} {what}; nothing is pretrained" if new else f"loaded {name} {what}"
    return Pretrained(
        module=module,
        body=module,
        stages=stages,
        width=width,
        processor=None,
        max_positions=0,
        origin=origin(name, module, path),
        told="; ".join([line, *told, *[f"newly made: {path}"] * (not new)]),
        poolings=("mean",) if read.dim() == 2 else (),
        own_head=True,
        calling=calling,
        modality=modality,
        head_path=path,
        own_layer=made,
        fixed_statistics=folded,
    )


def _is_folded(module: nn.Module) -> bool:
    """Whether every BatchNorm is the identity, in a network that was trained: in training mode it would be none."""
    norms = [norm for norm in module.modules() if isinstance(norm, nn.modules.batchnorm._BatchNorm)]
    means = [norm.running_mean for norm in norms if norm.running_mean is not None]
    biases = [norm.bias for norm in norms if norm.bias is not None]
    return bool(means) and not any(mean.any() for mean in means) and any(bias.any() for bias in biases)


_EXPECTS = "say what it reads, as in --set 'model.expects={size = 224, channels = 3}', or look at its forward pass"
_EXAMPLE = '{ name = "own", layer = "NAME" }'


def origin(name: str, module: nn.Module, but: str) -> Origin:
    """Where the network came from, with a digest of all weights and statistics but those of one layer."""
    found = hashlib.blake2b(digest_size=8)
    for key, tensor in module.state_dict().items():
        if not key.startswith(f"{but}."):
            raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            found.update(key.encode() + raw.numpy().tobytes())
    return Origin(name, Path(), found.hexdigest())


def _calling(module: nn.Module, sample: Mapping[str, Tensor]) -> Callable[[nn.Module, Mapping[str, Tensor]], Any]:
    """How the network takes its inputs: by the names that its forward pass has, else one after the other."""
    taken = inspect.signature(module.forward).parameters
    if len(sample) == 1 and not {*sample} & {*taken}:
        return lambda network, inputs: network(*inputs.values())
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
        return lambda network, inputs: network(**inputs)
    names = [name for name in sample if name in taken]
    if names:
        return lambda network, inputs: network(**{name: inputs[name] for name in names})
    return lambda network, inputs: network(*inputs.values())


def _tried(module: nn.Module, calling: Calling, sample: Mapping[str, Tensor], name: str) -> Tensor:
    try:
        with evaluating(module), torch.no_grad():
            return calling.outputs(calling.run(module, sample))
    except ModelError:
        raise
    except Exception as error:
        raise _unread(error, sample, name) from None


def _unread(error: Exception, sample: Mapping[str, Tensor], name: str) -> ModelError:
    """The network cannot read what its rows are."""
    shapes = ", ".join(f"{key} {tuple(tensor.shape)}" for key, tensor in sample.items())
    images = any(tensor.dim() == 4 for tensor in sample.values())
    remedy = _EXPECTS if images else "give it a first layer for that shape; the first number is that of the rows"
    return ModelError(f"cannot read two rows ({shapes}): {_reason(error)}", where=name, remedy=remedy)


def _reason(error: Exception) -> str:
    """The line of an error that says why: Keras puts one before it that says where, and writes it in bold."""
    lines = [line for line in re.sub(r"\x1b\[\d+m", "", str(error)).splitlines() if line.strip()]
    return next((line.strip() for line in lines if not line.startswith("Exception encountered")), type(error).__name__)


def _outputs(output: Any) -> Tensor:
    """The outputs (rows, num_outputs) in whatever a network gives."""
    for key in ("logits", "out"):
        if isinstance(output, Mapping) and key in output:
            output = output[key]
        elif hasattr(output, key) and not isinstance(output, Tensor):
            output = getattr(output, key)
    if isinstance(output, Mapping):
        output = next(iter(output.values()), None)
    while isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise ModelError(f"gives a {type(output).__name__} where a tensor of outputs is wanted", where="the model")
    return output.flatten(1) if output.dim() > 2 else output


def _states(output: Any, _inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """One place a row: what comes before the head is a vector."""
    states = _outputs(output).unsqueeze(1)
    return states, torch.ones(states.shape[:2], dtype=torch.long, device=states.device)


def _last_layer(module: nn.Module, run: Callable[[], Any], sample: Mapping[str, Tensor], name: str) -> str:
    """The name of the last layer that is called and could end a network."""
    order: list[str] = []
    handles = []
    for path, layer in module.named_modules():
        if path and outputs_of_layer(layer) is not None:
            handles.append(layer.register_forward_hook(lambda *_, path=path: order.append(path)))
    try:
        with evaluating(module), torch.no_grad():
            run()
    except Exception as error:
        raise _unread(error, sample, name) from None
    finally:
        for handle in handles:
            handle.remove()
    if not order:
        what = "has no linear layer (or convolution of 1 x 1) that could be its head"
        raise ModelError(what, where=name, remedy="end it with a torch.nn.Linear inside another module")
    return order[-1]


def _layer(module: nn.Module, path: str, name: str) -> nn.Module:
    known = [path for path, layer in module.named_modules() if path and outputs_of_layer(layer) is not None]
    if path not in known:
        raise ModelError(f'has no linear layer called "{path}"', where=name, remedy=nearest(path, known))
    return module.get_submodule(path)


def _width(layer: Any) -> int:
    return int(layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels)


def anew(layer: Any, num_outputs: int) -> nn.Module:
    """A layer of the same kind with other outputs. It has a bias: a regression needs one to hold its mean."""
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, num_outputs)
    kind = nn.Conv1d if isinstance(layer, nn.Conv1d) else nn.Conv2d
    made: nn.Module = kind(layer.in_channels, num_outputs, 1)
    return made


def _without(path: str, stages: Sequence[Stage], module: nn.Module) -> tuple[Stage, ...]:
    """The stages less the head, which is a stage of its own in the net that is tuned."""
    found = []
    for stage in stages:
        parameters = tuple(name for name in stage.parameters if not name.startswith(f"{path}."))
        modules = tuple(part for name in stage.modules for part in _but(module, name, path))
        found.append(replace(stage, modules=modules, parameters=parameters))
    return tuple(stage for stage in found if stage.parameters or stage.name == "stem")


def _but(module: nn.Module, name: str, path: str) -> list[str]:
    """A module's name; where it holds the head, the names of its other parts."""
    if name == path:
        return []
    if not path.startswith(f"{name}."):
        return [name]
    children = [f"{name}.{child}" for child, _ in module.get_submodule(name).named_children()]
    return [part for child in children for part in _but(module, child, path)]
