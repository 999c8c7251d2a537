"""Images and sounds as a column holds them: names of files, bytes, or arrays; known by their names and first bytes."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from tunesmith.data import items as opaque
from tunesmith.data.table import Table, is_text

IMAGES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jp2", ".avif")
SOUNDS = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au")
EXTENSIONS: dict[Literal["image", "sound"], tuple[str, ...]] = {"image": IMAGES, "sound": SOUNDS}
NUMPY = b"\x93NUMPY"
"""The first bytes of an array as `numpy.save` writes it."""
_MAGIC = (
    (b"\xff\xd8\xff", "image"),
    (b"\x89PNG", "image"),
    (b"GIF8", "image"),
    (b"BM", "image"),
    (b"II*\0", "image"),
    (b"MM\0*", "image"),
    (b"fLaC", "sound"),
    (b"OggS", "sound"),
    (b"ID3", "sound"),
    (b"\xff\xfb", "sound"),
    (b"RIFF", "sound"),
)
PNG_MODES = ("1", "L", "P", "RGB", "RGBA", "LA", "I;16")
SAMPLE = 20
"""So many values tell what a column holds."""


def workers() -> int:
    """Processors that this process may use: so many files are decoded at a time."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def kind_of(table: Table, name: str) -> Literal["image", "sound", "array"] | None:
    """What a column's values are: images, sounds, arrays; None for anything else. Opaque items are not judged here."""
    if table.arrow is None:
        return None
    column = table.column(name)
    if is_text(column.type):
        texts = [text for text in column.slice(0, 10 * SAMPLE).to_pylist() if text and text.strip()][:SAMPLE]
        for kind, extensions in EXTENSIONS.items():
            if texts and all(text.strip().lower().endswith(extensions) for text in texts):
                return kind
        return None
    if not (_is_bytes(column.type) or _is_file(column.type)):
        return None
    values = [value for value in column.slice(0, SAMPLE).to_pylist() if value is not None]
    kinds = {_kind_of_value(value) for value in values}
    return kinds.pop() if len(kinds) == 1 else None


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_file(kind: pa.DataType) -> bool:
    """Whether a column holds images or sounds as the `datasets` library keeps them (their bytes, or where they lie) or
    gives them (a sound's array and its rate)."""
    names = {field.name for field in kind} if pa.types.is_struct(kind) else set()
    return {"bytes", "path"} <= names or {"array", "sampling_rate"} <= names


def _kind_of_value(value: Any) -> Literal["image", "sound", "array"] | None:
    start, name = value, ""
    if isinstance(value, dict) and "array" in value:
        return "sound"
    if isinstance(value, dict):
        start, name = value["bytes"] or b"", (value["path"] or "").lower()
    if start.startswith(NUMPY):
        return "sound" if opened(start).ndim == 1 else "array"
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return "image"
    for magic, kind in _MAGIC:
        if start.startswith(magic):
            return kind  # type: ignore[return-value]
    return next((kind for kind, extensions in EXTENSIONS.items() if name.endswith(extensions)), None)


def values_of(table: Table, name: str, rows: Sequence[int] | np.ndarray) -> list[Any]:
    """The values of some rows, each as something that can be opened: a path, bytes, or the object of an opaque item."""
    rows = np.asarray(rows, dtype=np.int64)
    if table.arrow is None:
        return [opaque.part(table.items[int(row)], name) for row in rows]  # type: ignore[index]
    values = table.take(rows).column(name).to_pylist()
    return [_openable(value, table, int(row)) for value, row in zip(values, rows, strict=True)]


def _openable(value: Any, table: Table, row: int) -> Any:
    if isinstance(value, dict) and "array" not in value:
        value = value["bytes"] if value["bytes"] is not None else value["path"]
    if isinstance(value, str):
        return os.path.join(table.root(row), os.path.expanduser(value.strip()))
    return value


def opened(value: Any) -> Any:
    """A path or bytes as a file that a decoder reads; an array that was kept as bytes as the array."""
    if isinstance(value, bytes):
        file = io.BytesIO(value)
        return np.load(file, allow_pickle=False) if value.startswith(NUMPY) else file
    return value


def packed(value: Any) -> bytes:
    """An array, a tensor or a picture of Pillow as bytes that a decoder reads, or `opened` gives back."""
    file = io.BytesIO()
    if hasattr(value, "getbands"):
        value.save(file, "PNG" if value.mode in PNG_MODES else "TIFF")
    else:
        np.save(file, np.ascontiguousarray(value), allow_pickle=False)
    return file.getvalue()


def packed_column(values: Any) -> pa.Array:
    """Arrays or pictures, one a row, as a column."""
    return pa.array([packed(value) for value in values], pa.large_binary())


def is_media(values: Any) -> bool:
    """Whether `values` are arrays or pictures in memory, one a row."""
    if hasattr(values, "ndim"):
        return bool(values.ndim > 2)
    return (
        isinstance(values, list)
        and bool(values)
        and all(hasattr(value, "getbands") or getattr(value, "ndim", 0) > 1 for value in values)
    )
