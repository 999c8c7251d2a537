"""Toy tables and the place of the real data for the tests of `tunesmith.data`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tunesmith.data.table import Table


@pytest.fixture
def real() -> Callable[[str], Path]:
    """The folder of a real data set beside the repository; skips where it is absent."""
    root = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").is_file())

    def folder(name: str) -> Path:
        found = root.parent / "shared" / "data" / name
        if not found.is_dir():
            pytest.skip(f"{name} is not beside the repository in shared/data")
        return found

    return folder


@pytest.fixture
def table_of() -> Callable[..., Table]:
    """A Table from columns."""

    def build(**columns: Any) -> Table:
        arrow = pa.table(columns)
        return Table(arrow=arrow, origin=(("toy.csv", arrow.num_rows),))

    return build
