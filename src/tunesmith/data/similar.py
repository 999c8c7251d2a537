"""Near-duplicates: rows that say nearly the same, found without comparing each with each (MinHash, Broder 1997)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.profile import codes, numbers
from tunesmith.data.table import Table

Rows = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

SHINGLE = 4
"""Characters that are compared as one."""
BANDS, HEIGHT = 20, 3
"""A signature is so many bands of so many hashes; rows that agree in a whole band are looked at. Of pairs that share
half of their shingles 93 % do, of those that share a twentieth 0.2 %."""
SIMILAR = 0.6
"""From this share on (of their shingles, each weighted by how rare it is) two texts are nearly the same."""
ESTIMATED = 0.2
"""Pairs of which a smaller share of the signature agrees are not looked at more closely."""
SHORT = 12
"""A text of fewer shingles is nearly the same as no other one, unless it is the same."""
CHUNK = 4_000_000
"""Characters that are in memory at once."""
TOGETHER = 8
"""Of so many rows that agree in a band all pairs are looked at; of more, each row with the next."""
FREQUENCIES = 1 << 20
"""How often a shingle occurs is counted under so many numbers."""
DIFFER = 6
"""Bits in which the difference hashes (64) of nearly the same picture differ at most."""
MOST = 300_000
"""Of more rows only those that are the same are looked for."""
ALIKE = 0.98
"""The least correlation of two pictures that are nearly the same, as their points go."""
MARKS = r"[\p{P}\p{S}\p{Z}\s]+"


@dataclass(frozen=True)
class Pairs:
    """Rows that are nearly the same, two by two, the lower number first; `similarity`: 1 where they are the same."""

    first: Rows
    second: Rows
    similarity: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.first)


def of_rows(table: Table, inputs: Sequence[str], modality: str) -> Pairs:
    """The pairs among the rows of a table by what a model reads of them; beyond `MOST` rows only those that are the
    same."""
    if table.num_rows > MOST or modality not in ("text", "table"):
        return of_hashes(table.hashes)
    if modality == "table":
        return of_columns([_cells(table.column(name)) for name in inputs])
    texts, mark = [table.column(name).cast(pa.large_string()) for name in inputs], pa.scalar("\n", pa.large_string())
    return of_texts(texts[0] if len(texts) == 1 else pc.binary_join_element_wise(*texts, mark, null_handling="replace"))


def of_hashes(hashes: Hashes) -> Pairs:
    """The pairs of rows of the same hash: each row with the first."""
    _, first, number = np.unique(hashes, return_index=True, return_inverse=True)
    again = np.setdiff1d(np.arange(len(hashes)), first)
    return _ordered(first[number[again]], again, np.ones(len(again)))


def joined(pairs: Pairs, first: Rows, second: Rows, similarity: npt.NDArray[np.float64]) -> Pairs:
    """The pairs, and others where they are not among them."""
    known = set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    new = np.array([pair not in known for pair in zip(first.tolist(), second.tolist(), strict=True)], bool)
    left, right = np.concatenate([pairs.first, first[new]]), np.concatenate([pairs.second, second[new]])
    return _ordered(left, right, np.concatenate([pairs.similarity, similarity[new]]))


def of_texts(texts: pa.ChunkedArray) -> Pairs:
    """The pairs among texts that are the same but for case, marks and blanks, or share most of what is rare in them."""
    lines = pc.utf8_trim_whitespace(pc.replace_substring_regex(pc.utf8_lower(pc.fill_null(texts, "")), MARKS, " "))
    number, same = codes(lines)
    _, first = np.unique(number, return_index=True)  # Of each different line the row where it stands first.
    again = np.setdiff1d(np.arange(len(number)), first)
    signatures, counts, sizes = _signatures(same)
    one, two = _candidates(signatures, np.flatnonzero(sizes >= SHORT))
    agree = np.concatenate([_agreement(signatures, one[part], two[part]) for part in _parts(len(one))] or [np.empty(0)])
    one, two = one[agree >= ESTIMATED], two[agree >= ESTIMATED]
    similarity = _shared(same, one, two, counts)
    near = similarity >= SIMILAR
    left = np.concatenate([first[number[again]], np.minimum(first[one[near]], first[two[near]])])
    right = np.concatenate([again, np.maximum(first[one[near]], first[two[near]])])
    return _ordered(left, right, np.concatenate([np.ones(len(again)), similarity[near]]))


def of_pictures(small: npt.NDArray[np.float32]) -> Pairs:
    """The pairs among grey pictures (rows, 16, 18) whose difference hashes differ in at most `DIFFER` of 64 bits, and
    whose points go together (correlation of at least `ALIKE`).

    The hash says of each point of 8 x 9 whether it is brighter than the next in its line. Two that differ in 6 bits are
    the same in one of seven stretches, so only those that are need a look."""
    points = small.reshape(len(small), 8, 2, 9, 2).mean((2, 4))
    bits = np.packbits((points[:, :, 1:] > points[:, :, :-1]).reshape(len(small), 64), axis=1)
    hashes = bits.view(np.uint64)[:, 0] if len(small) else np.empty(0, np.uint64)
    flat = small.reshape(len(small), -1) - small.mean((1, 2), keepdims=True).reshape(-1, 1)
    flat = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    found = []
    borders = np.linspace(0, 64, DIFFER + 2).astype(int).tolist()
    for low, high in itertools.pairwise(borders):
        stretch = (hashes >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        found.append(_alike(stretch, np.arange(len(hashes)), len(hashes)))
    one, two = _unique(found, len(hashes))
    together = (flat[one] * flat[two]).sum(1)
    near = (np.bitwise_count(hashes[one] ^ hashes[two]) <= DIFFER) & (together >= ALIKE)
    return _ordered(one[near], two[near], np.minimum(together[near], 0.999).astype(np.float64))


def groups(num_rows: int, pairs: Pairs) -> Rows:
    """For each row the lowest number of those that it is linked with, over however many others."""
    home = np.arange(num_rows, dtype=np.int64)
    while len(pairs):
        low = np.minimum(home[pairs.first], home[pairs.second])
        if (low == home[pairs.first]).all() and (low == home[pairs.second]).all():
            break
        for ends in (pairs.first, pairs.second):
            np.minimum.at(home, ends, low)
            np.minimum.at(home, home[ends], low)
        home = home[home]
    return home


def _cells(values: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """A number for each different value; numbers are the same when their first four digits are."""
    found = numbers(values)
    if np.isnan(found).mean() > 0.5:
        return codes(values.cast(pa.large_string()))[0]
    usual = np.isfinite(found) & (found != 0)
    scale = 10.0 ** (3 - np.floor(np.log10(np.abs(np.where(usual, found, 1.0)))))
    rounded = np.where(usual, np.round(np.where(usual, found, 0.0) * scale) / scale, found)
    number: npt.NDArray[np.int64] = np.unique(rounded, return_inverse=True)[1].astype(np.int64)
    return number


def _ordered(left: Rows, right: Rows, similarity: npt.NDArray[np.float64]) -> Pairs:
    order = np.lexsort((right, left))
    return Pairs(left[order].astype(np.int64), right[order].astype(np.int64), similarity[order])


def _parts(number: int) -> list[slice]:
    return [slice(start, start + 1_000_000) for start in range(0, number, 1_000_000)]


def _shingles(lines: Sequence[str]) -> tuple[Hashes, Rows]:
    """The hash of each run of `SHINGLE` characters in each line, and the number of its line."""
    points = np.frombuffer("\n".join((*lines, "")).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    line = np.repeat(np.arange(len(lines)), [len(text) + 1 for text in lines])
    last = len(points) - SHINGLE + 1
    if last <= 0:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    mixed = np.zeros(last, np.uint64)
    for place, factor in enumerate((0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93)):
        mixed += points[place : place + last] * np.uint64(factor)
    mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xFF51AFD7ED558CCD)
    mixed ^= mixed >> np.uint64(29)
    inside = line[:last] == line[SHINGLE - 1 :]
    return mixed[inside], line[:last][inside]


def _signatures(lines: pa.Array) -> tuple[npt.NDArray[np.uint16], Rows, Rows]:
    """Of each line the least hash of its shingles in each of the bins (lines, bins); how often shingles occur; and how
    many there are in each line. One permutation serves all bins, and an empty one takes the value of the next (Li et
    al. 2012, Shrivastava & Li 2014)."""
    bins = BANDS * HEIGHT
    found, counts, sizes = [], np.zeros(FREQUENCIES, np.int64), []
    for part in _chunks(lines):
        hashes, line = _shingles(part)
        counts += np.bincount((hashes >> np.uint64(44)).astype(np.int64), minlength=FREQUENCIES)
        sizes.append(np.bincount(line, minlength=len(part)))
        place = line.astype(np.uint64) * np.uint64(bins) + (
            (hashes & np.uint64(0xFFFF)) * np.uint64(bins) >> np.uint64(16)
        )
        keys = np.sort((place << np.uint64(16)) | ((hashes >> np.uint64(16)) & np.uint64(0xFFFF)))
        place = keys >> np.uint64(16)
        least = np.flatnonzero(np.r_[True, place[1:] != place[:-1]]) if len(keys) else np.empty(0, np.int64)
        made = np.full(len(part) * bins, -1, np.int32)
        made[place[least].astype(np.int64)] = (keys[least] & np.uint64(0xFFFF)).astype(np.int32)
        found.append(_filled(made.reshape(len(part), bins)))
    whole = np.concatenate(found) if found else np.empty((0, bins), np.uint16)
    return whole, counts, np.concatenate(sizes) if sizes else np.empty(0, np.int64)


def _filled(signature: npt.NDArray[np.int32]) -> npt.NDArray[np.uint16]:
    """The value of the next bin that has one in each that has none, changed by how far that was."""
    filled, bins = signature.copy(), signature.shape[1]
    for distance in range(1, bins):
        empty = filled < 0
        if not empty.any():
            break
        following = np.roll(signature, -distance, 1)
        take = empty & (following >= 0)
        filled[take] = (following[take] + 0x9E37 * distance) & 0xFFFF
    return np.maximum(filled, 0).astype(np.uint16)


def _chunks(lines: pa.Array) -> Iterator[list[str]]:
    """The lines in pieces of about `CHUNK` characters."""
    lengths = np.cumsum(pc.utf8_length(lines).to_numpy(zero_copy_only=False).astype(np.int64))
    start = 0
    while start < len(lines):
        before = lengths[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(lengths, before + CHUNK, "right")))
        yield lines.slice(start, end - start).to_pylist()
        start = end


def _candidates(signatures: npt.NDArray[np.uint16], rows: Rows) -> tuple[Rows, Rows]:
    """The pairs that agree in all of a band."""
    found = []
    for band in range(BANDS):
        parts = signatures[rows, band * HEIGHT : (band + 1) * HEIGHT].astype(np.uint64)
        key = (parts[:, 0] << np.uint64(32)) | (parts[:, 1] << np.uint64(16)) | parts[:, 2]
        found.append(_alike(key, rows, len(signatures)))
    return _unique(found, len(signatures))


def _alike(keys: Hashes, rows: Rows, num_rows: int) -> Hashes:
    """The pairs of rows of the same key, as one number each: the lower row times `num_rows`, plus the higher."""
    order = np.argsort(keys, kind="stable")
    ordered, rows = keys[order], rows[order]
    borders = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1], True])
    within = np.repeat(np.diff(borders), np.diff(borders))
    found = []
    for distance in range(1, TOGETHER):
        same = ordered[distance:] == ordered[:-distance]
        if distance > 1:
            same &= within[distance:] <= TOGETHER
        one, two = rows[:-distance][same], rows[distance:][same]
        found.append(
            np.minimum(one, two).astype(np.uint64) * np.uint64(num_rows) + np.maximum(one, two).astype(np.uint64)
        )
    return np.concatenate(found)


def _unique(found: Sequence[Hashes], num_rows: int) -> tuple[Rows, Rows]:
    """The pairs of all stretches or bands, once each."""
    pairs = np.unique(np.concatenate(found)) if found else np.empty(0, np.uint64)
    return (pairs // np.uint64(max(1, num_rows))).astype(np.int64), (pairs % np.uint64(max(1, num_rows))).astype(
        np.int64
    )


def _agreement(signatures: npt.NDArray[np.uint16], one: Rows, two: Rows) -> npt.NDArray[np.float64]:
    """The share of hashes in which pairs of rows agree: about that of the shingles that they share."""
    found: npt.NDArray[np.float64] = (signatures[one] == signatures[two]).mean(1)
    return found


def _shared(lines: pa.Array, one: Rows, two: Rows, counts: Rows) -> npt.NDArray[np.float64]:
    """The share of their shingles that pairs of lines have in common, each weighted by how rare it is: what stands in
    every question ("what is the ...") does not make two of them the same."""
    needed = np.unique(np.concatenate([one, two])) if len(one) else np.empty(0, np.int64)
    kept: dict[int, Hashes] = {}
    for start in range(0, len(needed), 10_000):
        rows = needed[start : start + 10_000]
        hashes, line = _shingles(lines.take(pa.array(rows)).to_pylist())
        borders = np.searchsorted(line, np.arange(len(rows) + 1))
        kept |= {int(row): np.unique(hashes[a:b]) for row, a, b in zip(rows, borders[:-1], borders[1:], strict=True)}
    weights = np.log1p(len(lines) / np.maximum(1, counts))

    def weight(hashes: Hashes) -> float:
        return float(weights[(hashes >> np.uint64(44)).astype(np.int64)].sum())

    found = np.zeros(len(one))
    for number, (a, b) in enumerate(zip(one, two, strict=True)):
        both = weight(np.intersect1d(kept[int(a)], kept[int(b)], assume_unique=True))
        found[number] = both / max(1e-9, weight(kept[int(a)]) + weight(kept[int(b)]) - both)
    return found


def of_columns(columns: Sequence[npt.NDArray[np.int64]]) -> Pairs:
    """The pairs of rows that are equal in all columns, or in all but one, and in so much that it is no accident.

    `columns`: the values of each as numbers, equal for equal values. What two rows share is worth -log2 of the share of
    rows with that value, in bits; among n rows chance makes one pair in a hundred share 2 log2(n) + 6 bits."""
    num_rows, width = len(columns[0]), len(columns)
    mixed = np.stack([_scattered(values, place) for place, values in enumerate(columns)])
    whole = mixed.sum(0, dtype=np.uint64)
    every = np.arange(num_rows)
    found = [_alike(whole - one, every, num_rows) for one in (np.zeros(num_rows, np.uint64), *mixed)]
    one, two = _unique(found, num_rows)
    equal, bits = np.zeros(len(one)), np.zeros(len(one))
    for values in columns:
        same = values[one] == values[two]
        _, number, counts = np.unique(values, return_inverse=True, return_counts=True)
        equal += same
        bits += same * -np.log2(counts[number[one]] / num_rows)
    near = (equal >= width - 1) & (bits >= 2 * np.log2(max(2, num_rows)) + 6)
    return _ordered(one[near], two[near], equal[near] / width)


def _scattered(values: npt.NDArray[np.int64], place: int) -> Hashes:
    """Each number as 64 bits that nothing else of this or another place has."""
    mixed = (values.astype(np.uint64) + np.uint64(place << 40)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
