"""Checkpoints: the State on disk, whole or absent, verified by digests; the newest that verifies is found again."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tunesmith.errors import MachineError
from tunesmith.files import digest, no_space, remove_folder, sweep, whole_folder, write_json
from tunesmith.training.state import State

KEPT = 2
"""Checkpoints that stay: the newest, and the one before it in case the newest is damaged."""

BEST = "best-{step:08d}.safetensors"
"""Weights that were scored and are kept, the best so far or a member of a soup, under their step: what comes later
does not overwrite what an older checkpoint refers to."""

COUNTERS = ("step", "phase", "phase_step", "scores", "best", "members", "num_averaged", "attempt", "events_bytes")
"""The fields of the State that are kept as they are, in state.json; `moved` and `watched` are beside them."""


def save(state: State, folder: Path) -> Path:
    """Write `folder/step-N`: weights, optimizer, counters; the manifest of digests last. Older ones go afterwards."""
    target = folder / f"step-{state.step:08d}"
    with whole_folder(target) as temporary:
        save_file(contiguous(state.weights()), temporary / "weights.safetensors")
        if state.averages:
            save_file(contiguous(state.averages), temporary / "averages.safetensors")
        if state.optimizer is not None:
            torch.save(state.optimizer.state_dict(), temporary / "optimizer.pt")
        write_json(temporary / "state.json", _counters(state))
        manifest = {path.name: digest(path) for path in sorted(temporary.iterdir())}
        write_json(temporary / "manifest.json", manifest)
    for old in sorted(folder.glob("step-*"))[:-KEPT]:
        remove_folder(old)
    _forget_kept(state, folder)
    return target


def newest(folder: Path) -> Path | None:
    """The newest checkpoint whose files are all there and unchanged."""
    return next((path for path in sorted(folder.glob("step-*"), reverse=True) if verifies(path)), None)


def verifies(path: Path) -> bool:
    """Whether every file that the manifest names, and the weights kept at that step, are there, byte for byte."""
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        if not all(digest(path / name) == stored for name, stored in manifest.items()):
            return False
        return all(digest(path.parent / BEST.format(**kept)) == kept["digest"] for kept in _kept(_stored(path)))
    except (OSError, ValueError):
        return False


def forget_newer(folder: Path, found: Path | None) -> None:
    """Remove what a killed process left: half-written files, and checkpoints newer than the newest that verifies."""
    for path in folder.glob("step-*"):
        if found is None or path.name > found.name:
            remove_folder(path)
    sweep(folder)


def resume_counters(state: State, path: Path) -> None:
    """Set the State's counters to those of a checkpoint."""
    for name, value in _stored(path).items():
        setattr(state, name, set(value) if name == "moved" else value)


def restore(state: State, path: Path) -> None:
    """Load the weights in place, the averages, and the optimizer's state when the State has an optimizer."""
    state.load_weights(load_file(path / "weights.safetensors"))
    if (path / "averages.safetensors").is_file():
        named = dict(state.net.named_parameters())
        averages = load_file(path / "averages.safetensors")
        state.averages = {name: tensor.to(named[name].device) for name, tensor in averages.items()}
    if state.optimizer is not None and (path / "optimizer.pt").is_file():
        state.optimizer.load_state_dict(torch.load(path / "optimizer.pt", weights_only=True))


def save_best(state: State, folder: Path, value: float, *, write: bool = True) -> None:
    """Keep the weights as the best so far, and note step, score and the file's digest in the State."""
    state.best = {"step": state.step, "value": value, "digest": _keep(state, folder, write)}
    _forget_kept(state, folder)


def save_member(state: State, folder: Path, value: float, most: int, *, rising: bool, write: bool = True) -> None:
    """Keep the weights too if their score is among the `most` best so far; of equal ones the earlier come first."""
    order = [*state.members, {"step": state.step, "value": value, "digest": ""}]
    order.sort(key=lambda member: (-member["value"] if rising else member["value"], member["step"]))
    if order[:most] == state.members[:most]:
        return
    own = next(member for member in order if member["step"] == state.step)
    is_kept = state.best is not None and state.best["step"] == state.step
    own["digest"] = state.best["digest"] if state.best and is_kept else _keep(state, folder, write)
    state.members = order[:most]
    _forget_kept(state, folder)


def load_best(state: State, folder: Path) -> None:
    """Put the best weights back; a damaged file is an error, never a silently worse model."""
    assert state.best is not None
    state.load_weights(kept_weights(state.best, folder))


def kept_weights(kept: dict[str, Any], folder: Path) -> dict[str, torch.Tensor]:
    """The weights of the best, or of a member; MachineError if the file is missing or damaged."""
    path = folder / BEST.format(**kept)
    if not path.is_file() or (kept["digest"] and digest(path) != kept["digest"]):
        raise MachineError("the best weights are missing or damaged", where=str(path), remedy="run the fit again")
    return load_file(path)


def begin_again(folder: Path) -> None:
    """Remove the checkpoints and the kept weights of an attempt that is given up."""
    for path in [*folder.glob("step-*"), *folder.glob("best-*")]:
        remove_folder(path) if path.is_dir() else path.unlink()


def contiguous(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors on the CPU, contiguous, no two in the same memory: as safetensors wants them."""
    found, seen = {}, set()
    for name, tensor in weights.items():
        tensor = tensor.to("cpu").contiguous()
        place = tensor.untyped_storage().data_ptr()
        found[name] = tensor.clone() if place in seen else tensor
        seen.add(place)
    return found


def _keep(state: State, folder: Path, write: bool) -> str:
    """Write the weights under their step; the file's digest, empty where another rank writes."""
    path = folder / BEST.format(step=state.step)
    if not write:
        return ""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{path.name}.tmp"
    try:
        save_file(contiguous(state.weights()), temporary)
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise no_space(path, error) from error
    return digest(path)


def _forget_kept(state: State, folder: Path) -> None:
    """Remove kept weights that neither the State nor a checkpoint refers to."""
    stored = [_stored(path) for path in folder.glob("step-*")]
    now = {"best": state.best, "members": state.members}
    kept = {BEST.format(**one) for counters in [now, *stored] for one in _kept(counters)}
    for path in folder.glob("best-*"):
        if path.name not in kept:
            path.unlink()


def _kept(counters: dict[str, Any]) -> list[dict[str, Any]]:
    """The best and the members that some counters refer to."""
    return [*([counters["best"]] if counters["best"] else []), *counters.get("members", [])]


def _stored(path: Path) -> dict[str, Any]:
    """The counters of a checkpoint."""
    return dict(json.loads((path / "state.json").read_text(encoding="utf-8")))


def _counters(state: State) -> dict[str, Any]:
    watched = dict(state.watched)
    if "losses" in watched:
        losses = [math.nan if loss is None else float(loss) for loss in watched["losses"]]
        watched["losses"] = [loss if math.isfinite(loss) else None for loss in losses]
    found = {name: getattr(state, name) for name in COUNTERS}
    return found | {"moved": sorted(state.moved), "watched": watched}
