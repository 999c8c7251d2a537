"""The ledger: what became of every row, and of every token of text, from the source to the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

Action = Literal["dropped", "moved", "cut"]
UNLABELLED = "unlabelled"
"""What rows without a target stand under, which are of no part of the split."""
SHOWN = 5
"""Rows of an entry that are named."""


@dataclass(frozen=True)
class Entry:
    """What one step did to some rows of a part; `part` is "" before rows have one. `to`: where moved rows went."""

    part: str
    step: str
    """`missing`, `limit`, `duplicates`, `conflicts`, `leaks`, `unreadable`, `unseen`, `curve` or
    `max_length`."""
    action: Action
    rows: int
    why: str
    to: str = ""
    amount: int = 0
    """Of what was cut off: so many tokens, or other units of length."""
    where: tuple[str, ...] = ()
    """The first of the rows, by their place in the source."""

    def __str__(self) -> str:
        shown = f" ({', '.join(self.where)}{' ...' if self.rows > len(self.where) else ''})" if self.where else ""
        of = f"{self.part}: " if self.part else ""
        cut = f", {self.amount:,} tokens in all" if self.amount else ""
        went = f" to {self.to}" if self.to else ""
        return f"{of}{self.rows:,} row{'s' * (self.rows != 1)} {self.action}{went}: {self.why}{cut}{shown}"


@dataclass(frozen=True)
class Ledger:
    """Rows read of each source part ("" = of the one table), what became of them, and rows used of each part.

    Law, for every run: read + moved in = used + dropped + moved out, of each part that was read as such and of all
    together; and tokens read = tokens used + tokens cut off, of each part (`tokens`: part -> read, used)."""

    read: Mapping[str, int]
    entries: tuple[Entry, ...] = ()
    used: Mapping[str, int] = field(default_factory=dict)
    tokens: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    found: Mapping[str, int] = field(default_factory=dict)
    """Step -> rows that it is about, whatever became of them."""

    def with_entries(self, entries: Sequence[Entry]) -> Ledger:
        """The ledger with further entries; those of no rows are left out."""
        return replace(self, entries=(*self.entries, *(entry for entry in entries if entry.rows)))

    def noted(self, step: str, found: int, entries: Sequence[Entry] = ()) -> Ledger:
        """The ledger with what a step found and did."""
        return replace(self.with_entries(entries), found={**self.found, step: found})

    def dropped(self, part: str | None = None) -> int:
        """Rows that were left out, of one part or of all."""
        entries = (entry for entry in self.entries if entry.action == "dropped")
        return sum(entry.rows for entry in entries if part in (None, entry.part))

    def problems(self) -> list[str]:
        """Where the law does not hold; empty when every row and token is accounted for."""
        found = []
        if sum(self.read.values()) != sum(self.used.values()) + self.dropped():
            found.append(
                f"{sum(self.read.values())} rows read, {sum(self.used.values())} used, {self.dropped()} dropped"
            )
        for part in [part for part in self.read if "" not in self.read or part == UNLABELLED]:
            moves = [entry for entry in self.entries if entry.action == "moved"]
            inward, outward = (sum(e.rows for e in moves if getattr(e, key) == part) for key in ("to", "part"))
            if self.read[part] + inward != self.used.get(part, 0) + self.dropped(part) + outward:
                found.append(f"{part}: {self.read[part]} rows read, {self.used.get(part, 0)} used")
        for part, (read, used) in self.tokens.items():
            cut = sum(entry.amount for entry in self.entries if entry.action == "cut" and entry.part == part)
            if read != used + cut:
                found.append(f"{part}: {read} tokens read, {used} used, {cut} cut off")
        return found

    def as_json(self) -> dict[str, Any]:
        entries = [{key: value for key, value in asdict(entry).items() if value} for entry in self.entries]
        tokens = {part: {"read": read, "used": used} for part, (read, used) in self.tokens.items()}
        return {
            "read": dict(self.read),
            "used": dict(self.used),
            "entries": entries,
            "tokens": tokens,
            "found": dict(self.found),
        }

    def __str__(self) -> str:
        used = ", ".join(f"{number:,} {part}" for part, number in self.used.items() if number)
        lines = [f"rows: {sum(self.read.values()):,} read, {self.dropped():,} left out, {used}"]
        lines += [f"  {entry}" for entry in self.entries]
        if self.tokens:
            read, kept = (sum(pair[place] for pair in self.tokens.values()) for place in (0, 1))
            lines.append(f"tokens: {read:,} read, {read - kept:,} cut off, {kept:,} used")
        return "\n".join(lines)
