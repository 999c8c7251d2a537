"""Columns that leak: one that gives the target away, one that names the groups that a split keeps apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pyarrow.compute as pc

from tunesmith.data import findings
from tunesmith.data.columns import Guess
from tunesmith.data.table import Table
from tunesmith.errors import DataError
from tunesmith.recipe.schema import Choice, Recipe

GIVEAWAY, GROUPS = "giveaway: ", "groups: "
"""How the notes begin."""
APART = ("group", "time", "kfold", "fold")
"""Splits that know groups, or are not by lot."""


def without_leaks(recipe: Recipe, guess: Guess, tables: Mapping[str, Table]) -> tuple[Guess, list[str]]:
    """The guess without columns that must not be read, and what a person should know before anything trains.

    A column that the split goes by is not read unless the recipe names it among the inputs. One that gives the target
    away is told, or left out with `data.clean.leaks = drop`. Groups are told where they may fall into several parts."""
    train = tables.get("", tables.get("train", next(iter(tables.values()))))
    if train.arrow is None:
        return guess, []
    notes, asked, given = [], recipe.data, len(tables) > 1
    split = asked.split if isinstance(asked.split, Choice) else Choice(name="hash")
    by = split.options.get("by")
    if guess.modality == "table" and asked.inputs == "auto" and split.name != "time" and by in guess.inputs:
        guess = replace(guess, inputs=tuple(name for name in guess.inputs if name != by))
        notes.append(f'{GROUPS}"{by}" names them and is not read')
    if guess.modality == "table":
        for found in findings.giveaways(train, guess):
            if asked.clean.leaks == "drop":
                notes.append(f"{GIVEAWAY}{found.what}; it is not read")
                guess = replace(guess, inputs=tuple(name for name in guess.inputs if name != found.column))
            else:
                notes.append(f"{GIVEAWAY}{found}, or --set data.clean.leaks=drop")
        if not guess.inputs:
            what = f"every column gives {' and '.join(guess.targets)} away, and data.clean.leaks = drop leaves none"
            raise DataError(what, where=train.source, remedy="name data.inputs, or keep them")
    if split.name not in APART:
        others = [table for part, table in tables.items() if table is not train]
        notes += [
            f"{GROUPS}{found}"
            for found in findings.groups(train, guess)
            if not given or not found.column or any(_shared(train, other, found.column) for other in others)
        ]
    return guess, notes


def _shared(train: Table, other: Table, name: str) -> bool:
    """Whether a value of a column is in both tables."""
    if name not in other.column_names:
        return False
    values = train.column(name)
    return bool(pc.any(pc.is_in(other.column(name).cast(values.type), value_set=values.combine_chunks())).as_py())
