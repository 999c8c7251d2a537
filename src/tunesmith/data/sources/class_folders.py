"""Folders of images or sounds: sub-folders are the classes, maybe below train, valid and test; or files alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from tunesmith.data.media import IMAGES, SOUNDS
from tunesmith.data.split import PART_OF
from tunesmith.data.table import Table
from tunesmith.errors import DataError

MEDIA = {"image": IMAGES, "sound": SOUNDS}


def matches(source: object) -> bool:
    """Whether `source` is an image, a sound, or a folder with images or sounds in it and no file of rows."""
    if not isinstance(source, (str, Path)):
        return False
    path = Path(source)
    if path.is_file():
        return _is_media(path.name)
    return path.is_dir() and next(_files(path), None) is not None and not _has_table(source)


def read(source: str | Path) -> dict[str, Table]:
    """A row for each file: its name from the folder on, and its class, the folder it lies in. Without folders of
    classes there is no class: such rows can be predicted."""
    root = Path(source)
    if root.is_file():
        return {"": _alone(root.parent, [root])}
    if not any(next(_files(folder), None) for folder in _folders(root)):
        return {"": _alone(root, list(_files(root)))}
    parts: dict[str, list[Path]] = {}
    for folder in _folders(root):
        if part := PART_OF.get(folder.name.lower()):
            parts.setdefault(part, []).append(folder)
    if not parts:
        return {"": _table(root, [root])}
    tables = {part: _table(root, folders) for part, folders in parts.items()}
    return {"": tables["train"]} if list(tables) == ["train"] else tables


def _table(root: Path, places: list[Path]) -> Table:
    names, labels, others, loose = [], [], 0, 0
    for place in places:
        loose += sum(1 for entry in place.iterdir() if entry.is_file() and _is_media(entry.name))
        for folder in _folders(place):
            for file in _files(folder, everything=True):
                if _is_media(file.name):
                    names.append(str(file.relative_to(root)))
                    labels.append(folder.name)
                else:
                    others += 1
    where = ", ".join(str(place) for place in places)
    kind, notes = _kind(names, where), []
    if others:
        notes.append(f"{where}: left out {others} files that are no {kind} by their names")
    if loose:
        notes.append(f"{where}: left out {loose} files that lie in no folder of a class")
    name = "/".join([root.resolve().name, *(place.name for place in places if place != root)])
    arrow = pa.table({kind: pa.array(names, pa.string()), "label": pa.array(labels, pa.string())})
    return Table(arrow, origin=((name, len(names)),), notes=tuple(notes))


def _alone(root: Path, files: list[Path]) -> Table:
    """A row for each file, without a class."""
    names = [str(file.relative_to(root)) for file in files]
    arrow = pa.table({_kind(names, str(root)): pa.array(names, pa.string())})
    return Table(arrow, origin=((root.resolve().name, len(names)),), roots=(str(root.absolute()),))


def _kind(names: list[str], where: str) -> str:
    kinds = {kind for kind, known in MEDIA.items() for name in names if name.lower().endswith(known)}
    if len(kinds) > 1:
        raise DataError("the folder holds images and sounds", where=where, remedy="keep one kind of file in a folder")
    return kinds.pop() if kinds else "image"


def _folders(place: Path) -> list[Path]:
    return sorted(entry for entry in place.iterdir() if entry.is_dir() and entry.name[0] not in "._")


def _files(folder: Path, *, everything: bool = False) -> Iterator[Path]:
    """The files below a folder, in the order of their names; only images and sounds unless everything is wanted."""
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()  # A link that leads back.
            continue
        seen.add(real)
        folders.sort()
        for name in sorted(names):
            if name[0] not in "._" and (everything or _is_media(name)):
                yield Path(place) / name


def _is_media(name: str) -> bool:
    return name.lower().endswith((*IMAGES, *SOUNDS))


def _has_table(source: str | Path) -> bool:
    """Whether a file of rows lies beside the folders: then it says what the files are."""
    from tunesmith.data.sources import known_extensions

    known = tuple(extension for extension in known_extensions() if ".txt" not in extension)
    return any(entry.is_file() and entry.name.lower().endswith(known) for entry in Path(source).iterdir())
