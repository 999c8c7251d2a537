"""Where rows come from: one file per kind of source, each with `matches(source)` and `read(source)`."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from tunesmith import plugins
from tunesmith.data.table import Table
from tunesmith.errors import DataError, nearest


def open_source(source: Any) -> dict[str, Table]:
    """Read a file, a folder, a data set's name or an object in memory into tables by part.

    The keys are "train", "valid" and "test" where the source tells them, else "" for its one table.
    """
    source = os.path.expanduser(source) if isinstance(source, (str, Path)) else source
    for module in _modules():
        if module.matches(source):
            tables: dict[str, Table] = module.read(source)
            _require_rows(tables)
            return {part: _rooted(table, source) for part, table in tables.items()}
    raise _unknown(source)


def _rooted(table: Table, source: Any) -> Table:
    """The Table with the folder that files named in it are looked for in: that of the source, if it is a file."""
    if table.roots or not isinstance(source, (str, Path)):
        return table
    root = source if os.path.isdir(source) else os.path.dirname(source)
    return replace(table, roots=(os.path.abspath(root),) * len(table.origin))


def known_extensions() -> tuple[str, ...]:
    """Every extension that some source reads."""
    return tuple(extension for module in _modules() for extension in getattr(module, "EXTENSIONS", ()))


def _modules() -> list[ModuleType]:
    return [sys.modules[plugins.get("source", name).__module__] for name in plugins.names("source")]


def _require_rows(tables: dict[str, Table]) -> None:
    for table in tables.values():
        if table.num_rows == 0:
            raise DataError("there are no rows", where=table.source, remedy="give at least a few rows of each class")


def _unknown(source: Any) -> DataError:
    known = "one of: " + ", ".join(known_extensions())
    if not isinstance(source, (str, Path)):
        return DataError(
            f"cannot read rows from a {type(source).__name__}",
            remedy="give a path, a pandas DataFrame, a dict of columns, a list of dicts, a tuple (texts, labels), a "
            "datasets.Dataset, or a torch Dataset with __len__ and __getitem__",
        )
    path = Path(source)
    if path.exists():
        what = f'the extension "{path.suffix}" is not known' if path.suffix else "the file has no extension"
        return DataError(what, where=str(path), remedy=known)
    if not path.parent.is_dir():
        return DataError(f'there is no folder "{path.parent}"', where=str(path), remedy="check the path")
    files = [
        entry.name
        for entry in path.parent.iterdir()
        if entry.is_dir() or entry.name.lower().endswith(known_extensions())
    ]
    remedy = nearest(path.name, files) if files else "the folder holds no file that can be read"
    return DataError(f'there is no file "{path.name}" in {path.parent.resolve()}', remedy=remedy)
