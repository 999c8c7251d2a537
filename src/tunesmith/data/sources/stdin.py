"""Rows from standard input, CSV or JSON Lines: `-` in place of a file."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from tunesmith.data.sources import delimited, jsonl
from tunesmith.data.table import Table


def matches(source: Any) -> bool:
    """Whether `source` is the sign for standard input."""
    return isinstance(source, str | Path) and str(source) == "-"


def read(source: Any) -> dict[str, Table]:
    """Read standard input to its end; a first line that begins with `{` means JSON Lines."""
    with tempfile.TemporaryDirectory(prefix="tunesmith-stdin-") as folder:
        path = Path(folder) / "stdin"
        with open(path, "wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        with open(path, "rb") as file:
            is_json = file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")
        named = path.with_suffix(".jsonl" if is_json else ".csv")
        path.rename(named)
        tables: dict[str, Table] = (jsonl if is_json else delimited).read(named)
        return tables
