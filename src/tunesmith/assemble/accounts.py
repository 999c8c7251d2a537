"""The rows accounted for: what only their content tells, what was cut off, and whether that is within the limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from tunesmith.assemble.rows import Rows
from tunesmith.data import cleaning, similar
from tunesmith.data.augmented import Changeable
from tunesmith.data.encoded import Encoded
from tunesmith.data.ledger import UNLABELLED, Entry, Ledger
from tunesmith.data.split import PARTS
from tunesmith.recipe.schema import Clean

SMALLEST = 64
"""Pictures of fewer pixels a side are compared as a whole: digits and icons look alike without being the same."""


def compared(rows: Rows, encoded: Encoded, clean: Clean) -> Rows:
    """Images and sounds are known by what a file holds, not by its name: the steps of cleaning that look at rows beside
    each other, for those that are read now."""
    if rows.modality not in ("image", "sound") or rows.table.arrow is None:
        return rows
    used = np.sort(np.concatenate([getattr(rows.split, part) for part in PARTS]))
    keys = encoded.keys(used)
    if keys is None:
        return rows
    hashes = rows.table.hashes.copy()  # Rows of no part keep those of their names.
    hashes[used] = [int.from_bytes(key[:8], "big") for key in keys]
    table = replace(rows.table, hashes=hashes)
    pairs = similar.of_hashes(hashes)
    if rows.modality == "image" and len(used) <= similar.MOST and min(_size(encoded, used)) >= SMALLEST:
        near = similar.of_pictures(_small(encoded, used))
        pairs = similar.joined(pairs, used[near.first], used[near.second], near.similarity)
    split, ledger, notes = cleaning.cleaned(clean.model_dump(), table, rows.columns, rows.split, pairs, rows.ledger)
    return replace(rows, split=split, ledger=ledger, notes=(*rows.notes, *notes)).recounted()


def settled(
    rows: Rows, encoded: Changeable | Encoded, unlabelled: Changeable | None, limits: dict[str, float]
) -> Ledger:
    """The ledger with rows and tokens used of each part; DataError where something is over `limits`. `unlabelled` are
    the rows without a target as the model reads them."""
    ledger, tokens, entries = used(rows), {}, []
    parts = [(part, encoded, getattr(rows.split, part)) for part in PARTS]
    if unlabelled is not None:
        parts.append((UNLABELLED, unlabelled, np.arange(unlabelled.table.num_rows)))
    for part, some, numbers in parts:
        lost = getattr(some, "lost", None)
        if lost is not None and some.lengths is not None:
            kept, cut = int(some.lengths[numbers].sum()), lost[numbers]
            tokens[part] = (kept + int(cut.sum()), kept)
            why = f"longer than {some.lengths.max()} tokens" if len(numbers) else ""
            entries.append(Entry(part, "max_length", "cut", int((cut > 0).sum()), why, amount=int(cut.sum())))
    ledger = replace(ledger.with_entries(entries), tokens=tokens)
    assert not ledger.problems(), ledger.problems()
    read, train = max(1, sum(ledger.read.values())), max(1, ledger.used["train"])
    of = {
        "duplicates": train,
        "conflicts": sum(ledger.used[part] for part in PARTS) or 1,
        "leaks": max(1, ledger.used["valid"] + ledger.used["test"]),
    }
    shares = {step: found / of[step] for step, found in ledger.found.items()} | {"dropped": ledger.dropped() / read}
    if tokens:
        shares["cut"] = sum(a - b for a, b in tokens.values()) / max(1, sum(a for a, _ in tokens.values()))
    cleaning.over_limits(shares, limits, rows.table.source)
    return ledger


def used(rows: Rows) -> Ledger:
    """The ledger with the rows of each part as they are used."""
    found = {part: len(getattr(rows.split, part)) for part in PARTS}
    more = {} if rows.unlabelled is None else {UNLABELLED: rows.unlabelled.num_rows}
    return replace(rows.ledger, used=found | more)


def _size(encoded: Encoded, rows: np.ndarray) -> tuple[int, ...]:
    return tuple(next(iter(encoded.batch(rows[:1]).values())).shape[-2:]) if len(rows) else (0, 0)


@torch.no_grad()
def _small(encoded: Encoded, rows: np.ndarray) -> np.ndarray:
    """The images in grey, 16 points high and 18 wide."""
    found = []
    for start in range(0, len(rows), 256):
        pixels = next(iter(encoded.batch(rows[start : start + 256]).values()))
        found.append(torch.nn.functional.adaptive_avg_pool2d(pixels.float().mean(1, keepdim=True), (16, 18))[:, 0])
    return torch.cat(found).numpy()
