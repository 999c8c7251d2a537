"""Columnar files: .parquet is streamed to a memory map; .arrow and .feather are mapped as they are."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tunesmith.data.spill import ROWS_PER_CHUNK, Spill, mapped
from tunesmith.data.table import Table
from tunesmith.data.text import has_extension
from tunesmith.errors import DataError

EXTENSIONS = (".parquet", ".arrow", ".feather")


def matches(source: object) -> bool:
    """Whether `source` is such a file."""
    return has_extension(source, EXTENSIONS)


def read(source: str | Path) -> dict[str, Table]:
    """Rows of a columnar file, in bounded memory; encoded categories become their values."""
    path = Path(source)
    try:
        arrow = _streamed(path) if path.suffix.lower() == ".parquet" else decoded(mapped(path))
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(
            f"the file is damaged or cut short ({reason})", where=path.name, remedy="copy or write the file again"
        ) from error
    return {"": Table(arrow=arrow, origin=((path.name, arrow.num_rows),))}


def decoded(table: pa.Table) -> pa.Table:
    """The same table with dictionary columns (categories) as plain values."""
    for index, column in enumerate(table.schema):
        if pa.types.is_dictionary(column.type):
            table = table.set_column(index, column.name, table.column(index).cast(column.type.value_type))
    return table


def _streamed(path: Path) -> pa.Table:
    spill = Spill()
    with pq.ParquetFile(path, memory_map=True) as file:
        for batch in file.iter_batches(ROWS_PER_CHUNK):
            spill.write(decoded(pa.Table.from_batches([batch]).replace_schema_metadata(None)))
    return spill.finish()
