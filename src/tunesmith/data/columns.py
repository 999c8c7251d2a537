"""Which columns are the text and the target, and which task that makes, when nobody said: by name, then by content."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data import features
from tunesmith.data import items as opaque
from tunesmith.data.items import Modality
from tunesmith.data.media import kind_of
from tunesmith.data.profile import ID_NAME, Column, describe_columns, missing_rows, numbers
from tunesmith.data.table import Table
from tunesmith.errors import DataError, Problem, nearest

CLASS_NAMES = (
    "label",
    "labels",
    "target",
    "class",
    "category",
    "intent",
    "sentiment",
    "emotion",
    "topic",
    "标签",
    "类别",
)
TARGET_NAMES = (*CLASS_NAMES, "y", "score", "rating", "stars", "similarity", "output", "answer")
TEXT_NAMES = (
    *(
        "text",
        "sentence",
        "message",
        "review",
        "content",
        "question",
        "tweet",
        "body",
        "comment",
        "document",
        "utterance",
    ),
    *("query", "description", "abstract", "headline", "title", "文本", "内容", "评论", "句子", "标题"),
)
PAIRS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("sentence_1", "sentence_2"),
    ("sentence_a", "sentence_b"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "passage"),
    ("question", "context"),
    ("text_a", "text_b"),
    ("text1", "text2"),
    ("query", "passage"),
    ("query", "document"),
)
NOT_TEXT = re.compile(r"(^|[\W_])(url|link|date|time|timestamp|file|path|split)$", re.IGNORECASE)
MEDIA_NAMES = (
    "image",
    "img",
    "picture",
    "photo",
    "audio",
    "sound",
    "file",
    "filename",
    "file_name",
    "path",
    "filepath",
)
FEW_NUMBERS = 20


@dataclass(frozen=True)
class Guess:
    """The columns to read and to predict, the task, and one sentence for each thing that was guessed."""

    inputs: tuple[str, ...]
    target: str | tuple[str, ...]
    task: str
    notes: tuple[str, ...]
    modality: Modality = "text"

    @property
    def targets(self) -> tuple[str, ...]:
        """The target columns, also where there is one."""
        return (self.target,) if isinstance(self.target, str) else self.target


def guess(
    table: Table,
    *,
    inputs: Sequence[str] | None = None,
    target: str | Sequence[str] | None = None,
    task: str | None = None,
    modality: Modality | None = None,
) -> Guess:
    """Fill in what is not given; DataError with the columns and the line to write where that cannot be told.

    A column of few different texts is never taken as an input beside the text: it may give the target away. What a
    row is, if not told, the columns tell: images or sounds where a column holds them, else texts.
    """
    _require(table, [*(inputs or ()), *([target] if isinstance(target, str) else target or ())])
    columns = _columns(table) if inputs is None or target is None else []
    taken = tuple(inputs or ())
    if target is None:
        target = _target(table, [column for column in columns if column.name not in taken])
    target = target if isinstance(target, str) else tuple(target)
    targets = (target,) if isinstance(target, str) else target
    modality = modality or modality_of(table, taken, targets)
    if inputs is None:
        taken = _inputs(table, [column for column in columns if column.name not in targets], targets, modality)
    told, reason = (task, "") if task else _task(table, targets)
    notes = [_told(table, taken, targets, told, modality)] if columns else []
    if reason:
        notes.append(f"task: {told} ({reason})")
    return Guess(taken, target, told, tuple(notes), modality)


def modality_of(table: Table, inputs: Sequence[str], targets: Sequence[str] = ()) -> Modality:
    """What a row is by its columns: an image or a sound where one of them holds these, a tensor where it is an item
    that is no text, else texts."""
    if table.arrow is None:
        return opaque.modality_of(table.items, [name for name in inputs or table.column_names if name not in targets])
    kinds = {kind_of(table, name) for name in inputs or table.column_names if name not in targets}
    found = [kind for kind in ("image", "array", "sound") if kind in kinds]
    return "text" if not found else "sound" if found == ["sound"] else "image"


def _columns(table: Table) -> list[Column]:
    """The columns as they are, except that an opaque source is not read for a guess: its names must tell."""
    if table.arrow is None:
        return [Column(name, "opaque", 0, 0, 0.0) for name in table.column_names]
    return describe_columns(table)


def _require(table: Table, names: Sequence[str]) -> None:
    problems = [
        Problem(f'there is no column "{name}"', table.source, nearest(name, table.column_names))
        for name in names
        if name not in table.column_names
    ]
    if problems:
        raise DataError(problems)


def _target(table: Table, columns: Sequence[Column]) -> str:
    by_name = [column for name in TARGET_NAMES for column in columns if _plain_name(column) == name]
    by_end = [
        column
        for name in TARGET_NAMES
        for column in columns
        if _words(column)[-1:] == [name] and column.kind not in ("text", "empty")
    ]
    if by_name or by_end:
        return (by_name or by_end)[0].name
    others = [column for column in columns if _plain_name(column) not in TEXT_NAMES and not _is_id(column)]
    few = [column for column in others if column.kind in ("category", "list") or _few_numbers(column)]
    candidates = few or [column for column in others if column.kind == "number"]
    if len(candidates) == 1:
        return candidates[0].name
    example = (candidates or others or list(columns) or [Column("NAME", "", 0, 0, 0.0)])[0].name
    raise _ambiguous(table, columns, "the target", f'--target "{example}"')


def _inputs(table: Table, columns: Sequence[Column], targets: Sequence[str], modality: Modality) -> tuple[str, ...]:
    if table.arrow is None:
        return tuple(name for name in table.column_names if name not in targets)
    if modality == "table":
        return _features(table, [column.name for column in columns])
    if modality != "text":
        return _media(table, columns, modality)
    # Names of pictures and sounds are no texts.
    columns = [column for column in columns if kind_of(table, column.name) is None]
    named = {_plain_name(column): column.name for column in reversed(columns) if column.kind in ("text", "category")}
    for first, second in PAIRS:
        if first in named and second in named:
            return (named[first], named[second])
    for name in TEXT_NAMES:
        if name in named:
            return (named[name],)
    texts = [column for column in columns if column.kind == "text" and not _is_id(column)]
    texts = texts or [column for column in columns if column.kind == "category" and not _is_id(column)][:2]
    texts = sorted(texts, key=lambda column: -column.mean_characters)
    free = texts and texts[0].kind == "text"
    if len(texts) == 1 or (free and texts[0].mean_characters >= 2 * texts[1].mean_characters):
        return (texts[0].name,)
    if not texts:
        raise DataError(
            "no column holds text" + _listed(columns),
            where=table.source,
            remedy="give a column of texts, or say which columns to read with --set 'data.inputs=[\"NAME\"]'",
        )
    example = texts[0].name
    raise _ambiguous(table, columns, "the text", f"--set 'data.inputs=[\"{example}\"]'")


def _media(table: Table, columns: Sequence[Column], modality: Modality) -> tuple[str, ...]:
    """The one column of images or sounds; among several the one that is called so."""
    wanted = ("image", "array") if modality == "image" else (modality, "array")
    found = [column for column in columns if kind_of(table, column.name) in wanted]
    named = [column for name in MEDIA_NAMES for column in found if _plain_name(column) == name]
    if len(found) == 1 or named:
        return ((found if len(found) == 1 else named)[0].name,)
    if not found:
        what = f"no column holds {modality}s: names of files, bytes or arrays{_listed(columns)}"
        raise DataError(what, where=table.source, remedy=f"give a column of {modality}s, or another model")
    raise _ambiguous(table, columns, f"the {modality}", f"--set 'data.inputs=[\"{found[0].name}\"]'")


def _features(table: Table, names: Sequence[str]) -> tuple[str, ...]:
    """Every column that can tell something: no names of rows, no free texts, nothing empty or always the same."""
    reasons = {name: features.why_not(table, name) for name in names}
    found = tuple(name for name, reason in reasons.items() if not reason)
    if not found:
        listed = "".join(f'\n    "{name}": {reason}' for name, reason in reasons.items())
        what = f"no column holds numbers, dates or categories that a model of tables could read{listed}"
        raise DataError(
            what, where=table.source, remedy="say which columns to read with --set 'data.inputs=[\"NAME\"]'"
        )
    return found


def _task(table: Table, targets: Sequence[str]) -> tuple[str, str]:
    """The task and the reason for it in a few words."""
    if len(targets) > 1:
        return "multilabel", f"{len(targets)} label columns"
    name = targets[0]
    values = table.column(name)
    if pa.types.is_nested(values.type):
        return "multilabel", "each row has a list of labels"
    found = numbers(values)
    found = found[~np.isnan(found)]
    if found.size * 2 <= table.num_rows - missing_rows(table, [name]).size:
        return "classification", f"{pc.count_distinct(values).as_py()} different values"
    distinct = np.unique(found)
    if np.any(distinct != np.round(distinct)):
        return "regression", "the values are numbers with a fraction"
    if distinct.size <= FEW_NUMBERS:
        return "classification", f"{distinct.size} different numbers"
    if _are_codes(name, distinct, found.size):
        return "classification", f'the numbers {distinct[0]:.0f} to {distinct[-1]:.0f} in "{name}" are class codes'
    return "regression", f"{distinct.size} different numbers"


def _are_codes(name: str, distinct: np.ndarray, num_rows: int) -> bool:
    """Whether whole numbers without a gap, from 0 or 1, under the name of a label, are numbers of classes."""
    without_gap = distinct[0] in (0, 1) and distinct[-1] - distinct[0] == distinct.size - 1
    return bool(
        without_gap and num_rows >= 2 * distinct.size and _words_of(name)[-1:] and _words_of(name)[-1] in CLASS_NAMES
    )


def _told(table: Table, inputs: Sequence[str], targets: Sequence[str], task: str, modality: Modality) -> str:
    known = {column.name: column for column in _columns(table) if column.kind != "opaque"}
    texts = []
    if modality == "table":
        others = [name for name in table.column_names if name not in (*inputs, *targets)]
        left_out = ", ".join(f"{name}: {features.why_not(table, name) or 'not among data.inputs'}" for name in others)
        texts.append(f"{len(inputs)} columns" + (f" (left out: {left_out})" if left_out else ""))
    for name in inputs if modality != "table" else ():
        size = f" ({known[name].mean_characters:.0f} characters on average)" if name in known else ""
        size = size if modality == "text" else ""
        texts.append(f'column "{name}"{size}')
    labels = [f'column "{name}"' for name in targets]
    column = known.get(targets[0])
    if len(targets) == 1 and column is not None and column.kind != "list":
        distinct = pc.count_distinct(table.column(targets[0])).as_py()
        labels[0] += f" ({distinct} {'different numbers' if task == 'regression' else 'classes'})"
    return f"{modality}: {' and '.join(texts)}; label: {', '.join(labels)}"


def _ambiguous(table: Table, columns: Sequence[Column], what: str, line: str) -> DataError:
    return DataError(
        f"cannot tell which column is {what}{_listed(columns)}",
        where=table.source,
        remedy=f"say it, for example {line}",
    )


def _listed(columns: Sequence[Column]) -> str:
    return "".join(f"\n    {column}" for column in columns)


def _plain_name(column: Column) -> str:
    return column.name.strip().lower()


def _words(column: Column) -> list[str]:
    return _words_of(column.name)


def _words_of(name: str) -> list[str]:
    """The words of a name: `airlineSentiment` and `airline_sentiment` alike."""
    apart = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    return [word for word in re.split(r"[\W_]+", apart.lower()) if word]


def _is_id(column: Column) -> bool:
    return bool(ID_NAME.search(column.name) or NOT_TEXT.search(column.name))


def _few_numbers(column: Column) -> bool:
    return column.kind == "number" and 1 < column.distinct <= FEW_NUMBERS
