"""What a row says, in a line; and the rows of a Run found again in its data, by their content."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tunesmith.assemble.rows import Objects, read_tables
from tunesmith.data.table import Table
from tunesmith.errors import TunesmithError
from tunesmith.run import Run

LONGEST = 80
MOST_INPUTS = 6


def in_a_line(table: Table, row: int, inputs: Sequence[str], modality: str) -> str:
    """The inputs of a row: the text, the name of the file, or some of the columns."""
    if table.arrow is None:
        return ""
    values = [(name, table.column(name)[row].as_py()) for name in inputs[:MOST_INPUTS]]
    shown = [str(value) if modality != "table" else f"{name}={value}" for name, value in values]
    text = " ".join(" | ".join("(bytes)" if text.startswith("b'") else text for text in shown).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def found_again(run: Run, contents: Sequence[str]) -> dict[str, str]:
    """Content -> what the row says, as far as the Run's files are still there and hold rows of this content."""
    recipe = run.recipe
    files = [name for name in (recipe.data.source, recipe.data.valid, recipe.data.test) if name is not None]
    if recipe.data.inputs == "auto" or not all(Path(name).exists() for name in files):
        return {}
    modality = run.read("data.json")["modality"]
    try:
        tables = [table.identified(recipe.data.inputs) for table in read_tables(recipe, Objects()).values()]
    except TunesmithError:
        return {}  # The files are others by now; what the rows say is only shown, not judged by.
    found = {}
    for table in tables:
        names = [f"{number:016x}" for number in table.hashes.tolist()] if table.arrow is not None else []
        for row in np.flatnonzero(np.isin(names, list(contents))):
            found[names[row]] = in_a_line(table, int(row), recipe.data.inputs, modality)
    return found
