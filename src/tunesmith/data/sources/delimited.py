"""Delimited text: .csv, .tsv, .txt and .data files whose encoding and separator are found out; every value is text."""

from __future__ import annotations

import contextlib
import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.spill import CHARACTERS_PER_CHUNK, ROWS_PER_CHUNK, Spill
from tunesmith.data.table import Table
from tunesmith.data.text import encoding_of, has_extension, open_text
from tunesmith.errors import DataError, Problem

if TYPE_CHECKING:
    import _csv

EXTENSIONS = (".csv", ".tsv", ".txt", ".data", ".csv.gz", ".tsv.gz", ".txt.gz")
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
NO_SEPARATOR = "\x1f"
"""Of a file of one column: a control character that no text holds."""
SAMPLE_RECORDS = 50
LONGEST_FIELD = 16 << 20
PROBLEMS_SHOWN = 5
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")


@dataclass(frozen=True)
class _Form:
    """How a file is written; `quoted` is off where a double quote is a letter like any other."""

    path: Path
    encoding: str
    separator: str
    quoted: bool = True


class _StrayQuotes(Exception):
    """The quotes of a tab-separated file do not enclose fields."""


def matches(source: object) -> bool:
    """Whether `source` is such a file."""
    return has_extension(source, EXTENSIONS)


def read(source: str | Path) -> dict[str, Table]:
    """Rows of delimited text in bounded memory: header first, "" is null, blanks around values are dropped."""
    path = Path(source)
    encoding, notes = encoding_of(path)
    with _long_fields():
        form = _Form(path, encoding, _separator(path, encoding))
        try:
            arrow = _load(form)
        except (DataError, _StrayQuotes) as error:
            if form.separator not in ("\t", NO_SEPARATOR):
                raise
            arrow = _load_unquoted(form, error)
    if numbers := [name for name in arrow.column_names if NUMBER.fullmatch(name)]:
        notes += (
            f"{path.name}: columns are called {', '.join(numbers[:5])}; if those are values, a header is missing: add "
            "a line with names",
        )
    return {"": Table(arrow=arrow, origin=((path.name, arrow.num_rows),), notes=notes)}


def _load_unquoted(form: _Form, error: Exception) -> pa.Table:
    """Files of tabs or of one column are often written without quoting; if that fails too, the first error counts."""
    try:
        return _load(_Form(form.path, form.encoding, form.separator, quoted=False))
    except DataError as second:
        raise (error if isinstance(error, DataError) else second) from None


def _load(form: _Form) -> pa.Table:
    records = _records(form)
    header = _header(form, next(records, (0, []))[1])
    spill = Spill()
    for rows in _chunks(form, records, header):
        columns = zip(*rows, strict=True)
        spill.write(pa.table([_array(values) for values in columns], names=header))
    table = spill.finish()
    if not table.num_columns:
        raise DataError("there is a header and no rows", where=form.path.name, remedy="add rows below the header")
    return table


def _array(values: tuple[str, ...]) -> pa.Array:
    trimmed = pc.utf8_trim(pa.array(values, pa.string()), characters=" \t")
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)


def _records(form: _Form) -> Iterator[tuple[int, list[str]]]:
    """The records that are not blank, each with the line it begins on."""
    with open_text(form.path, form.encoding) as file:
        reader = _reader(file, form.separator, quoted=form.quoted)
        line = 1
        try:
            for fields in reader:
                if fields:
                    yield line, fields
                line = reader.line_num + 1
        except csv.Error as error:
            raise DataError(
                f"the quotes are broken ({error})",
                where=f"{form.path.name}, line {line}",
                remedy='enclose a value in double quotes on both sides and double those inside it: "He said ""no"""',
            ) from error


def _reader(file: Iterable[str], separator: str, *, quoted: bool = True, strict: bool = True) -> _csv.Reader:
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    return csv.reader(file, delimiter=separator, quoting=quoting, strict=strict, skipinitialspace=True)


def _chunks(form: _Form, records: Iterator[tuple[int, list[str]]], header: list[str]) -> Iterator[list[list[str]]]:
    """Whole rows in groups of bounded size; DataError after the last with the first broken ones."""
    rows: list[list[str]] = []
    problems: list[Problem] = []
    num_characters = 0
    for number, (line, fields) in enumerate(records, start=1):
        if len(fields) != len(header):
            problems.append(_broken(form, number, line, fields, header))
            if len(problems) == PROBLEMS_SHOWN:
                break
            continue
        if form.separator == "\t" and form.quoted and any("\t" in field and "\n" in field for field in fields):
            raise _StrayQuotes
        rows.append(fields)
        num_characters += sum(map(len, fields))
        if len(rows) == ROWS_PER_CHUNK or num_characters > CHARACTERS_PER_CHUNK:
            yield rows
            rows, num_characters = [], 0
    if problems:
        raise DataError(problems)
    if rows:
        yield rows


def _broken(form: _Form, number: int, line: int, fields: list[str], header: list[str]) -> Problem:
    many = len(fields) > len(header)
    word = SEPARATORS[form.separator]
    return Problem(
        f"expected {_count(len(header), 'field')} ({', '.join(header)}) and found {len(fields)}: {_short(fields)}",
        where=f"{form.path.name}, row {number} (line {line})",
        remedy=f"put double quotes around a value that holds a {word}" if many else "complete the row or take it out",
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _short(fields: list[str]) -> str:
    text = " | ".join(fields)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _header(form: _Form, cells: list[str]) -> list[str]:
    name = form.path.name
    if not cells:
        raise DataError("the file is empty", where=name, remedy="give a file with a header line and rows")
    cells = [cell.strip() for cell in cells]
    if all(NUMBER.fullmatch(cell) for cell in cells):
        raise DataError(
            f"the header seems missing: the first line holds only numbers ({', '.join(cells[:5])})",
            where=name,
            remedy="put a first line with the names of the columns",
        )
    header = [cell or f"column_{index}" for index, cell in enumerate(cells, start=1)]
    if twice := [cell for index, cell in enumerate(header) if cell in header[:index]]:
        raise DataError(
            [
                Problem(f'two columns are called "{cell}"', name, "give each column its own name")
                for cell in dict.fromkeys(twice)
            ]
        )
    return header


def _separator(path: Path, encoding: str) -> str:
    """The separator in the header by which most of the first records have as many fields as the header.

    Ties go to the one the extension promises, then to the one that gives more fields. A header without any
    separator means one column.
    """
    promised = "\t" if ".tsv" in path.name.lower() else ","
    best = (-1.0, False, 1, NO_SEPARATOR)
    for separator in SEPARATORS:
        with open_text(path, encoding) as file:
            records = list(islice(_sampled(file, separator), SAMPLE_RECORDS + 1))
        if not records or len(records[0]) == 1:
            continue
        agreeing = sum(len(record) == len(records[0]) for record in records[1:])
        share = agreeing / max(1, len(records) - 1)
        best = max(best, (share, separator == promised, len(records[0]), separator))
    return best[-1]


def _sampled(file: Iterable[str], separator: str) -> Iterator[list[str]]:
    with contextlib.suppress(csv.Error):
        yield from (record for record in _reader(file, separator, strict=False) if record)


@contextlib.contextmanager
def _long_fields() -> Iterator[None]:
    """Whole documents fit into one field; a quote that is never closed still does not swallow a whole large file."""
    before = csv.field_size_limit(LONGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(before)
