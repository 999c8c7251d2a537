"""What the report is made of: sections of paragraphs, figures and tables, as plain data that the templates draw."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.delivery.reporting.drawings import Drawing

NUMBER = re.compile(r"[-+−]?\d|–|$")


@dataclass(frozen=True)
class Table:
    """`rows` under `headings`; the first cell of a row names it."""

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    closed: bool = False
    """Whether it is shown only when it is asked for."""

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers: they stand at the right."""
        return [
            bool(column) and all(NUMBER.match(row[column]) for row in self.rows) for column in range(len(self.headings))
        ]


@dataclass(frozen=True)
class Figure:
    """A drawing with its title, what it shows in a sentence, and the table of what is drawn; `name` is its id."""

    name: str
    title: str
    about: str
    drawing: Drawing
    table: Table


@dataclass(frozen=True)
class Section:
    """A part of the page; `name` is its id. `rows` are mistakes, `code` lines to copy."""

    name: str
    paragraphs: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    rows: Sequence[dict[str, Any]] = ()
    code: str = ""
    title: str = ""
    """The key of its title, if another than its name."""

    @property
    def heading(self) -> str:
        return f"section.{self.title or self.name}"


def number(value: float | None, digits: int = 3) -> str:
    """A number for people, – for none.

    >>> number(0.12345), number(12345.6), number(None), number(2e-5)
    ('0.123', '12,346', '–', '2e-05')
    """
    if value is None:
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if 0 < abs(value) < 10.0**-digits:
        return f"{value:.2g}"
    return f"{value:.{digits}f}"


def plain(value: Any) -> float | None:
    """A number that may stand with its interval."""
    found = value.get("value") if isinstance(value, Mapping) else value
    return None if found is None else float(found)


def count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
