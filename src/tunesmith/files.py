"""Files that are whole or absent: written beside their place, flushed, renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from tunesmith.errors import MachineError

TORCH_WRITES = ("PytorchStreamWriter", "inline_container", "iostream error")
"""What torch.save says of a file that it could not write, a RuntimeError."""


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` in one step; an interruption leaves the old file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as indented JSON; NaN is refused, because other tools cannot read it."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path` when the block ends well, and vanishes when it does not."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with open(file, "rb") as opened:
                    os.fsync(opened.fileno())
        if path.exists():
            remove_folder(path)
        os.replace(temporary, path)
    except RuntimeError as error:
        if not any(word in str(error) for word in TORCH_WRITES):
            raise
        raise no_space(path, OSError(errno.EIO, "a file could be written in part only")) from error
    except (OSError, SafetensorError) as error:
        raise no_space(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Remove a folder whole: of a process killed meanwhile nothing stays under its name, only what `sweep` takes."""
    gone = path.with_name(f".{path.name}.gone.{os.getpid()}.tmp")
    os.replace(path, gone)
    shutil.rmtree(gone)


def sweep(folder: Path) -> None:
    """Remove what a killed process left half-written or half-removed in `folder`."""
    for path in folder.glob(".*.tmp"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def cache_folder(name: str, variable: str) -> Path:
    """Where something is kept for later runs: the folder that an environment variable names, else below the user's
    cache folder."""
    if named := os.environ.get(variable):
        return Path(named).expanduser()
    home = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("LOCALAPPDATA") if os.name == "nt" else None)
    return (Path(home) if home else Path.home() / ".cache") / "tunesmith" / name


def full(error: OSError) -> bool:
    """Whether a file could not be written because the disk, a quota or a limit is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def no_space(path: Path, error: Exception) -> MachineError:
    """The error of a file that could not be written, in words."""
    reason = getattr(error, "strerror", None) or str(error).strip().split("\n")[0]
    remedy = "free some disk space or choose another --out; what was saved before is untouched"
    return MachineError(f"could not be written: {reason}", where=str(path), remedy=remedy)


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_space(folder: Path, needed_bytes: int, purpose: str) -> None:
    """Raise MachineError when the disk that holds `folder` has less than `needed_bytes` free."""
    existing = folder.resolve()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise MachineError(
            f"{purpose} needs {size(needed_bytes)} and {existing} has {size(free)} free",
            remedy="free some space, or choose a folder on another disk with --out",
        )


def size(num_bytes: float) -> str:
    """Bytes for people.

    >>> size(90868376)
    '90.9 MB'
    """
    for unit in ("B", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} GB"
