"""What is in the data, what is wrong with it and what to do, without a model: `tunesmith check DATA`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from tunesmith.assemble import accounts, opened
from tunesmith.assemble.leaks import GIVEAWAY, GROUPS
from tunesmith.assemble.rows import Objects, Rows, guessed, open_rows, read_tables, without_unreadable
from tunesmith.data import profile
from tunesmith.data.columns import Guess
from tunesmith.data.findings import Finding, findings
from tunesmith.data.items import Modality
from tunesmith.data.ledger import Ledger
from tunesmith.data.profile import Column
from tunesmith.data.table import Table
from tunesmith.errors import DataError, TunesmithError
from tunesmith.recipe.schema import Recipe

PLAIN_MODELS: dict[Modality, str] = {"image": "new:cnn", "sound": "new:cnn", "table": "new:mlp"}
"""What reads rows of each kind when no model is named."""
TOKENS = 512
"""What most encoders of text read at most."""
MOST_COLUMNS = 12


@dataclass(frozen=True)
class DataReport:
    """What `check DATA` found; printed, it fits on a screen."""

    source: str
    rows: int
    columns: tuple[Column, ...]
    reads: str
    """What is read and predicted, in a line; why that cannot be told, where it cannot."""
    labels: dict[str, int]
    ledger: Ledger | None
    """None where a fit would stop before it has a split."""
    cost: str
    findings: tuple[Finding, ...]
    next: str

    def as_json(self) -> dict[str, Any]:
        found = asdict(self) | {"ledger": None if self.ledger is None else self.ledger.as_json()}
        return {**found, "columns": [asdict(column) for column in self.columns]}

    def __str__(self) -> str:
        shown = ", ".join(f"{column.name} ({column.kind})" for column in self.columns[:MOST_COLUMNS])
        more = f" ... {len(self.columns) - MOST_COLUMNS} more" if len(self.columns) > MOST_COLUMNS else ""
        lines = [f"{self.source}: {self.rows:,} rows, {_number(self.columns)}: {shown}{more}", self.reads]
        if self.labels:
            few = list(self.labels.items())[:MOST_COLUMNS]
            rest = " ..." if len(self.labels) > len(few) else ""
            lines.append("labels, with all their rows: " + ", ".join(f"{name} {count:,}" for name, count in few) + rest)
        if self.ledger is not None:
            lines.append(str(self.ledger))
        lines += [self.cost] if self.cost else []
        lines.append(f"found: {len(self.findings) or 'nothing'}")
        lines += [f"  - {finding}" for finding in self.findings]
        return "\n".join([*lines, f"next: {self.next}"])


def data_report(recipe: Recipe, objects: Objects) -> DataReport:
    """Read the data of a recipe, whatever its model, and say what is in them; DataError only where they cannot be read.

    Rows without a value are left out here, whatever the recipe says of them: they are among what was found."""
    data = recipe.data
    clean = data.clean.model_copy(update={"missing": "drop"})
    recipe = recipe.model_copy(update={"data": data.model_copy(update={"clean": clean, "limits": {}})})
    tables = read_tables(recipe, objects)
    train = tables.get("", tables.get("train", next(iter(tables.values()))))
    guess, why = _guessed(recipe, train)
    found = [
        Finding("source", note) for note in dict.fromkeys(note for table in tables.values() for note in table.notes)
    ]
    found += findings(train, guess)
    rows: Rows | None = None
    if guess is not None:
        try:
            rows = open_rows(recipe, objects, lambda _modality: guess.modality, tables)
            rows = _read(recipe, objects, rows)
            found += [Finding("rows", note) for note in rows.notes if not note.startswith(GUESSED)]
        except TunesmithError as error:
            rows, found = None, [Finding("stops", str(error).replace("\n", " ")), *found]
    described = tuple(profile.describe_columns(train))
    reads = why if guess is None else _reads(guess, described)
    ledger = None if rows is None else accounts.used(rows)
    total = sum(table.num_rows for table in tables.values())
    source = ", ".join(dict.fromkeys(table.source for table in tables.values()))
    labels = {} if rows is None or rows.task.name == "regression" else _counts(rows)
    cost = "" if guess is None else _cost(train, guess)
    return DataReport(source, total, described, reads, labels, ledger, cost, tuple(found), _next(recipe, guess))


GUESSED = ("text:", "pair:", "table:", "image:", "sound:", "task:", "tensor:", GIVEAWAY, GROUPS)
"""How notes begin that say what was guessed, or what stands among the findings."""


def _number(columns: tuple[Column, ...]) -> str:
    return f"{len(columns)} column{'s' * (len(columns) != 1)}"


def _guessed(recipe: Recipe, train: Table) -> tuple[Guess | None, str]:
    """What is read and predicted, as text, images or sounds, else as a table; or why that cannot be told."""
    why = ""
    ways: tuple[Callable[[Modality], Modality], ...] = (lambda modality: modality, lambda _modality: "table")
    for reads in ways:
        try:
            return guessed(recipe, train, reads), ""
        except DataError as error:
            why = why or str(error)
    return None, why


def _read(recipe: Recipe, objects: Objects, rows: Rows) -> Rows:
    """The rows without files that cannot be read, and with images and sounds compared by what is in them."""
    if rows.modality not in ("image", "sound"):
        return rows
    model = recipe.model.model_copy(update={"name": PLAIN_MODELS[rows.modality]})
    _, encoder = opened.opened(recipe.model_copy(update={"model": model}), objects, rows)
    encoded = encoder.encode(rows.table, rows.inputs)
    rows = without_unreadable(rows, encoded, "drop")
    return accounts.compared(rows, encoded, recipe.data.clean)


def _reads(guess: Guess, described: tuple[Column, ...]) -> str:
    size = {column.name: column.mean_characters for column in described if column.kind == "text"}
    inputs = [f'"{name}"' + (f" ({size[name]:.0f} characters)" if size.get(name) else "") for name in guess.inputs]
    shown = ", ".join(inputs[:MOST_COLUMNS]) + (" ..." if len(inputs) > MOST_COLUMNS else "")
    targets = ", ".join(f'"{name}"' for name in guess.targets)
    return f"reads {guess.modality}: {shown}; predicts {targets} ({guess.task})"


def _counts(rows: Rows) -> dict[str, int]:
    """All rows of each label, whatever their part."""
    codes = rows.codes
    counts = codes.sum(0) if codes.ndim == 2 else np.bincount(codes[codes >= 0], minlength=len(rows.target.labels))
    return dict(zip(rows.target.labels, map(int, counts), strict=True))


def _cost(train: Table, guess: Guess) -> str:
    """What the size of texts means: about how many tokens there are, and how many rows most models would cut."""
    if guess.modality != "text" or train.arrow is None:
        return ""
    characters, words = np.zeros(train.num_rows), np.zeros(train.num_rows)
    for name in guess.inputs:
        values = pc.fill_null(train.column(name).cast("string"), "")
        characters += pc.utf8_length(values).to_numpy()
        # A word is about 1.3 tokens; scripts without blanks have about one for each character.
        blanks = pc.count_substring_regex(values, r"\s+").to_numpy() + 1
        wide = pc.count_substring_regex(values, r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]").to_numpy()
        words += 1.3 * blanks + wide
    long = int((words > TOKENS).sum())
    most = f"; {long:,} rows may be over {TOKENS}, which most models cut" if long else ""
    told = f"texts: {characters.mean():.0f} characters on average, {characters.max():,.0f} at most"
    return f"{told}; about {words.sum():,.0f} tokens an epoch{most}"


def _next(recipe: Recipe, guess: Guess | None) -> str:
    """The line to go on with, for the command line or, of data in memory, for Python."""
    source, target = (
        recipe.data.source,
        "" if recipe.data.target == "auto" or guess is None else ",".join(guess.targets),
    )
    model = "MODEL" if guess is None else PLAIN_MODELS.get(guess.modality, "MODEL")
    cost = "   (time, memory and disk of a fit with it)"
    if source.startswith("memory:"):
        asked = f', target="{target}"' if target else ""
        return (
            'tunesmith.check(data, target="COLUMN")'
            if guess is None
            else f'tunesmith.check(data, "{model}"{asked}){cost}'
        )
    if guess is None:
        return f"tunesmith check {source} --target COLUMN"
    return f"tunesmith check {source} --model {model}{' --target ' + target if target else ''}{cost}"
