"""What a baseline sees of the rows, and how it says what it reads of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tunesmith.tasks.task import Target

Reading = Literal["plain", "edges", "frozen"]
"""What a baseline reads of a row: what its encoder gives without a model, the edges of an image, or what the untouched
model gives."""


@dataclass(frozen=True)
class Learnable:
    """What a baseline sees: inputs and codes of the training rows, inputs of the rows to score. Texts (pairs joined),
    or an array (rows, features); `categorical` tells which features are codes of categories."""

    texts: Sequence[str] | np.ndarray
    codes: np.ndarray
    asked: Sequence[str] | np.ndarray
    target: Target
    categorical: Sequence[bool] = ()


Baseline = Callable[[Learnable], np.ndarray]


def reads(what: Reading) -> Callable[[Baseline], Baseline]:
    """The baseline reads this; without it, "plain"."""

    def marked(learn: Baseline) -> Baseline:
        learn.reads = what  # type: ignore[attr-defined]
        return learn

    return marked
