"""Makes `src/tunesmith/data/synonyms.txt.gz` of WordNet 3.0 as Debian's package wordnet-base has it.

    apt-get install wordnet-base && python bench/synonyms.py

A line: a word, and the single words that share one of its two most frequent senses, as the part of speech that it
mostly is: "live" is a verb here. Function words are left out: "in" is no indium."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

WORDNET = Path("/usr/share/wordnet")
OUT = Path(__file__).parents[1] / "src" / "tunesmith" / "data" / "synonyms.txt.gz"
SENSES = 2
PARTS = {"noun": "1", "verb": "2", "adj": "35", "adv": "4"}
"""Part of speech -> its digits in the keys of senses."""


def plain(word: str) -> bool:
    """Whether a word is one word of small letters that says something by itself."""
    return word.isascii() and word.isalpha() and word.islower() and len(word) > 1 and word not in ENGLISH_STOP_WORDS


def synsets(part: str) -> dict[str, list[str]]:
    """Offset -> its words. A line of data.PART: offset, file, type, number of words (hexadecimal), then word and id."""
    found = {}
    for line in (WORDNET / f"data.{part}").read_text(encoding="ascii").splitlines():
        if not line.startswith("  "):
            fields = line.split()
            found[fields[0]] = [word.partition("(")[0] for word in fields[4 : 4 + 2 * int(fields[3], 16) : 2]]
    return found


def counts() -> Counter[tuple[str, str]]:
    """How often a word was seen as a part of speech in the texts that WordNet's makers tagged."""
    found: Counter[tuple[str, str]] = Counter()
    for line in (WORDNET / "cntlist.rev").read_text(encoding="ascii").splitlines():
        key, _, count = line.split()
        word, _, kind = key.partition("%")
        found[word, next(part for part, digits in PARTS.items() if kind[0] in digits)] += int(count)
    return found


def main() -> None:
    """Write the table, and say how large it is."""
    table: dict[str, set[str]] = {}
    seen = counts()
    for part in PARTS:
        words = synsets(part)
        for line in (WORDNET / f"index.{part}").read_text(encoding="ascii").splitlines():
            fields = line.split()
            if line.startswith("  ") or not plain(fields[0]):
                continue
            if seen[fields[0], part] < max(seen[fields[0], other] for other in PARTS):
                continue
            # A line of index.PART ends in the offsets of the word's senses, the most frequent first.
            for offset in fields[-int(fields[2]) :][:SENSES]:
                others = {word for word in words[offset] if plain(word) and word != fields[0]}
                table.setdefault(fields[0], set()).update(others)
    lines = [" ".join([word, *sorted(others)]) for word, others in sorted(table.items()) if others]
    with open(OUT, "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(("\n".join(lines) + "\n").encode())
    print(
        f"{len(lines):,} words, {sum(len(line.split()) - 1 for line in lines):,} synonyms, {OUT.stat().st_size:,} bytes"
    )


if __name__ == "__main__":
    main()
