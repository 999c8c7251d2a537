"""What more rows would bring: a power law through the scores of some sizes, where they rise at all.

The score of n rows is taken as a - b n^-c (Hestness et al. 2017), with b and c above 0: it rises ever more slowly
towards a. Four sizes cannot tell c well, so the law is fitted again to each resample of the valid rows, the same
resamples for every size; what the fits differ by is how sure the outlook is, as far as the valid rows decide it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

EXPONENTS = np.arange(1, 41) / 20
"""Of the law: 0.05 is all but a straight line over the doublings, with 2 next to nothing is left to gain."""


@dataclass(frozen=True)
class Outlook:
    """The score with twice the rows, and what it gains with the ends of the 95 % interval; `value` is None where the
    scores do not rise for sure, and `gain` is then from the fewest rows to all of them."""

    rows: int
    value: float | None
    gain: float
    low: float
    high: float


def look_ahead(sizes: Sequence[int], scores: Sequence[float], drawn: Floats, *, rising: bool) -> Outlook:
    """The outlook from the scores of some sizes, the largest last; `drawn`: those of resamples, (resamples, sizes)."""
    rows, sign = np.asarray(sizes, float) / sizes[-1], 1 if rising else -1
    points, lots = sign * np.asarray(scores, float)[None], sign * drawn[~np.isnan(drawn).any(1)]
    doublings = np.log2(rows) - np.log2(rows).mean()
    if not len(lots) or np.percentile(lots @ doublings, 2.5) <= 0 or not (points @ doublings)[0] > 0:
        change = sign * (lots[:, -1] - lots[:, 0]) if len(lots) else np.full(1, np.nan)
        low, high = np.percentile(change, [2.5, 97.5])
        return Outlook(2 * sizes[-1], None, float(scores[-1] - scores[0]), float(low), float(high))
    most = 1.0 if rising else 0.0  # No figure that never was above 1, or below 0, is foretold to be.
    most = most if points.max() <= most else np.inf
    ahead = np.minimum(_fitted(rows, np.concatenate([points, lots])), most)
    gains = np.maximum(0, ahead - np.concatenate([points, lots])[:, -1])
    low, high = np.minimum(np.percentile(gains[1:], [2.5, 97.5]), most - points[0, -1])
    ends = sorted((sign * float(low), sign * float(high)))
    return Outlook(2 * sizes[-1], scores[-1] + sign * float(gains[0]), sign * float(gains[0]), *ends)


def _fitted(rows: Floats, scores: Floats) -> Floats:
    """For each line of scores that of twice the last rows, by the law that comes nearest to it (least squares)."""
    best, ahead = np.full(len(scores), np.inf), np.empty(len(scores))
    centred = scores - scores.mean(1, keepdims=True)
    for exponent in EXPONENTS:
        basis = rows**-exponent
        spread = basis - basis.mean()
        slope = np.minimum(0, centred @ spread / (spread @ spread))
        error = ((centred - slope[:, None] * spread) ** 2).sum(1)
        nearer = error < best
        best[nearer] = error[nearer]
        ahead[nearer] = (scores.mean(1) + slope * (2.0**-exponent - basis.mean()))[nearer]
    return ahead
