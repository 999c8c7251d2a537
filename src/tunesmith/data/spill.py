"""Rows that arrive in chunks become one Arrow table: in memory while small, memory-mapped from disk beyond that."""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import shutil
import tempfile
from pathlib import Path

import pyarrow as pa

from tunesmith.errors import MachineError

ROWS_PER_CHUNK = 50_000
CHARACTERS_PER_CHUNK = 8 << 20
IN_MEMORY_BYTES = 64 << 20

_number = itertools.count()


class Spill:
    """Collects chunks in order. Their schemas may grow: a new column, nulls that become text, whole numbers that
    become fractions. Chunks of one schema share one file; nothing outlives the process."""

    def __init__(self) -> None:
        self._held: list[pa.Table] = []
        self._held_bytes = 0
        self._paths: list[Path] = []
        self._writer: pa.RecordBatchFileWriter | None = None
        self._schema: pa.Schema | None = None

    def write(self, chunk: pa.Table) -> None:
        """Add rows; MachineError when the temporary folder is full."""
        if self._schema is not None and chunk.schema != self._schema:
            self._flush()
            self._close()
        self._schema = chunk.schema
        self._held.append(chunk)
        self._held_bytes += chunk.nbytes
        if self._held_bytes > IN_MEMORY_BYTES or (self._writer is not None and self._held_bytes > IN_MEMORY_BYTES // 8):
            self._flush()

    def finish(self) -> pa.Table:
        """All rows, as one table."""
        if not self._paths:
            return concat(self._held)
        self._flush()
        self._close()
        return concat([_mapped(path) for path in self._paths])

    def _flush(self) -> None:
        try:
            for chunk in self._held:
                if self._writer is None:
                    self._paths.append(_folder() / f"{next(_number)}.arrow")
                    self._writer = pa.ipc.new_file(str(self._paths[-1]), chunk.schema)
                self._writer.write_table(chunk)
        except OSError as error:
            raise _disk_full(error) from error
        self._held, self._held_bytes = [], 0

    def _close(self) -> None:
        try:
            if self._writer is not None:
                self._writer.close()
        except OSError as error:
            raise _disk_full(error) from error
        self._writer = None


def concat(tables: list[pa.Table]) -> pa.Table:
    """One table above the other without copying; a column that one of them lacks is null there."""
    return pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})


def mapped(path: Path) -> pa.Table:
    """An Arrow IPC file, read through a memory map: its rows cost no memory until they are looked at."""
    with pa.memory_map(str(path)) as file:
        try:
            return pa.ipc.open_file(file).read_all()
        except pa.ArrowInvalid:
            file.seek(0)
            return pa.ipc.open_stream(file).read_all()


def _mapped(path: Path) -> pa.Table:
    table = mapped(path)
    # Unlinked at once where the system lets a mapped file go, so that even a killed process leaves nothing behind.
    with contextlib.suppress(OSError):
        path.unlink()
    return table


@functools.cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="tunesmith-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _disk_full(error: OSError) -> MachineError:
    return MachineError(
        f"could not keep the table in {tempfile.gettempdir()}: {error.strerror or error}",
        remedy="free some space there, or name a folder on another disk in the environment variable TMPDIR",
    )
