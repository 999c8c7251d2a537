"""Checkpoints: the State on disk, whole or absent, verified by digests; the newest that verifies is found again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tunesmith.errors import MachineError
from tunesmith.files import digest, no_space, sweep, whole_folder, write_json
from tunesmith.training.state import State

KEPT = 2
"""Checkpoints that stay: the newest, and the one before it in case the newest is damaged."""

BEST = "best-{step:08d}.safetensors"
"""The best weights so far, under their step: a later best does not overwrite what an older checkpoint refers to."""


def save(state: State, folder: Path) -> Path:
    """Write `folder/step-N`: weights, optimizer, counters; the manifest of digests last. Older ones go afterwards."""
    target = folder / f"step-{state.step:08d}"
    with whole_folder(target) as temporary:
        save_file(contiguous(state.weights()), temporary / "weights.safetensors")
        if state.optimizer is not None:
            torch.save(state.optimizer.state_dict(), temporary / "optimizer.pt")
        write_json(temporary / "state.json", _counters(state))
        manifest = {path.name: digest(path) for path in sorted(temporary.iterdir())}
        write_json(temporary / "manifest.json", manifest)
    for old in sorted(folder.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old)
    _forget_bests(folder)
    return target


def newest(folder: Path) -> Path | None:
    """The newest checkpoint whose files are all there and unchanged."""
    return next((path for path in sorted(folder.glob("step-*"), reverse=True) if verifies(path)), None)


def verifies(path: Path) -> bool:
    """Whether every file that the manifest names, and the best weights at that step, are there, byte for byte."""
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        if not all(digest(path / name) == stored for name, stored in manifest.items()):
            return False
        best = _stored(path)["best"]
        return best is None or digest(path.parent / BEST.format(**best)) == best["digest"]
    except (OSError, ValueError):
        return False


def forget_newer(folder: Path, found: Path | None) -> None:
    """Remove what a killed process left: half-written files, and checkpoints newer than the newest that verifies."""
    for path in folder.glob("step-*"):
        if found is None or path.name > found.name:
            shutil.rmtree(path)
    sweep(folder)


def resume_counters(state: State, path: Path) -> None:
    """Set the State's counters to those of a checkpoint."""
    for name, value in _stored(path).items():
        setattr(state, name, set(value) if name == "moved" else value)


def restore(state: State, path: Path) -> None:
    """Load the weights in place, and the optimizer's state when the State has an optimizer."""
    state.load_weights(load_file(path / "weights.safetensors"))
    if state.optimizer is not None and (path / "optimizer.pt").is_file():
        state.optimizer.load_state_dict(torch.load(path / "optimizer.pt", weights_only=True))


def save_best(state: State, folder: Path, value: float, *, write: bool = True) -> None:
    """Keep the weights as the best so far, and note step, score and the file's digest in the State."""
    path = folder / BEST.format(step=state.step)
    if write:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{path.name}.tmp"
        try:
            save_file(contiguous(state.weights()), temporary)
            temporary.replace(path)
        except (OSError, SafetensorError) as error:
            temporary.unlink(missing_ok=True)
            raise no_space(path, error) from error
        _forget_bests(folder, path)
    state.best = {"step": state.step, "value": value, "digest": digest(path) if write else ""}


def load_best(state: State, folder: Path) -> None:
    """Put the best weights back; a damaged file is an error, never a silently worse model."""
    assert state.best is not None
    path = folder / BEST.format(**state.best)
    if not path.is_file() or (state.best["digest"] and digest(path) != state.best["digest"]):
        raise MachineError("the best weights are missing or damaged", where=str(path), remedy="run the fit again")
    state.load_weights(load_file(path))


def contiguous(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors on the CPU, contiguous, no two in the same memory: as safetensors wants them."""
    found, seen = {}, set()
    for name, tensor in weights.items():
        tensor = tensor.to("cpu").contiguous()
        place = tensor.untyped_storage().data_ptr()
        found[name] = tensor.clone() if place in seen else tensor
        seen.add(place)
    return found


def _forget_bests(folder: Path, newest: Path | None = None) -> None:
    """Remove best weights that no checkpoint refers to, but `newest`."""
    bests = [_stored(path)["best"] for path in folder.glob("step-*")]
    kept = {BEST.format(**best) for best in bests if best is not None} | ({newest.name} if newest else set())
    for path in folder.glob("best-*"):
        if path.name not in kept:
            path.unlink()


def _stored(path: Path) -> dict[str, Any]:
    """The counters of a checkpoint."""
    return dict(json.loads((path / "state.json").read_text(encoding="utf-8")))


def _counters(state: State) -> dict[str, Any]:
    fields = ("step", "phase", "phase_step", "scores", "best", "events_bytes")
    return {name: getattr(state, name) for name in fields} | {"moved": sorted(state.moved)}
