"""Augmentation: texts changed at random, each way a function; what it draws depends on seed, view and row alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from tunesmith.data.encoders.text import TextRows, encode_texts, pad, read_texts, tokenize
from tunesmith.data.table import Table
from tunesmith.errors import RecipeError
from tunesmith.seeds import fold

_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"(\s*)([{_IDEOGRAPHS}]|[^\s{_IDEOGRAPHS}]+)")
"""White space and the word after it; a Chinese or Japanese character is a word."""


@dataclass(frozen=True)
class Augmentation:
    """What changes a text: `change(text, random) -> text`; and how many `views` a row has, None = without end."""

    change: Callable[[str, np.random.Generator], str]
    views: int | None = None


@dataclass(frozen=True)
class AugmentedRows:
    """The rows of `encoded` as an augmentation changes them: pure in the seed, the row and the view."""

    encoded: TextRows
    augmentation: Augmentation
    seed: int

    def batch(self, rows: Sequence[int] | np.ndarray, view: int) -> dict[str, Tensor]:
        """Padded tensors (rows, tokens) of one view of the given row numbers, as those of `TextRows.batch`.

        With K fixed views the view is `view` modulo K."""
        number = view if self.augmentation.views is None else view % self.augmentation.views
        texts = read_texts(self.encoded.table, self.encoded.inputs, rows)
        changed = [self.change(text, number, int(row)) for row, text in zip(rows, texts, strict=True)]
        return pad(tokenize(self.encoded.tokenizer, changed, self.encoded.max_length), self.encoded.tokenizer)

    def change(self, text: Any, view: int, row: int) -> Any:
        """A view of one text, or pair of texts."""
        random = np.random.Generator(np.random.PCG64(fold(self.seed, "augment", view, row)))
        if isinstance(text, tuple):
            return tuple(self.augmentation.change(part, random) for part in text)
        return self.augmentation.change(text, random)


@dataclass(frozen=True)
class FixedViews:
    """All views of some rows, changed and encoded once: what `AugmentedRows` gives, without doing it in every epoch."""

    encoded: TextRows
    """View by view; in each the rows in their order."""
    places: dict[int, int]
    """Row number -> its place among the rows."""
    count: int

    def numbers(self, rows: Sequence[int] | np.ndarray, view: int) -> np.ndarray:
        """The row numbers, in `encoded`, of a view of some rows."""
        start = view % self.count * len(self.places)
        return np.array([start + self.places[int(row)] for row in rows], dtype=np.int64)


def fixed_views(augmented: AugmentedRows, rows: np.ndarray) -> FixedViews | None:
    """The fixed views of `rows`; None where each epoch has another."""
    count, encoded = augmented.augmentation.views, augmented.encoded
    if count is None:
        return None
    texts = read_texts(encoded.table, encoded.inputs, rows)
    changed = [
        augmented.change(text, view, int(row)) for view in range(count) for row, text in zip(rows, texts, strict=True)
    ]
    columns = [changed] if len(encoded.inputs) == 1 else list(zip(*changed, strict=True))
    table = Table(
        pa.table(dict(zip(encoded.inputs, map(list, columns), strict=True))), origin=(("views", len(changed)),)
    )
    views = encode_texts(table, encoded.inputs, encoded.tokenizer, encoded.max_length)
    return FixedViews(views, {int(row): place for place, row in enumerate(rows)}, count)


def words(*, delete: float = 0.1, swap: float = 0.1, views: int | None = None) -> Augmentation:
    """Words left out and exchanged at random (EDA: Wei & Zou 2019).

    Each word is left out with probability `delete`, but never all of them; of n words, max(1, `swap` * n) times two are
    exchanged (0 = never). `views`: each row has so many fixed views; if not given, a new one in every epoch. Texts
    without spaces between words are changed by characters."""
    for name, share in (("delete", delete), ("swap", swap)):
        if not 0 <= share < 1:
            raise RecipeError(f"{name} = {share} is not a share of the words", where="data.augment", remedy="0 to 1")
    if not delete and not swap:
        raise RecipeError("delete and swap are both 0", where="data.augment", remedy="leave data.augment out")
    if views is not None and views < 1:
        raise RecipeError(f"views = {views}", where="data.augment", remedy="give 1 or more, or leave it out")

    def change(text: str, random: np.random.Generator) -> str:
        spaces, found = map(list, zip(*_WORD.findall(text), strict=True)) if text.strip() else ([], [])
        if len(found) < 2:
            return text
        kept = np.flatnonzero(random.random(len(found)) >= delete)
        if not len(kept):
            kept = random.integers(len(found), size=1)
        spaces, found = [spaces[i] for i in kept], [found[i] for i in kept]
        for _ in range(max(1, int(swap * len(found))) if swap and len(found) > 1 else 0):
            first, second = random.choice(len(found), 2, replace=False)
            found[first], found[second] = found[second], found[first]
        return "".join(space + word for space, word in zip(spaces, found, strict=True)).strip()

    return Augmentation(change, views)
