"""The order of rows: a pure function of the seed and the epoch, with rows of like length together."""

from __future__ import annotations

import numpy as np

from tunesmith.seeds import fold

POOL = 50
"""Batches that are sorted by length together: wide enough to save padding, narrow enough to stay random."""


def epoch_batches(num_rows: int, lengths: np.ndarray | None, *, batch: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Positions of the rows of each batch of one epoch; every row once, the last batch may be short."""
    random = np.random.Generator(np.random.PCG64(fold(seed, "order", epoch)))
    order = random.permutation(num_rows)
    if lengths is not None:
        pools = [order[start : start + POOL * batch] for start in range(0, num_rows, POOL * batch)]
        order = np.concatenate([pool[np.argsort(lengths[pool], kind="stable")] for pool in pools])
    batches = [order[start : start + batch] for start in range(0, num_rows, batch)]
    if len(batches) > 1 and len(batches[-1]) == 1 < batch - 1:
        # BatchNorm has no statistics of one row.
        batches[-2:] = [batches[-2][:-1], np.concatenate([batches[-2][-1:], batches[-1]])]
    if lengths is not None:
        batches = [batches[index] for index in random.permutation(len(batches))]
    return batches


def balanced(classes: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
    """Positions of as many rows as there are, each class as often as any other, but for one: the rows of a large class
    are drawn without repetition, those of a small one are all there before one comes again."""
    random = np.random.Generator(np.random.PCG64(fold(seed, "balanced", epoch)))
    known = random.permutation(np.unique(classes))
    found = []
    for place, label in enumerate(known):
        rows, wanted = (
            np.flatnonzero(classes == label),
            len(classes) // len(known) + (place < len(classes) % len(known)),
        )
        found += [rows] * (wanted // len(rows)) + [random.permutation(rows)[: wanted % len(rows)]]
    return np.concatenate(found)


def parts(rows: np.ndarray, *, micro: int, world: int) -> list[np.ndarray]:
    """A batch in near-equal parts of at most `micro` rows; one for each of `world` ranks, as long as that leaves each
    two rows: BatchNorm has no statistics of one."""
    number = max(-(-len(rows) // micro), min(world, len(rows) // 2 or 1))
    return [part for part in np.array_split(rows, number) if len(part)]


EQUAL_ROWS = 32
"""Rows of a pass without gradients where all rows cost the same."""


def passes(lengths: np.ndarray | None, rows: np.ndarray, tokens: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """The rows, longest first, and the positions in them that go through a net together without gradients."""
    if lengths is None:
        starts = range(0, len(rows), EQUAL_ROWS)
        return rows, [np.arange(start, min(start + EQUAL_ROWS, len(rows))) for start in starts]
    order = rows[np.argsort(-lengths[rows], kind="stable")]
    return order, chunks(lengths[order], tokens)


def chunks(lengths: np.ndarray, tokens: int, most: int | None = None) -> list[np.ndarray]:
    """Positions in batches of at most `tokens` padded tokens and `most` rows; `lengths` fall, so that the largest
    memory is needed at once.

    >>> [batch.tolist() for batch in chunks(np.array([6, 4, 2, 2]), 8)]
    [[0], [1, 2], [3]]
    """
    found, start = [], 0
    while start < len(lengths):
        size = min(max(1, tokens // max(1, int(lengths[start]))), most or len(lengths))
        found.append(np.arange(start, min(start + size, len(lengths))))
        start += size
    return found
