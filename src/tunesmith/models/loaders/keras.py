"""Keras 3 models as torch networks: each layer a module whose mode is obeyed, its tensors once, under lasting names.

With the torch backend a Keras layer is a `torch.nn.Module`, but `train()` and `eval()` do not reach it, it calls no
hooks, keeps its statistics as parameters, and lists each tensor twice under names that count up with every model. So
the layers are hidden from torch, and a tree of modules stands in their place: each Keras layer calls its module, which
calls the layer's own code."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.errors import MachineError, ModelError, nearest
from tunesmith.extras import need

FILES = (".keras", ".h5", ".hdf5")
"""How the names of Keras files end."""
ENDS = ("softmax", "sigmoid")
"""Activations behind the head that a loss brings along."""
ADAPTER = ("lora_kernel_a", "lora_kernel_b")
"""What Keras calls the two matrices of an adapter."""
_SWITCH = "set KERAS_BACKEND=torch in the environment, before anything imports keras"


def is_file(name: str) -> bool:
    """Whether a model of this name is a file of Keras, or a folder of TensorFlow's."""
    folder = Path(name)
    saved = (folder / "saved_model.pb").is_file() and not (folder / "config.json").is_file()
    return saved or name.lower().endswith(FILES)


def is_model(thing: Any) -> bool:
    """Whether `thing` is a Keras model, whatever its backend."""
    keras = sys.modules.get("keras")
    return keras is not None and hasattr(keras, "Model") and isinstance(thing, keras.Model)


def opened(name: str, given: Any = None) -> Any:
    """A copy of the Keras model in memory, or that of the file `name`; None where neither is of Keras.

    Files are read in Keras' safe mode, which runs no code of theirs. Raises ModelError for what cannot be opened so,
    MachineError where keras is absent or works with another backend."""
    if given is not None:
        return _copied(given) if is_model(given) else None
    if not is_file(name):
        return None
    if not name.lower().endswith(".keras"):
        kind = "an HDF5 file, which could run code" if name.lower().endswith(FILES) else "a SavedModel of TensorFlow"
        remedy = 'load it where you trust it, in Keras, and model.save("model.keras")'
        raise ModelError(f"is {kind}: only .keras files are opened", where=name, remedy=remedy)
    path = Path(name).expanduser()
    if not path.is_file():
        near = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise ModelError("there is no such file", where=name, remedy=nearest(path.name, near))
    if not zipfile.is_zipfile(path):
        raise ModelError("is damaged, or no .keras file", where=name, remedy="fetch or save it again")
    keras = library(name)
    try:
        with keras.device("cpu"):
            return _tunable(keras.saving.load_model(path, compile=False, safe_mode=True), name)
    except ModelError:
        raise
    except Exception as error:
        raise _unread(error, name) from None


def of_architecture(architecture: Mapping[str, Any], where: str) -> Any:
    """The model of what `KerasNetwork.architecture` kept, its weights at random; in safe mode."""
    keras = library(where)
    try:
        with keras.device("cpu"):
            return _tunable(keras.saving.deserialize_keras_object(dict(architecture), safe_mode=True), where)
    except ModelError:
        raise
    except Exception as error:
        raise _unread(error, where) from None


def library(purpose: str) -> ModuleType:
    """The keras package, working with torch."""
    loaded = "keras" in sys.modules
    wanted = os.environ.setdefault("KERAS_BACKEND", "torch")
    found = sys.modules["keras"].backend.backend() if loaded else wanted
    if found != "torch":
        raise MachineError(f"keras works with {found} here, not with torch", where=purpose, remedy=_SWITCH)
    return need("keras", purpose)


