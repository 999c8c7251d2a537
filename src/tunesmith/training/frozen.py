"""Rows with what the frozen prefix gave for them: computed once, kept on disk, read in every later epoch and run."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tunesmith.data.encoded import Encoded
from tunesmith.data.order import passes
from tunesmith.models import prefix, store
from tunesmith.models.prefix import Cut, Form, Uncacheable
from tunesmith.models.stages import evaluating
from tunesmith.models.tunable import STORED, Tunable
from tunesmith.training.machine import Machine

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
WRITE_BYTES = 16_000_000
"""Computed rows are written to disk in pieces of about this size."""
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
"""How far outputs from kept rows may be from live ones, relative to the largest: rows are kept as they came out of
batches of another shape, which differ in the last bits."""


@dataclass
class CachedRows:
    """Encoded rows whose batches enter the net behind its frozen stages; they stand in for `encoded` in a phase."""

    encoded: Encoded
    cut: Cut
    dtype: torch.dtype
    entry: store.Entry
    keys: dict[int, bytes]
    """Row number -> key; rows that are not kept have none."""
    num_computed: int = 0
    """Rows that ran through the prefix now; all others were found on disk."""

    @property
    def lengths(self) -> np.ndarray | None:
        return self.encoded.lengths

    @property
    def longest(self) -> int:
        return self.encoded.longest

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """The tensors of some rows; with what the prefix gave for them where all of them are kept."""
        if not all(int(row) in self.keys for row in rows):
            return self.encoded.batch(rows)
        if not self.cut.kept:
            whole = np.concatenate([self.entry.bytes_of(self.keys[int(row)]) for row in rows])
            return {f"{STORED}0": torch.from_numpy(whole).view(self.dtype).reshape(len(rows), *self.cut.shapes[0])}
        pieces = [self._unpacked(int(row)) for row in rows]
        inputs = self.encoded.batch(rows)
        mask = prefix.places(inputs)
        mask = torch.empty(len(rows), 0) if mask is None else mask.bool()
        for number, form in enumerate(self.cut.forms):
            inputs[f"{STORED}{number}"] = _padded([piece[number] for piece in pieces], form, mask)
        return inputs

    def _unpacked(self, row: int) -> list[Tensor]:
        """The arrays of one row."""
        flat: Tensor = torch.from_numpy(np.array(self.entry.bytes_of(self.keys[row]))).view(self.dtype)
        found = []
        for shape in self.row_shapes(row):
            size = math.prod(shape)
            found.append(flat[:size].reshape(shape))
            flat = flat[size:]
        return found

    def row_shapes(self, row: int) -> list[tuple[int, ...]]:
        """The shape of each array of one row."""
        tokens = 0 if self.lengths is None else int(self.lengths[row])
        return [
            (tokens, *shape) if form == "tokens" else shape
            for form, shape in zip(self.cut.forms, self.cut.shapes, strict=True)
        ]


def cached_rows(
    net: Tunable, encoded: Encoded, rows: np.ndarray, machine: Machine, how: str, *, only_found: bool = False
) -> CachedRows:
    """Keep the outputs of the net's frozen prefix for `rows`: those on disk are verified, the others computed now.

    `how` is "fp32" or "bf16"; with `only_found` nothing is computed. Raises
    Uncacheable with the reason where this model, these rows or this disk do not allow it; then the phase runs live."""
    if only_found and encoded.table.arrow is None:
        # The items would be read twice, to be known again, for one pass over them.
        raise Uncacheable("each row is read once only")
    found = encoded.keys(rows)
    if found is None:
        raise Uncacheable("the rows are made anew each time they are read")
    keys = dict(zip((int(row) for row in rows), found, strict=True))
    cut = prefix.find_cut(net, _probes(encoded, keys, machine))
    if encoded.lengths is None and "tokens" in cut.forms:
        raise Uncacheable("how long its rows are is known only when they are read")
    dtype = DTYPES[how]
    name = entry_name(prefix.digest(net, cut), machine, dtype)
    kept = CachedRows(encoded, cut, dtype, store.open_entry(name), keys)
    net.entrance = cut
    for _ in range(2):  # A second time where other ranks wrote to a disk that this one does not see.
        missing = _missing(kept)
        if not machine.most(len(missing)):
            break
        if only_found:
            raise Uncacheable("each row is read once only")
        if not machine.agree(store.make_room(_size(kept, missing), keep=name)):
            raise Uncacheable("its outputs do not fit into the budget on disk")
        kept.num_computed += len(missing)
        try:
            _compute(net, kept, missing, machine, name)
        except OSError as error:
            raise Uncacheable(f"the disk did not take its outputs: {error.strerror or error}") from None
        finally:
            machine.gather(None)
        kept.entry = store.open_entry(name)
    compare(net, kept, machine)
    return kept


def kept_features(
    digests: Mapping[str, str],
    keys: Sequence[bytes],
    compute: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    machine: Machine,
    how: str,
) -> dict[str, np.ndarray]:
    """Name -> features (rows, width) of the rows with these keys, kept as `cached_rows` keeps those of a wholly frozen
    body; `digests` are those of `prefix.digest_of_body`. `compute(positions)` gives those of some rows, live."""
    dtype = DTYPES[how]
    names = {name: entry_name(digest, machine, dtype) for name, digest in digests.items()}
    entries = {name: store.open_entry(entry) for name, entry in names.items()}
    there = [entry.verified(keys) for entry in entries.values()]
    missing: dict[bytes, int] = {}
    for position, key in enumerate(keys):
        if not all(key in found for found in there):
            missing.setdefault(key, position)
    made: dict[str, dict[bytes, np.ndarray]] = {name: {} for name in names}
    if missing:
        for name, values in compute(np.array(list(missing.values()))).items():
            exact = torch.from_numpy(values).to(dtype)
            packed = [row.view(torch.uint8).numpy() for row in exact]
            made[name] = dict(zip(missing, packed, strict=True))
            if machine.first and store.make_room(sum(row.nbytes for row in packed), keep=names[name]):
                about = {"model": name, "stages": "all", "dtype": str(dtype).removeprefix("torch.")}
                with contextlib.suppress(OSError):
                    store.append(names[name], about, list(missing), [row.tobytes() for row in packed])
    found = {}
    for name, entry in entries.items():
        rows = [made[name][key] if key in made[name] else np.array(entry.bytes_of(key)) for key in keys]
        found[name] = torch.from_numpy(np.stack(rows)).view(dtype).float().numpy()
    return found


def entry_name(digest: str, machine: Machine, dtype: torch.dtype) -> str:
    """The name of an entry: everything that its values depend on but the rows."""
    text = f"{digest} {machine.precision} {machine.device.type} {dtype}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@torch.no_grad()
def compare(net: Tunable, kept: CachedRows, machine: Machine) -> None:
    """One batch from what is kept against the same batch live; Uncacheable when they differ by more than rounding."""
    rows = np.array(list(kept.keys))
    some = rows[:: max(1, len(rows) // 8)][:8]
    with evaluating(net), machine.autocast():
        stored = net(machine.put(kept.batch(some))).float()
        live = net(machine.put(kept.encoded.batch(some))).float()
    worst = float((stored - live).abs().max() / live.abs().max().clamp(min=1e-3))
    if not worst <= max(TOLERANCES[kept.dtype], TOLERANCES[torch.bfloat16] if machine.precision == "bf16" else 0):
        raise Uncacheable(f"kept and live outputs differ by {worst:.1%}")


def _probes(encoded: Encoded, keys: dict[int, bytes], machine: Machine) -> list[dict[str, Tensor]]:
    """Two batches of unlike shape: the 2 shortest rows, and the 3 longest, all different."""
    lengths = encoded.lengths
    different = list({key: row for row, key in keys.items()}.values())
    if len(different) < 5:
        raise Uncacheable("there are fewer than five different rows")
    order = sorted(different, key=lambda row: (0 if lengths is None else int(lengths[row]), row))
    return [machine.put(encoded.batch(np.array(some))) for some in (order[:2], order[-3:])]


def _missing(kept: CachedRows) -> np.ndarray:
    """A row for each key that is not on disk whole, in their order."""
    there = kept.entry.verified(kept.keys.values())
    first: dict[bytes, int] = {}
    for row, key in kept.keys.items():
        if key not in there:
            first.setdefault(key, row)
    return np.array(list(first.values()), dtype=np.int64)


def _size(kept: CachedRows, rows: np.ndarray) -> int:
    """Bytes that the rows take."""
    return sum(math.prod(shape) for row in rows for shape in kept.row_shapes(int(row))) * kept.dtype.itemsize


def _compute(net: Tunable, kept: CachedRows, rows: np.ndarray, machine: Machine, name: str) -> None:
    """Run the prefix over the rows, longest first, and write what it gave; every rank its share of the batches."""
    order, batches = passes(kept.encoded.lengths, rows, machine.tokens)
    about = {
        "model": type(net.body).__name__,
        "stages": kept.cut.depth,
        "dtype": str(kept.dtype).removeprefix("torch."),
    }
    keys: list[bytes] = []
    pieces: list[bytes] = []
    with evaluating(net):
        for batch in batches[machine.rank :: machine.world]:
            inputs = kept.encoded.batch(order[batch])
            with machine.autocast():
                values = kept.cut.compute(net, machine.put(inputs))
            pieces += _packed([value.to("cpu", kept.dtype) for value in values], kept, inputs)
            keys += [kept.keys[int(row)] for row in order[batch]]
            if sum(map(len, pieces)) > WRITE_BYTES:
                store.append(name, about, keys, pieces)
                keys, pieces = [], []
        if keys:
            store.append(name, about, keys, pieces)


def _packed(values: list[Tensor], kept: CachedRows, inputs: dict[str, Tensor]) -> list[bytes]:
    """The bytes of each row: its arrays one behind the other, without padding."""
    rows, mask = [], prefix.places(inputs)
    for row in range(len(values[0])):
        parts = []
        for form, value in zip(kept.cut.forms, values, strict=True):
            one = value[row][mask[row].bool()] if form == "tokens" and mask is not None else value[row]
            parts.append(one.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        rows.append(b"".join(parts))
    return rows


def _padded(values: list[Tensor], form: Form, mask: Tensor) -> Tensor:
    """One tensor of the rows' arrays; what does not count is 0."""
    if form == "row":
        return torch.stack(values)
    padded = values[0].new_zeros(*mask.shape, *values[0].shape[1:])
    padded[mask] = torch.cat(values)
    return padded
