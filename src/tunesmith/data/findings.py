"""What is odd about the columns of a Table, found without being told where to look; a function each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data import features, media
from tunesmith.data.cleaning import numbered
from tunesmith.data.columns import Guess
from tunesmith.data.profile import ID_NAME, codes, is_missing
from tunesmith.data.table import Table, is_text

Numbers = npt.NDArray[np.int64]
Answers = npt.NDArray[Any]
"""Numbers of classes, or values."""
Half = npt.NDArray[np.bool_]

GIVES_AWAY = 0.98
"""A column that tells the target of this share of rows that were not looked at, far above the commonest answer."""
STEPS = 64
"""Numbers are looked at in so many steps of equally many rows."""
IMBALANCE = 2.0
"""Rows of the largest class over those of the smallest, from which on it is told."""
FEW_OF_A_CLASS = 50
PILED = 3.0
"""The largest (or smallest) value of a column is a cap when it occurs so many times as often as any other, and ..."""
PILED_SHARE = 0.005
"""... in at least this share of rows."""
FAR = 10.0
"""Values so many interquartile ranges beyond the quartiles are told (Tukey's fences are at 1.5 and 3)."""
GROUP_NAMES = re.compile(
    r"(^|[\W_])(speaker|user|patient|subject|author|session|customer|client|group|site|hospital|person|participant|"
    r"device|student|school)([\W_]|$)",
    re.IGNORECASE,
)
ODD_SHARE = 0.01
SAME_FORMAT = {".jpeg": ".jpg", ".tiff": ".tif", ".aiff": ".aif", ".oga": ".ogg"}
STAND_IN = re.compile(r"not[\W_]?found|placeholder|no[\W_]?image|missing|broken", re.IGNORECASE)
MOST_ROWS = 50_000
"""Columns are compared with the target on so many rows at most."""


@dataclass(frozen=True)
class Finding:
    """One thing that a person should know; `rows`: how many it is about, 0 where it is about all."""

    kind: str
    what: str
    remedy: str = ""
    rows: int = 0
    column: str = ""
    """Of which it speaks, where it is one that is named so."""

    def __str__(self) -> str:
        return self.what + (f"; {self.remedy}" if self.remedy else "")


def findings(table: Table, guess: Guess | None) -> list[Finding]:
    """Everything found in the columns; of an opaque source nothing. `guess`: what is read and predicted, if known."""
    if table.arrow is None:
        return []
    return [finding for look in LOOKS for finding in look(table, guess)]


def _plain(table: Table) -> Iterator[tuple[str, pa.ChunkedArray]]:
    """The columns whose values are texts, numbers or nothing."""
    for name in table.column_names:
        values = table.column(name)
        if not pa.types.is_nested(values.type) and not pa.types.is_boolean(values.type):
            yield name, values.cast(pa.string()) if pa.types.is_null(values.type) else values


def _unused(table: Table, guess: Guess | None) -> Iterator[Finding]:
    """Columns that hold nothing, or the same in every row; of a target that is said elsewhere."""
    for name, values in _plain(table):
        if guess is not None and name in guess.targets:
            continue
        missing = is_missing(values)
        if missing.all():
            yield Finding("empty", f'"{name}" is empty', "leave it out")
        elif not missing.any() and pc.count_distinct(values).as_py() == 1:
            yield Finding("constant", f'"{name}" is always {_short(values[0].as_py())}', "leave it out")


def _missing(table: Table, guess: Guess | None) -> Iterator[Finding]:
    """Values that are not there, also where a word or a mark says so."""
    for name, values in _plain(table):
        none = is_missing(values)
        said = features.is_missing(values) & ~none if guess is None or guess.modality == "table" else none & False
        rows = np.flatnonzero(none | said)
        if not len(rows) or len(rows) == table.num_rows:
            continue
        marks = sorted({str(values[int(row)].as_py()).strip() for row in np.flatnonzero(said)[:1000]})
        shown = f" ({', '.join(repr(mark) for mark in marks)} counts as missing)" if marks else ""
        what = f'"{name}" has no value in {_share(len(rows), table.num_rows)}{shown}, as in {_where(table, rows[0])}'
        needed = guess is not None and name in (*guess.targets, *(guess.inputs if guess.modality != "table" else ()))
        yield Finding("missing", what, "--set data.clean.missing=drop leaves them out" if needed else "", len(rows))


def _ids(table: Table, guess: Guess | None) -> Iterator[Finding]:
    """Columns that number or name the rows."""
    for name, values in _plain(table):
        if (guess is not None and name in guess.inputs and guess.modality != "table") or table.num_rows < 10:
            continue
        if is_missing(values).any() or pc.count_distinct(values).as_py() < table.num_rows:
            continue
        found = features.numbers(values)
        whole = not np.isnan(found).any() and np.array_equal(found, np.round(found))
        counts = whole and found.max() - found.min() == len(found) - 1
        if counts or (ID_NAME.search(name) and (whole or np.isnan(found).all())):
            yield Finding("id", f'"{name}" names the rows: it is different in each', "leave it out")


def giveaways(table: Table, guess: Guess | None) -> Iterator[Finding]:
    """Columns from which alone the target can be told, in rows that were not looked at for it."""
    if guess is None or len(guess.targets) != 1 or guess.task not in ("classification", "regression"):
        return
    rows = np.flatnonzero(~is_missing(table.column(guess.targets[0])))
    if len(rows) > MOST_ROWS:
        rows = np.sort(np.random.default_rng(0).choice(rows, MOST_ROWS, replace=False))
    if len(rows) < 40:
        return
    some = table.take(rows)
    target = some.column(guess.targets[0])
    answers: Answers = features.numbers(target)
    if guess.task == "classification":
        answers = np.unique(np.array([str(value) for value in target.to_pylist()]), return_inverse=True)[1]
    half = np.random.default_rng(0).permutation(len(rows)) % 2 == 0
    for name, values in _plain(some):
        if name in guess.targets or (guess.modality != "table" and name in guess.inputs):
            continue
        told = max(learn(values, answers, half) for learn in (_by_code, _by_neighbour))
        if told >= GIVES_AWAY:
            read = guess.modality == "table" and name in guess.inputs
            remedy = (
                "is it known when you predict? Otherwise leave it out of data.inputs"
                if read
                else "it is not read; leave it so"
            )
            what = f'"{name}" gives "{guess.targets[0]}" away: alone it tells {told:.1%} of it'
            yield Finding("giveaway", what, remedy, column=name)


def _classes(table: Table, guess: Guess | None) -> Iterator[Finding]:
    """Classes of unlike size, and classes with few rows."""
    if guess is None or guess.task != "classification":
        return
    values = table.column(guess.targets[0]).drop_null()
    counted = sorted(((e["counts"].as_py(), str(e["values"].as_py())) for e in values.value_counts()), reverse=True)
    counted = [(count, label) for count, label in counted if label.strip()]
    if len(counted) < 2:
        return
    (most, common), (least, rare) = counted[0], counted[-1]
    if most >= IMBALANCE * least:
        what = f'classes are imbalanced: "{common}" has {most:,} rows, "{rare}" {least:,} ({most / least:.1f} to 1)'
        yield Finding("imbalance", what, "accuracy flatters the large one: look at f1_macro and balanced_accuracy")
    if few := [f'"{label}" {count}' for count, label in counted if count < FEW_OF_A_CLASS]:
        yield Finding(
            "rare", f"few rows: {', '.join(few[:8])}{' ...' if len(few) > 8 else ''}", "add rows of these classes"
        )


def _values(table: Table, guess: Guess | None) -> Iterator[Finding]:
    """Numbers that are piled up at the end of their range, and numbers far from all others."""
    for name, values in _plain(table):
        if ID_NAME.search(name) or (guess is not None and guess.modality != "table" and name not in guess.targets):
            continue
        found = features.numbers(values)
        found = found[np.isfinite(found)]
        if len(found) < 100 or np.isnan(features.numbers(values.drop_null())).mean() > 0.5:
            continue
        known, counts = np.unique(found, return_counts=True)
        if len(known) < 20:
            continue
        what = "target" if guess is not None and name in guess.targets else "column"
        for end, side in ((-1, "largest"), (0, "smallest")):
            others = np.delete(counts, end).max()
            if known[end] and counts[end] >= PILED * others and counts[end] >= PILED_SHARE * len(found):
                piled = f"{known[end]:.6g}, its {side} value, in {_share(int(counts[end]), len(found))}"
                told = f'the {what} "{name}" is {piled}: it looks capped'
                yield Finding("capped", told, "beyond it nothing can be learnt", int(counts[end]))
        low, high = np.quantile(found, (0.25, 0.75))
        far = int((np.maximum(low - found, found - high) > FAR * (high - low)).sum()) if high > low else 0
        if 0 < far <= 0.01 * len(found):
            top = known[-1] if known[-1] - high > low - known[0] else known[0]
            out = f"more than {FAR:.0f} interquartile ranges out, up to {top:.6g}"
            what = f'"{name}" has {far} value{"s" * (far != 1)} {out}'
            yield Finding("outliers", what, "are they right?", far)


def groups(table: Table, guess: Guess | None) -> Iterator[Finding]:
    """What several rows have in common that new rows will not have: a column called so, or a part of file names."""
    known = () if guess is None else (*guess.targets, *(guess.inputs if guess.modality != "table" else ()))
    for name, values in _plain(table):
        if media.kind_of(table, name) in ("image", "sound") and is_text(values.type):
            yield from _parts_of_names(table, name, guess)
        elif GROUP_NAMES.search(name) and name not in known:
            distinct = int(pc.count_distinct(values).as_py())
            if 1 < distinct <= table.num_rows / 2:
                what, split = f'"{name}" names {distinct} groups of rows', f'{{name="group", by="{name}"}}'
                remedy = f"if new rows come from other groups, keep each in one part: --set 'data.split={split}'"
                yield Finding("groups", what, remedy, column=name)


def _odd_files(table: Table, _guess: Guess | None) -> Iterator[Finding]:
    """The few images or sounds of another format than all others, or called like a stand-in for one that is absent."""
    for name, values in _plain(table):
        if media.kind_of(table, name) not in ("image", "sound") or not is_text(values.type):
            continue
        paths = [PurePath(path or "") for path in values.to_pylist()]
        formats = [SAME_FORMAT.get(path.suffix.lower(), path.suffix.lower()) for path in paths]
        endings = Counter(formats)
        usual, count = endings.most_common(1)[0]
        rare = {end for end, number in endings.items() if number <= ODD_SHARE * len(paths)}
        for path, form in zip(paths, formats, strict=True):
            if form in rare and count >= 0.9 * len(paths):
                yield Finding("odd", f"{path} is of another format than the others ({usual})", "is it one of them?", 1)
            elif STAND_IN.search(path.stem):
                yield Finding("odd", f"{path} is called like a stand-in for a file that is absent", "look at it", 1)


def _parts_of_names(table: Table, name: str, guess: Guess | None) -> Iterator[Finding]:
    """Words that stand at the same place in the names of many files: 7_jackson_32.wav."""
    stems = [PurePath(path or "").stem for path in table.column(name).to_pylist()]
    split = [re.split(r"[_\-. ]", stem) for stem in stems]
    if len({len(parts) for parts in split}) != 1 or len(split[0]) < 2:
        return
    label = np.zeros(len(split), np.int64) if guess is None else numbered(table, guess.targets)
    for place in range(len(split[0])):
        words = [parts[place] for parts in split]
        distinct = sorted(set(words))
        codes = np.unique(words, return_inverse=True)[1]
        named = all(word.isalpha() for word in distinct)
        if not named or not 1 < len(distinct) <= len(words) / 5 or _same_partition(codes, label):
            continue
        shown = ", ".join(distinct[:6]) + (" ..." if len(distinct) > 6 else "")
        what = f"the names of the files have {len(distinct)} words at place {place + 1}: {shown}"
        yield Finding("groups", what, "if these are speakers, sites or devices, keep each in one part of the split")


LOOKS: tuple[Callable[[Table, Guess | None], Iterator[Finding]], ...] = (
    _missing,
    giveaways,
    _classes,
    groups,
    _odd_files,
    _values,
    _unused,
    _ids,
)
"""In the order in which they are told."""


def _codes(values: pa.ChunkedArray) -> Numbers | None:
    """Categories, or steps of numbers, as whole numbers; None for what has too many values to stand for anything."""
    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        return None
    found = features.numbers(values)
    distinct = int(pc.count_distinct(values).as_py())
    if np.isnan(found).mean() < 0.5 and distinct > STEPS:
        borders = np.unique(np.nanquantile(found[np.isfinite(found)], np.linspace(0, 1, STEPS + 1)[1:-1]))
        return np.where(np.isnan(found), len(borders) + 1, np.searchsorted(borders, found)).astype(np.int64)
    if distinct > len(values) / 4:
        return None
    return codes(values)[0]


def _by_code(values: pa.ChunkedArray, answers: Answers, half: Half) -> float:
    """How well the commonest class, or the mean, of a row's code in one half of the rows tells the other half."""
    steps = _codes(values)
    if steps is None:
        return 0.0
    if answers.dtype.kind == "f":
        known = half & np.isfinite(answers)
        sums, counts = (np.bincount(steps[known], weights, steps.max() + 1) for weights in (answers[known], None))
        means = np.where(counts > 0, sums / np.maximum(counts, 1), answers[known].mean())
        return _told(means[steps], answers, half)
    table = np.zeros((steps.max() + 1, answers.max() + 1))
    np.add.at(table, (steps[half], answers[half]), 1)
    return _told(np.where(table.sum(1) > 0, table.argmax(1), -1)[steps], answers, half)


def _by_neighbour(values: pa.ChunkedArray, answers: Answers, half: Half) -> float:
    """How well the answer of the row with the nearest number in one half tells the other half."""
    found = features.numbers(values)
    if not np.isfinite(found).all():
        return 0.0
    order = np.argsort(found[half], kind="stable")
    known = found[half][order]
    after = np.clip(np.searchsorted(known, found), 1, len(known) - 1)
    nearest = np.where(found - known[after - 1] <= known[after] - found, after - 1, after)
    return _told(answers[half][order][nearest], answers, half)


def _told(given: Answers, answers: Answers, half: Half) -> float:
    """Of the rows that were not learnt from: R2, or the share that is right; 0 where the commonest class of all does
    nearly as well."""
    rest = ~half & np.isfinite(answers) & np.isfinite(given)
    truth, given = answers[rest], given[rest]
    if answers.dtype.kind == "f":
        spread = ((truth - truth.mean()) ** 2).sum()
        return float(1 - ((truth - given) ** 2).sum() / spread) if spread else 0.0
    right, plain = (truth == given).mean(), (truth == np.bincount(answers[half]).argmax()).mean()
    return float(right) if 1 - right <= 0.2 * (1 - plain) else 0.0


def _same_partition(one: Numbers, two: Numbers) -> bool:
    """Whether two columns divide the rows alike."""
    pairs = np.unique(np.column_stack([one, two]), axis=0)
    return len(pairs) == len(np.unique(one)) == len(np.unique(two))


def _share(number: int, of: int) -> str:
    return f"{number:,} of {of:,} rows ({number / max(1, of):.1%})"


def _where(table: Table, row: int) -> str:
    return table.where(int(row))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