def expects(model: Any) -> dict[str, Any]:
    """What the model says of the images that it reads: their size and channels where its input is of one shape, and
    the range of their pixels where it has a layer that rescales them."""
    shape = tuple(model.inputs[0].shape[1:])
    found: dict[str, Any] = {}
    if len(shape) in (2, 3):
        height, width, channels = (*shape, 1) if len(shape) == 2 else shape if _last(model) else (*shape[1:], shape[0])
        found |= {"size": [height, width]} if height and width else {}
        found |= {"channels": channels} if channels else {}
    layers = {type(layer).__name__: layer for layer in _layers(model)}
    if not layers.keys() & {"Rescaling", "Normalization"} or "channels" not in found:
        return found
    shares = "Rescaling" not in layers and float(torch.as_tensor(layers["Normalization"].mean).max()) <= 1
    return found | {"mean": [0.0] * found["channels"], "std": [1.0 if shares else 1 / 255] * found["channels"]}


class KerasLayer(nn.Module):
    """One layer of Keras: trainable weights are its parameters, the others its buffers, `training` its own mode.

    A BatchNormalization has what torch's offers to those who recompute its statistics: with `momentum` None they become
    the mean over the batches since `reset_running_stats`."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.kind = type(layer).__name__
        self.held = (layer, layer.call)  # In a tuple, where torch does not look for modules.
        self.track_running_stats = self.kind == "BatchNormalization"
        self.own_momentum = self.momentum = getattr(layer, "momentum", None)
        self.num_batches = 0
        self.tied: dict[str, Any] = {}
        weights = [] if is_model(layer) else layer.weights
        self.seeds = [] if is_model(layer) else [v for v in layer.variables if "seed_generator" in v.path]
        for variable in weights:
            name = _unlike(_name_of(variable, layer), self)
            if variable.trainable:
                self.register_parameter(name, variable.value)
            else:
                self.register_buffer(name, variable.value.data)
                self.tied[name] = variable

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        layer, call = self.held
        # What lies inside the layer reads its mode from the context where it is not handed on.
        layer._get_call_context().set_value("training", self.training)
        if "training" in kwargs:
            kwargs["training"] = self.training
        if self.track_running_stats:
            even = self.num_batches / (self.num_batches + 1)
            layer.momentum = even if self.momentum is None else self.own_momentum
            self.num_batches += self.training
        for seed in self.seeds if self.training else ():
            # A generator of Keras counts its own passes; drawn from torch's stream, a run that goes on draws the same.
            seed.value.data.random_(0, 2**31 - 1)
        return call(*args, **kwargs)

    def reset_running_stats(self) -> None:
        """Begin the mean over batches anew."""
        self.num_batches = 0

    def takes_adapter(self) -> bool:
        """Whether Keras has adapters for this layer: a Dense, an EinsumDense or a convolution."""
        layer = self.held[0]
        offered = hasattr(layer, "enable_lora") and hasattr(layer, "_kernel")
        return offered and layer.kernel_constraint is None and not layer.lora_enabled

    def adapt(self, rank: int, alpha: float) -> None:
        """Put LoRA's two matrices beside the kernel, as Keras has them; the first drawn by torch's seed."""
        layer, drawn = self.held[0], sys.modules["keras"].initializers.HeUniform(torch.initial_seed() % 2**31)
        layer.enable_lora(rank, alpha, a_initializer=drawn)
        for name in ADAPTER:
            self.register_parameter(name, getattr(layer, name).value)

    def merge(self) -> None:
        """Add the two matrices to the kernel, and take them out."""
        layer = self.held[0]
        layer._kernel.value.data.copy_(layer.kernel)
        layer.lora_enabled, layer.lora_rank = (
            False,
            None,
        )  # A copy of the layer is made with adapters where it has a rank.
        for name in ADAPTER:
            layer._untrack_variable(getattr(layer, name))
            delattr(self, name)

    def _apply(self, fn: Any, recurse: bool = True) -> KerasLayer:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, variable in self.tied.items():
            variable.value.data = self._buffers[name]
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        if hasattr(self.held[0], "finalize_state"):  # Normalization keeps what it computes of its weights beside them.
            self.held[0].finalize_state()

    def extra_repr(self) -> str:
        return self.kind


class KerasNetwork(nn.Module):
    """A Keras model as a torch network whose head, the last Dense or convolution of 1 x 1, is a `torch.nn.Linear`.

    `head`: the name of another one. `images`: whether its input comes as (rows, channels, height, width), to be
    brought to the shape that the model reads."""

    def __init__(self, model: Any, head: str | None = None, *, images: bool = False) -> None:
        super().__init__()
        self.held = (model,)
        self.shape = tuple(model.inputs[0].shape[1:])
        self.images, self.channels_last = images, _last(model)
        self.architecture: dict[str, Any] = _architecture(model)
        """What the model is built from again: Keras' own description, without weights."""
        model.trainable = True  # Which layers move is the strategy's to say.
        _adopt(self, model, {})
        self.replaced: tuple[Any, list[Any]] = self._open_head(head)
        """The Keras layer whose place the head takes, and the activations behind it that are left to the loss."""

    @property
    def model(self) -> Any:
        """The Keras model, whose weights are those of this network; its head is not."""
        return self.held[0]

    def forward(self, *inputs: Tensor, **named: Tensor) -> Any:
        first = next(iter((*inputs, *named.values())))
        with sys.modules["keras"].device(str(first.device)):
            if not self.images:
                return self.model(inputs[0] if len(inputs) == 1 else list(inputs) or named, training=self.training)
            values = first.permute(0, 2, 3, 1) if self.channels_last else first
            fixed = len(self.shape) != 3 and None not in self.shape  # (height, width) of grey images, or all in a row.
            return self.model(values.reshape(-1, *self.shape) if fixed else values, training=self.training)

    def extra_repr(self) -> str:
        version = sys.modules["keras"].__version__
        return f"{version}, {hashlib.blake2b(json.dumps(self.architecture).encode(), digest_size=8).hexdigest()}"

    def _open_head(self, head: str | None) -> tuple[Any, list[Any]]:
        """Put a linear layer of torch in the place of the head, and nothing in that of a softmax behind it."""
        parts = {name: part for name, part in self.named_modules() if isinstance(part, KerasLayer)}
        widths = {name: width for name, part in parts.items() if (width := _width(part.held[0])) is not None}
        if head is not None and head not in widths:
            raise ModelError(f'has no Dense layer called "{head}"', where="the model", remedy=nearest(head, widths))
        if not widths:
            what = "has no Dense layer (or convolution of 1 x 1) that could be its head"
            raise ModelError(what, where="the model", remedy="end it with keras.layers.Dense(1)")
        name = head or list(widths)[-1]
        names = list(parts)
        silent = [later for later in names[names.index(name) + 1 :] if _is_end(parts[later].held[0], widths[name][1])]
        for later in silent:
            self.set_submodule(later, nn.Identity())
        self.set_submodule(name, nn.Linear(*widths[name]))
        return parts[name].held[0], [parts[later].held[0] for later in silent]


