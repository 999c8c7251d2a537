"""Arrays on disk: .npz files (x and y, or x_train, y_train, x_test ...), and images with labels in the idx format."""

from __future__ import annotations

import gzip
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tunesmith.data.media import packed_column
from tunesmith.data.split import PART_OF
from tunesmith.data.table import Table
from tunesmith.data.text import has_extension
from tunesmith.errors import DataError

EXTENSIONS = (".npz",)
INPUTS = ("x", "images", "image", "data", "features", "inputs", "samples")
TARGETS = ("y", "labels", "label", "target", "targets", "classes")
IDX = re.compile(r"(.*?)[-_.]?(images?|labels?)[-.]idx[13][-.]ubyte(\.gz)?", re.IGNORECASE)
"""`train-images-idx3-ubyte.gz`, `t10k-labels.idx1-ubyte`, as MNIST and its kin are kept."""
IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def matches(source: object) -> bool:
    """Whether `source` is such a file, or a folder with idx files."""
    if has_extension(source, EXTENSIONS):
        return True
    if not isinstance(source, (str, Path)):
        return False
    path = Path(source)
    return bool(IDX.fullmatch(path.name)) or (path.is_dir() and bool(_idx_files(path)))


def read(source: str | Path) -> dict[str, Table]:
    """The rows of each part: an image (or a row of numbers) and its label."""
    path = Path(source)
    if has_extension(source, EXTENSIONS):
        return _npz(path)
    files = _idx_files(path if path.is_dir() else path.parent)
    if not path.is_dir():
        stem = IDX.fullmatch(path.name)[1]  # type: ignore[index]
        files = {stem: files.get(stem, {})}
    tables = {}
    for stem, pair in files.items():
        if set(pair) != {"image", "label"}:
            lacking = "labels" if "image" in pair else "images"
            what = f"has no file of {lacking} beside it"
            there = next(iter(pair.values()), path)
            raise DataError(what, where=str(there), remedy="put both files into one folder, as MNIST has them")
        part = "test" if stem.lower() in ("t10k", "test") else PART_OF.get(stem.lower(), "")
        tables[part] = _table(_idx(pair["image"]), _idx(pair["label"]), pair["image"].name)
    return _alone(tables)


def _alone(tables: dict[str, Table]) -> dict[str, Table]:
    """One part alone is all there is, whatever it is called."""
    return {"": next(iter(tables.values()))} if len(tables) == 1 else tables


def _npz(path: Path) -> dict[str, Table]:
    try:
        with np.load(path, allow_pickle=False) as opened:
            arrays = {name: opened[name] for name in opened.files}
    except FileNotFoundError:
        raise DataError("there is no such file", where=str(path), remedy="check the path") from None
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        reason = "it holds Python objects, which can run code when opened" if "pickle" in str(error) else str(error)
        remedy = "save plain arrays with numpy.savez(file, x=..., y=...)"
        raise DataError(f"cannot be read: {reason.splitlines()[0]}", where=path.name, remedy=remedy) from None
    tables = {}
    for part in ("", *PART_OF):
        ends = [f"_{part}", f"-{part}"] if part else [""]
        x, y = (_of(arrays, names, ends) for names in (INPUTS, TARGETS))
        if x is not None and y is not None:
            tables[PART_OF.get(part, "")] = _table(x, y, f"{path.name}{f' [{part}]' * bool(part)}")
    if not tables:
        what = f"its arrays are {', '.join(arrays)}, which do not tell inputs from targets"
        raise DataError(what, where=path.name, remedy="call them x and y, or x_train, y_train, x_test, y_test")
    return _alone(tables)


def _of(arrays: dict[str, np.ndarray], names: tuple[str, ...], ends: list[str]) -> np.ndarray | None:
    lower = {name.lower(): array for name, array in arrays.items()}
    return next((lower[f"{name}{end}"] for name in names for end in ends if f"{name}{end}" in lower), None)


def _idx_files(folder: Path) -> dict[str, dict[str, Path]]:
    """Stem -> "image" and "label" -> file."""
    found: dict[str, dict[str, Path]] = {}
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        if name := IDX.fullmatch(entry.name):
            found.setdefault(name[1], {})[name[2].lower().rstrip("s")] = entry
    return found


def _idx(path: Path) -> np.ndarray:
    """The array of one file: two zero bytes, the type, the number of dimensions, their sizes, the values."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        kind, num_sizes = IDX_TYPES[raw[2]], raw[3]
        sizes = np.frombuffer(raw, ">u4", num_sizes, 4)
        found: np.ndarray = np.frombuffer(raw, kind, offset=4 + 4 * num_sizes).reshape(
            tuple(int(size) for size in sizes)
        )
    except (OSError, EOFError, KeyError, IndexError, ValueError) as error:
        what = f"is no idx file, damaged or cut short ({type(error).__name__})"
        raise DataError(what, where=path.name, remedy="fetch the file again") from None
    return found.astype(found.dtype.newbyteorder("="))


def _table(inputs: np.ndarray, targets: np.ndarray, name: str) -> Table:
    if len(inputs) != len(targets):
        what = f"there are {len(inputs)} inputs and {len(targets)} targets"
        raise DataError(what, where=name, remedy="give one target per input")
    columns = columns_of_arrays(inputs)
    targets = targets.reshape(len(targets), -1)
    names = ["label"] if targets.shape[1] == 1 else [f"label_{number + 1}" for number in range(targets.shape[1])]
    columns |= {name: pa.array(targets[:, number]) for number, name in enumerate(names)}
    return Table(pa.table(columns), origin=((name, len(inputs)),))


def columns_of_arrays(inputs: Any) -> dict[str, pa.Array]:
    """An array of images (rows, height, width[, channels]) as one column, of numbers (rows, features) as several."""
    if inputs.ndim > 2:
        return {"image": packed_column(inputs)}
    rows = inputs.reshape(len(inputs), -1)
    return {f"input_{number + 1}": pa.array(rows[:, number]) for number in range(rows.shape[1])}
