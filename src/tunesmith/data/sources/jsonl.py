"""JSON: one object per line (.jsonl, .ndjson, .json), or one array of objects (.json)."""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tunesmith.data.records import Records
from tunesmith.data.table import Table
from tunesmith.data.text import encoding_of, has_extension, open_text
from tunesmith.errors import DataError, Problem

EXTENSIONS = (".jsonl", ".ndjson", ".json", ".jsonl.gz", ".ndjson.gz", ".json.gz")
BLOCK = 1 << 20
PROBLEMS_SHOWN = 5
BLANK = " \t\r\n"
GAP = re.compile(r"[ \t\r\n]*,?[ \t\r\n]*")
LONGEST_OBJECT = 16 << 20


def matches(source: object) -> bool:
    """Whether `source` is such a file."""
    return has_extension(source, EXTENSIONS)


def read(source: str | Path) -> dict[str, Table]:
    """Rows of JSON objects in bounded memory; a key that a row lacks is null, lists stay lists."""
    path = Path(source)
    encoding, notes = encoding_of(path)
    lines = array("q")
    records = Records(lambda row: f"{path.name}, row {row + 1} (line {lines[row] if row < len(lines) else '?'})")
    with open_text(path, encoding) as file:
        objects = _of_array if _is_array(file) else _of_lines
        for line, num_characters, value in objects(file, path.name):
            lines.append(line)
            records.add(value, num_characters)
    if not lines:
        raise DataError("the file is empty", where=path.name, remedy="write one JSON object per line")
    arrow = records.finish()
    return {"": Table(arrow=arrow, origin=((path.name, arrow.num_rows),), notes=notes)}


def _is_array(file: IO[str]) -> bool:
    first = ""
    while (letter := file.read(1)) and not first:
        first = letter.strip()
    file.seek(0)
    return first == "["


def _of_lines(file: IO[str], name: str) -> Iterator[tuple[int, int, dict[str, Any]]]:
    problems: list[Problem] = []
    for number, line in enumerate(file, start=1):
        if not line.strip(BLANK):
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            problems.append(_broken(f"{name}, line {number}", str(error), line))
        else:
            if isinstance(value, dict):
                yield number, len(line), value
                continue
            problems.append(_not_object(f"{name}, line {number}", value))
        if len(problems) == PROBLEMS_SHOWN:
            break
    if problems:
        raise DataError(problems)


def _of_array(file: IO[str], name: str) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """The objects of one array, decoded one by one from a window of text."""
    decode = json.JSONDecoder().raw_decode
    head = file.read(BLOCK)
    at = head.index("[") + 1
    window, line = head[at:], 1 + head.count("\n", 0, at)
    at = 0
    while True:
        end = GAP.match(window, at).end()  # type: ignore[union-attr]  # it matches the empty text too
        line += window.count("\n", at, end)
        at = end
        if window.startswith("]", at):
            return
        try:
            value, end = decode(window, at)
        except ValueError as error:
            block = file.read(BLOCK) if len(window) - at < LONGEST_OBJECT else ""
            if not block:
                raise DataError([_broken(f"{name}, line {line}", str(error), window[at : at + 200])]) from error
            window, at = window[at:] + block, 0
            continue
        if not isinstance(value, dict):
            raise DataError([_not_object(f"{name}, line {line}", value)])
        yield line, end - at, value
        line += window.count("\n", at, end)
        at = end


def _broken(where: str, error: str, text: str) -> Problem:
    start = text.strip()[:60]
    return Problem(f"this is not whole JSON ({error}): {start}", where, "correct it, or take it out")


def _not_object(where: str, value: Any) -> Problem:
    return Problem(
        f"a row is a {type(value).__name__}, not an object",
        where,
        'write each row as an object, like {"text": "...", "label": "..."}',
    )