def _adopt(parent: nn.Module, model: Any, known: dict[int, nn.Module]) -> None:
    """Give `parent` a module for each layer of the model, which the layer calls from now on."""
    for layer in model.layers:
        if type(layer).__name__ == "InputLayer" or id(layer) in known:
            continue
        part = known[id(layer)] = KerasLayer(layer)
        name = _unlike(_auto_named(layer), parent)
        parent.add_module(name, part)
        if is_model(layer):
            _adopt(part, layer, known)
        # Past Keras' own __setattr__, which keeps a list of what is a layer or a variable.
        object.__setattr__(layer, "call", _caller(parent, name))


def _caller(parent: nn.Module, name: str) -> Any:
    """What calls the module that stands under this name when it is called: a head may have taken the layer's place."""

    def call(*args: Any, **kwargs: Any) -> Any:
        module = parent.get_submodule(name)
        return module(*args, **kwargs) if isinstance(module, KerasLayer) else module(*args[:1])

    return call


def _auto_named(layer: Any) -> str:
    """The layer's name, without the number where Keras numbered it: that goes on from one model to the next."""
    base = re.sub(r"_\d+$", "", layer.name)
    auto = base.replace("_", "") == type(layer).__name__.lower()
    return (base if auto else str(layer.name)).replace(".", "_")


