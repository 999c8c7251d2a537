"""Weights of a file into a network: what matched, what did not and why, whatever the file's names begin with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tunesmith.errors import ModelError, nearest

WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params", "ema")
"""Names under which a training script keeps the weights beside its optimizer and its epoch."""
PREFIXES = ("module.", "_orig_mod.", "backbone.", "model.", "net.", "encoder.", "body.")
"""What wrappers put before each name."""
ENOUGH = 0.5
"""A file that fills less than this share of the weights is of another network."""


def load_weights(module: nn.Module, file: str | Path) -> list[str]:
    """Copy what fits by name and shape into `module`, and tell in words what did not.

    `.safetensors`, or torch's own format, opened with `weights_only=True`. Raises ModelError for a file that cannot be
    read that way, or that holds the weights of another network."""
    path = Path(file).expanduser()
    found = _unwrapped(_read(path), path)
    wanted = module.state_dict()
    named, stripped = _best_names(found, wanted)
    fits = {name: tensor for name, tensor in named.items() if name in wanted and tensor.shape == wanted[name].shape}
    shapes = [name for name in named if name in wanted and name not in fits]
    missing = [name for name in wanted if name not in named and not name.endswith("num_batches_tracked")]
    left = [name for name in named if name not in wanted]
    share = sum(wanted[name].numel() for name in fits) / max(1, sum(tensor.numel() for tensor in wanted.values()))
    count = len(fits) + len(missing) + len(shapes)
    account = [
        f"{path.name}: {len(fits)} of {count} tensors matched ({share:.0%} of the numbers)"
        + (f', "{stripped}" before their names left out' if stripped else "")
    ]
    if shapes:
        shown = [f"{name} ({_shape(named[name])} in the file, {_shape(wanted[name])} here)" for name in shapes[:3]]
        account.append(f"of other shapes: {_listed(shown, len(shapes))}")
    account += [f"not in the file: {_listed(missing[:3], len(missing))}"] if missing else []
    account += [f"in the file alone: {_listed(left[:3], len(left))}"] if left else []
    if share < ENOUGH:
        remedy = "give the file of this network, or build the network that the file was saved from"
        raise ModelError("; ".join(account), where=str(path), remedy=remedy)
    with torch.no_grad():
        module.load_state_dict({name: tensor.to(wanted[name].dtype) for name, tensor in fits.items()}, strict=False)
    return account


def _read(path: Path) -> Any:
    if not path.is_file():
        near = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise ModelError("there is no such file of weights", where=str(path), remedy=nearest(path.name, near))
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise ModelError(f"cannot be read: {error}", where=str(path), remedy="fetch the file again") from None
    except Exception as error:
        unsafe = "Unsupported global" in str(error) or "Unsupported class" in str(error)
        what = (
            "holds more than weights, and opening it could run code" if unsafe else "is no file of weights, or damaged"
        )
        remedy = "where you trust it, load it in torch and save its state_dict() alone, or as .safetensors"
        raise ModelError(what, where=str(path), remedy=remedy) from None


def _unwrapped(value: Any, path: Path) -> dict[str, Tensor]:
    """The tensors by name, out of the dicts that a training script wraps them in."""
    while isinstance(value, Mapping):
        tensors = {str(name): item for name, item in value.items() if isinstance(item, Tensor)}
        inner = [value[name] for name in WRAPPERS if isinstance(value.get(name), Mapping)]
        if not inner or len(tensors) > 1:
            if tensors:
                return tensors
            break
        value = inner[0]
    raise ModelError("holds no tensors by name", where=str(path), remedy="save the network's state_dict()")


def _best_names(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """The tensors under the names that fit most of the network's, and what was left out before them."""
    best, stripped = dict(found), ""
    count = _matches(best, wanted)
    tried, prefixes = dict(found), ""
    for _ in range(3):
        prefix = next((prefix for prefix in PREFIXES if any(name.startswith(prefix) for name in tried)), None)
        if prefix is None:
            break
        tried = {name.removeprefix(prefix): tensor for name, tensor in tried.items()}
        prefixes += prefix
        if (now := _matches(tried, wanted)) > count:
            best, stripped, count = tried, prefixes, now
    for prefix in PREFIXES:
        added = {f"{prefix}{name}": tensor for name, tensor in best.items()}
        if (now := _matches(added, wanted)) > count:
            return added, stripped
    return best, stripped


def _matches(named: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> int:
    return sum(1 for name, tensor in named.items() if name in wanted and tensor.shape == wanted[name].shape)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"


def _listed(names: list[str], count: int) -> str:
    return ", ".join(names) + (f" and {count - len(names)} more" if count > len(names) else "")
