"""Outputs of frozen prefixes on disk: ragged, memory-mapped, verified before they are trusted, under a budget.

An entry is a folder: `about.json`, `data.bin` (the arrays of one row behind those of another) and `index.bin` (for each
row its key, where its bytes are, and their CRC-32). Both files only grow, under a lock, the index after the data: a
process killed at any moment leaves rows that are there or not."""

from __future__ import annotations

import json
import os
import shutil
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from tunesmith.files import cache_folder, write_json

RECORD = np.dtype([("key", "V16"), ("offset", "<u8"), ("size", "<u4"), ("crc", "<u4")])
"""One row of the index; the last record of a key counts."""
LARGEST = 20_000_000_000
"""Bytes that all entries may take by default, if a fifth of the free disk is not less."""


def root() -> Path:
    """Where the entries are: the folder in TUNESMITH_CACHE, else the user's cache folder."""
    return cache_folder("prefix", "TUNESMITH_CACHE")


def budget() -> int:
    """Bytes that all entries together may take: TUNESMITH_CACHE_GB, else the smaller of 20 GB and a fifth of what is
    free (the entries' own bytes count as free)."""
    named = os.environ.get("TUNESMITH_CACHE_GB")
    if named:
        return int(float(named) * 1e9)
    place = next(path for path in (root(), *root().parents) if path.exists())
    used = sum(size for _, size, _ in _sizes())
    return min(LARGEST, (shutil.disk_usage(place).free + used) // 5)


@dataclass
class Entry:
    """The rows of one entry as they stood when it was opened."""

    path: Path
    records: dict[bytes, tuple[int, int, int]]
    data: np.ndarray

    def verified(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those of the keys whose bytes are there and unchanged."""
        return {key for key in set(keys) if key in self.records and self._whole(*self.records[key])}

    def _whole(self, offset: int, size: int, crc: int) -> bool:
        return zlib.crc32(self.data[offset : offset + size].data) == crc

    def bytes_of(self, key: bytes) -> np.ndarray:
        """The bytes of a row, not copied."""
        offset, size, _ = self.records[key]
        return self.data[offset : offset + size]


def open_entry(name: str) -> Entry:
    """What the entry of this name holds now; opening it counts as use."""
    path = root() / name
    records: dict[bytes, tuple[int, int, int]] = {}
    data = np.empty(0, np.uint8)
    if (path / "index.bin").is_file() and (path / "data.bin").is_file():
        raw = (path / "index.bin").read_bytes()
        table = np.frombuffer(raw[: len(raw) // RECORD.itemsize * RECORD.itemsize], RECORD)
        places = zip(table["offset"].tolist(), table["size"].tolist(), table["crc"].tolist(), strict=True)
        records = dict(zip(map(bytes, table["key"]), places, strict=True))
        if (path / "data.bin").stat().st_size:
            data = np.memmap(path / "data.bin", np.uint8, "r")
        os.utime(path)
    return Entry(path, records, data)


def append(name: str, about: dict[str, Any], keys: Sequence[bytes], rows: Sequence[bytes]) -> None:
    """Add rows to an entry, whole or not at all; OSError when the disk does not take them."""
    path = root() / name
    path.mkdir(parents=True, exist_ok=True)
    with FileLock(path / "lock"):
        if not (path / "about.json").is_file():
            write_json(path / "about.json", about)
        index = path / "index.bin"
        if index.is_file() and (rest := index.stat().st_size % RECORD.itemsize):
            os.truncate(index, index.stat().st_size - rest)
        with open(path / "data.bin", "ab") as file:
            offset = file.seek(0, os.SEEK_END)
            file.write(b"".join(rows))
            file.flush()
            os.fsync(file.fileno())
        records = np.empty(len(keys), RECORD)
        for number, (key, row) in enumerate(zip(keys, rows, strict=True)):
            records[number] = (key, offset, len(row), zlib.crc32(row))
            offset += len(row)
        with open(index, "ab") as file:
            file.write(records.tobytes())


def make_room(num_bytes: int, *, keep: str = "") -> bool:
    """Remove the entries used least recently until `num_bytes` more fit into the budget; whether they do."""
    allowed, entries = budget(), sorted(_sizes(), key=lambda entry: entry[2])
    used = sum(size for _, size, _ in entries)
    if num_bytes + sum(size for path, size, _ in entries if path.name == keep) > allowed:
        return False
    for path, size, _ in entries:
        if used + num_bytes <= allowed:
            break
        if path.name != keep:
            shutil.rmtree(path, ignore_errors=True)
            used -= size
    return True


def entries() -> list[dict[str, Any]]:
    """What is kept: of each entry its name, model, stages, rows, bytes, and when it was last used (seconds of 1970)."""
    found = []
    for path, size, used in sorted(_sizes(), key=lambda entry: -entry[2]):
        try:
            about = json.loads((path / "about.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            about = {}
        index = path / "index.bin"
        rows = index.stat().st_size // RECORD.itemsize if index.is_file() else 0
        found.append({"name": path.name, **about, "rows": rows, "bytes": size, "used": used})
    return found


def clear() -> int:
    """Remove every entry; the bytes that are free again."""
    freed = 0
    for path, size, _ in list(_sizes()):
        shutil.rmtree(path, ignore_errors=True)
        freed += size
    return freed


def ago(seconds: float) -> str:
    """How long ago a time was, in words."""
    passed = max(0.0, time.time() - seconds)
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if passed >= 2 * size:
            return f"{passed // size:.0f} {unit} ago"
    return "just now"


def _sizes() -> Iterator[tuple[Path, int, float]]:
    """Folder, bytes and last use of each entry."""
    if not root().is_dir():
        return
    for path in root().iterdir():
        try:
            if path.is_dir():
                yield path, sum(file.stat().st_size for file in path.iterdir()), path.stat().st_mtime
        except OSError:
            continue
