"""Data sets of the `datasets` library: in memory, saved to a folder, or named owner/name on the hub."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.sources import known_extensions
from tunesmith.data.sources.folder import SAVED_BY_DATASETS
from tunesmith.data.sources.parquet import decoded
from tunesmith.data.spill import ROWS_PER_CHUNK, Spill
from tunesmith.data.split import PART_OF
from tunesmith.data.table import Table
from tunesmith.errors import DataError
from tunesmith.extras import need

NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def matches(source: object) -> bool:
    """Whether `source` is such an object, such a folder, or a name that no file has."""
    if not isinstance(source, (str, Path)):
        library = sys.modules.get("datasets")
        return library is not None and isinstance(source, (library.Dataset, library.DatasetDict))
    path = Path(source)
    if path.is_dir():
        return any((path / name).is_file() for name in SAVED_BY_DATASETS)
    is_file_name = path.parent.is_dir() or str(source).lower().endswith(known_extensions())
    return bool(NAME.fullmatch(str(source))) and not path.exists() and not is_file_name


def read(source: Any) -> dict[str, Table]:
    """Tables by part, memory-mapped where `datasets` has them so; class numbers become class names."""
    name = str(source) if isinstance(source, (str, Path)) else type(source).__name__
    found = _load(source) if isinstance(source, (str, Path)) else source
    if not hasattr(found, "keys"):
        return {"": _table(found, name, ())}
    parts = {PART_OF.get(split, ""): split for split in found if split in PART_OF}
    left_out = [split for split in found if split not in parts.values()]
    if len(found) == 1:
        return {"": _table(found[next(iter(found))], name, ())}
    if not parts:
        raise DataError(
            f"no split is called train, valid or test: {', '.join(left_out)}",
            where=name,
            remedy="give one split of it, as in datasets.load_dataset(name)[split]",
        )
    notes = (f"{name}: left out {', '.join(left_out)}",) if left_out else ()
    return {part: _table(found[split], f"{name} [{split}]", notes) for part, split in parts.items()}


def _load(source: str | Path) -> Any:
    datasets = need("datasets", f"reading {source}")
    saved = Path(source).is_dir()
    try:
        return datasets.load_from_disk(str(source)) if saved else datasets.load_dataset(str(source))
    except Exception as error:  # the library, its network stack and its parsers raise errors of many unrelated kinds
        reason = " ".join(str(error).split("\n")[0].split())[:200]
        if saved:
            raise DataError(
                f"the saved data set cannot be read ({reason})", where=str(source), remedy="save it again"
            ) from None
        raise DataError(
            f"there is no such file, and no data set of that name could be loaded from the hub ({reason})",
            where=str(source),
            remedy="check the spelling and the network (HF_HUB_OFFLINE=1 allows only what was fetched before)",
        ) from None


def _table(dataset: Any, name: str, notes: tuple[str, ...]) -> Table:
    arrow = decoded(_arrow(dataset).replace_schema_metadata(None))
    for column, feature in dataset.features.items():
        names = getattr(getattr(feature, "feature", feature), "names", None)
        if names:
            arrow = _named(arrow, column, names)
            notes = (*notes, f'{name}: the numbers in "{column}" stand for {_listed(names)}')
    return Table(arrow=arrow, origin=((name, arrow.num_rows),), notes=notes)


def _arrow(dataset: Any) -> pa.Table:
    # A data set that was shuffled or filtered is an index over its table: only its iteration shows the right rows.
    if dataset._indices is None:
        return dataset.data.table
    spill = Spill()
    for chunk in dataset.with_format("arrow").iter(ROWS_PER_CHUNK):
        spill.write(chunk)
    return spill.finish()


def _named(arrow: pa.Table, column: str, names: Iterable[str]) -> pa.Table:
    words = pa.array(list(names), pa.string())
    chunks = [_words(chunk, words) for chunk in arrow.column(column).chunks]
    kind = pa.list_(pa.string()) if _is_list(arrow.schema.field(column).type) else pa.string()
    return arrow.set_column(arrow.column_names.index(column), column, pa.chunked_array(chunks, kind))


def _words(codes: pa.Array, words: pa.Array) -> pa.Array:
    if _is_list(codes.type):
        return pa.array([None if row is None else [words[code].as_py() for code in row] for row in codes.to_pylist()])
    return words.take(pc.if_else(pc.less(codes, 0), pa.scalar(None, codes.type), codes))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _listed(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