def _name_of(variable: Any, layer: Any) -> str:
    """The variable's path inside its layer, without the numbers of layers that are named by Keras."""
    path = variable.path.rpartition(f"{layer.name}/")[2] if f"{layer.name}/" in variable.path else variable.name
    return re.sub(r"_\d+(?=/)", "", path).replace(".", "_")


def _unlike(name: str, module: nn.Module) -> str:
    """The name, with a number if the module has something of this name."""
    found, count = name, 0
    while hasattr(module, found):
        count += 1
        found = f"{name}_{count}"
    return found


def _width(layer: Any) -> tuple[int, int] | None:
    """What a layer that could be the head reads and gives at each place; None for any other."""
    kind = type(layer).__name__
    point = kind in ("Conv1D", "Conv2D") and set(layer.kernel_size) == {1} and layer.groups == 1
    if kind != "Dense" and not (point and layer.data_format == "channels_last"):
        return None
    return int(layer.kernel.shape[-2]), int(layer.kernel.shape[-1])


def _is_end(layer: Any, num_outputs: int) -> bool:
    """Whether a layer behind the head makes probabilities of its outputs, or a row of so many."""
    kind, activation = type(layer).__name__, str(getattr(getattr(layer, "activation", None), "__name__", ""))
    row = kind == "Reshape" and tuple(layer.target_shape) == (num_outputs,)
    return row or kind == "Softmax" or (kind == "Activation" and activation in ENDS)


def _layers(model: Any) -> Iterator[Any]:
    """Every layer, those of models inside it too."""
    for layer in model.layers:
        yield from _layers(layer) if is_model(layer) else (layer,)


def _last(model: Any) -> bool:
    """Whether the channels are the last axis of an image."""
    stated = (layer.data_format for layer in _layers(model) if isinstance(getattr(layer, "data_format", None), str))
    return bool(next(stated, sys.modules["keras"].config.image_data_format()) == "channels_last")


def _architecture(model: Any) -> dict[str, Any]:
    found: dict[str, Any] = sys.modules["keras"].saving.serialize_keras_object(model)
    found.pop("compile_config", None)
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


def _copied(model: Any) -> Any:
    """The model again, in other memory; it goes through its description, so that what a Run keeps is known to work."""
    keras, where = library("the model"), type(model).__name__
    copy = of_architecture(_architecture(_tunable(model, where)), where)
    with keras.device("cpu"):
        copy.set_weights(model.get_weights())
    return copy


def _tunable(model: Any, where: str) -> Any:
    """The model, if its layers can be told apart; ModelError otherwise."""
    if not getattr(model, "inputs", None) or not model.layers:
        remedy = "build it as keras.Sequential with a keras.Input, or as keras.Model(inputs, outputs)"
        raise ModelError("is no built Sequential or functional model", where=where, remedy=remedy)
    if any(type(layer).__name__ == "Lambda" for layer in _layers(model)):
        raise ModelError("has a Lambda layer, which is code in a file", where=where, remedy=_CUSTOM)
    return model


_CUSTOM = (
    "write it as a keras.Layer with @keras.saving.register_keras_serializable, imported before the model is opened"
)


def _unread(error: Exception, where: str) -> ModelError:
    text = str(error).strip()
    reason = text.rpartition("Exception encountered: ")[2].split("\n")[0][:200]  # Before it stands all of the layer.
    if "ambda" in text:
        return ModelError("has a lambda, which is code in a file", where=where, remedy=_CUSTOM)
    if (unknown := re.search(r"Could not locate \w+ '(.+?)'", text)) is not None:
        return ModelError(f"has a layer that Keras does not know: {unknown[1]}", where=where, remedy=_CUSTOM)
    return ModelError(f"cannot be opened by Keras: {reason}", where=where, remedy="fetch or save it again")
