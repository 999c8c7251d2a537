"""What a column of a table holds for a model: numbers, moments in time, categories, or nothing that could be learnt."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data import profile
from tunesmith.data.profile import FEW_ROWS, ID_NAME, MOST_CATEGORIES
from tunesmith.data.table import Table, is_text

Kind = Literal["number", "moment", "category"]
MISSING = pa.array(["", "?", "na", "n/a", "#n/a", "nan", "nat", "null", "none", "-"])
"""Texts, in any case, that say that there is no value."""
INFINITE = r"^[+-]?inf(inity)?$"
MOMENT = r"^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?)?(Z|[+-]\d{2}:?\d{2})?$"


def is_missing(values: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Where there is no value: null, NaN, or a text that says so."""
    values = _plain(values)
    if is_text(values.type):
        words = pc.utf8_lower(values)
        return _flags(pc.fill_null(pc.is_in(words, MISSING), True)) | _flags(pc.is_null(values))
    return _flags(pc.is_null(values, nan_is_null=True))


def numbers(values: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """Numbers, also those written as text; NaN for what is none. Times of day and durations in their own unit."""
    values = _plain(values)
    if pa.types.is_time(values.type) or pa.types.is_duration(values.type):
        values = values.cast(pa.int32() if pa.types.is_time32(values.type) else pa.int64())
    found = profile.numbers(values) if not pa.types.is_boolean(values.type) else np.full(len(values), np.nan)
    if is_text(values.type):
        infinite = pc.fill_null(pc.match_substring_regex(pc.utf8_lower(values), INFINITE), False)
        return np.where(_flags(infinite), np.inf, found)
    return found


def moments(values: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """Seconds since 1970 of dates and times, also those written as ISO 8601 (a zone is not read); NaN for others."""
    values = _plain(values)
    if pa.types.is_date(values.type) or pa.types.is_timestamp(values.type):
        seconds = values.cast(pa.timestamp("s"), safe=False)
    elif is_text(values.type):
        # Made one length, "2024-01-31T12:30:00", because a parser takes one form.
        known = pc.if_else(pc.match_substring_regex(values, MOMENT), values, pa.scalar(None, values.type))
        day, hour, rest = (pc.utf8_slice_codeunits(known, start, stop) for start, stop in ((0, 10), (11, 16), (16, 19)))
        whole = pc.match_substring_regex(known, r"^.{10}[ T]")
        precise = pc.match_substring_regex(rest, "^:")
        clock = pc.binary_join_element_wise(hour, pc.if_else(precise, rest, ":00"), "")
        full = pc.binary_join_element_wise(day, pc.if_else(whole, clock, "00:00:00"), "T")
        seconds = pc.strptime(full, format="%Y-%m-%dT%H:%M:%S", unit="s", error_is_null=True)
    else:
        return np.full(len(values), np.nan)
    filled = pc.fill_null(seconds.cast(pa.int64()).cast(pa.float64()), np.nan)
    return np.array(filled.to_numpy(), np.float64)


def texts(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """The names of categories; true and false are written alike wherever they come from."""
    values = _plain(values)
    values = values if is_text(values.type) else values.cast(pa.string())
    lower = pc.utf8_lower(values)
    return pc.if_else(pc.is_in(lower, pa.array(["true", "false"])), lower, values)


def kind_of(values: pa.ChunkedArray) -> Kind:
    """What a column holds, by all values that are there."""
    present = ~is_missing(values)
    if present.any():
        if not np.isnan(numbers(values)[present]).any():
            return "number"
        if not np.isnan(moments(values)[present]).any():
            return "moment"
    return "category"


def why_not(table: Table, name: str) -> str:
    """Why a model of tables should not read a column, in a few words; "" where it should."""
    values = table.column(name)
    if pa.types.is_nested(values.type) or pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        return f"holds {values.type}"
    missing = is_missing(values)
    present = values.filter(pa.array(~missing))
    if not len(present):
        return "empty"
    distinct = int(pc.count_distinct(present).as_py())
    if distinct == 1 and not missing.any():
        return "always the same"
    found = numbers(present)
    # A price index or a body mass index is called like an id, and measures something.
    if ID_NAME.search(name) and (np.isnan(found).any() or np.array_equal(found, np.round(found))):
        return "names the rows"
    if not np.isnan(found).any():
        counts = len(found) >= FEW_ROWS and distinct == len(found) and found.max() - found.min() == len(found) - 1
        return "numbers the rows" if counts and np.array_equal(found, np.round(found)) else ""
    if (distinct * 2 <= len(present) and distinct <= MOST_CATEGORIES) or kind_of(present) == "moment":
        return ""
    words = np.flatnonzero(np.isnan(found))
    if len(words) * 2 < len(present):
        row = int(np.flatnonzero(~missing)[words[0]])
        return f'numbers, but "{values[row].as_py()}" in row {table.where(row).rpartition("row ")[2]}'
    return f"free text, {distinct} different in {len(present)} rows"


def _plain(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text without the blanks around it; a column of codes as what they stand for."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_null(values.type):
        values = values.cast(pa.string())
    return pc.utf8_trim_whitespace(values.cast(pa.string())) if is_text(values.type) else values


def _flags(values: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    return np.asarray(values.to_numpy(), bool)
