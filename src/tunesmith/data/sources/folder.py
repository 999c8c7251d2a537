"""A folder of data files: files named train, valid and test are the parts; others of one format follow each other."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from tunesmith.data.sources import known_extensions, open_source
from tunesmith.data.split import PART_OF
from tunesmith.data.table import Table, concat
from tunesmith.errors import DataError, Problem

SHARD = re.compile(rf"({'|'.join(PART_OF)})([-_.]?\d[\w-]*)?", re.IGNORECASE)
SAVED_BY_DATASETS = ("state.json", "dataset_dict.json")


def matches(source: object) -> bool:
    """Whether `source` is a folder that is not itself one saved data set."""
    if not isinstance(source, (str, Path)) or not Path(source).is_dir():
        return False
    return not any((Path(source) / name).is_file() for name in SAVED_BY_DATASETS)


def read(source: str | Path) -> dict[str, Table]:
    """The tables of a folder by part; a part may lie in several numbered files (`train-00000-of-00002.parquet`)."""
    folder = Path(source)
    files = sorted(
        path for path in folder.iterdir() if path.is_file() and _extension(path) and path.name[0] not in "._"
    )
    parts: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        if found := SHARD.fullmatch(path.name[: -len(_extension(path))]):
            parts[PART_OF[found[1].lower()]].append(path)
    if not parts:
        # A README.txt or SOURCE.txt beside the data is not data.
        parts[""] = [path for path in files if ".txt" not in _extension(path)] or files
    if not parts[next(iter(parts))]:
        known = ", ".join(known_extensions())
        raise DataError(
            "the folder holds no data file",
            where=str(folder),
            remedy=f"files that can be read: {known}; images; sounds",
        )
    tables = {part: _read(folder, paths) for part, paths in parts.items()}
    return {"": tables["train"]} if list(tables) == ["train"] else tables


def _extension(path: Path) -> str:
    fitting = [extension for extension in known_extensions() if path.name.lower().endswith(extension)]
    return max(fitting, key=len, default="")


def _read(folder: Path, paths: Sequence[Path]) -> Table:
    if len({_extension(path).removesuffix(".gz") for path in paths}) > 1:
        raise DataError(
            f"files of several formats: {', '.join(path.name for path in paths)}",
            where=str(folder),
            remedy="keep one format in the folder, or name the file to read",
        )
    tables = [open_source(path)[""] for path in paths]
    problems = [
        Problem(
            f"its columns are {', '.join(table.column_names)}; those of {tables[0].source} are "
            f"{', '.join(tables[0].column_names)}",
            where=table.source,
            remedy="give all files the same columns, or name the one file to read",
        )
        for table in tables
        if set(table.column_names) != set(tables[0].column_names)
    ]
    if problems:
        raise DataError(problems)
    return concat(tables)
