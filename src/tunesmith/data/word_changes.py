"""Changes of a text: words left out, exchanged, replaced by synonyms, synonyms put in (EDA: Wei & Zou 2019)."""

from __future__ import annotations

import functools
import gzip
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tunesmith.errors import DataError

_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"(\s*)([{_IDEOGRAPHS}]|[^\s{_IDEOGRAPHS}]+)")
"""White space and the word after it; a Chinese or Japanese character is a word."""
_CORE = re.compile(r"^(\W*)(.*?)(\W*)$", re.DOTALL)
"""What stands before and after a word, and the word."""
NEAREST = 5
"""So many neighbours of a token stand for its synonyms."""
LEAST_COSINE = 0.4
"""What is farther away in the table of embeddings is no neighbour."""
Synonyms = Callable[[str], Sequence[str]]
"""A word in small letters -> words of like meaning."""
Parts = list[tuple[str, str]]
"""White space and the word after it."""


def changed(text: str, random: np.random.Generator, synonyms: Synonyms, shares: Mapping[str, float]) -> str:
    """The text changed in one of the `shares`' ways that are not 0: delete, swap, replace or insert."""
    words: Parts = _WORD.findall(text)
    ways = [name for name, share in shares.items() if share]
    way = ways[int(random.integers(len(ways)))]
    if len(words) < 2:
        return text
    if way == "delete":
        kept = np.flatnonzero(random.random(len(words)) >= shares[way])
        words = [words[i] for i in (kept if len(kept) else random.integers(len(words), size=1))]
    else:
        change = {"swap": _swapped, "replace": _replaced, "insert": _inserted}[way]
        for _ in range(max(1, int(shares[way] * len(words)))):
            words = change(words, random, synonyms)
    return "".join(space + word for space, word in words).strip()


def _swapped(words: Parts, random: np.random.Generator, _synonyms: Synonyms) -> Parts:
    """Two words in each other's place."""
    first, second = (int(place) for place in random.choice(len(words), 2, replace=False))
    found = list(words)
    found[first], found[second] = (words[first][0], words[second][1]), (words[second][0], words[first][1])
    return found


def _replaced(words: Parts, random: np.random.Generator, synonyms: Synonyms) -> Parts:
    """A synonym in place of a word that has any."""
    if (drawn := _with_synonyms(words, random, synonyms)) is None:
        return words
    place, (before, core, after), others = drawn
    found = list(words)
    found[place] = (words[place][0], before + _cased(_drawn(others, random), core) + after)
    return found


def _inserted(words: Parts, random: np.random.Generator, synonyms: Synonyms) -> Parts:
    """A synonym of one of the words, anywhere."""
    if (drawn := _with_synonyms(words, random, synonyms)) is None:
        return words
    word, place = _drawn(drawn[2], random), int(random.integers(len(words) + 1))
    if re.match(f"[{_IDEOGRAPHS}]", word):
        return [*words[:place], ("", word), *words[place:]]
    after = [(space or " ", following) for space, following in words[place : place + 1]]
    return [*words[:place], (" ", word), *after, *words[place + 1 :]]


def _with_synonyms(
    words: Parts, random: np.random.Generator, synonyms: Synonyms
) -> tuple[int, tuple[str, str, str], Sequence[str]] | None:
    """The place of a word that has synonyms, the word in parts (what stands before it, the word, what stands after it),
    and its synonyms; None where no word has any."""
    for place in random.permutation(len(words)):
        match = _CORE.match(words[place][1])
        assert match is not None
        if found := synonyms(match[2].lower()):
            return int(place), (match[1], match[2], match[3]), found
    return None


def _drawn(words: Sequence[str], random: np.random.Generator) -> str:
    return words[int(random.integers(len(words)))]


def _cased(word: str, like: str) -> str:
    """The word with a capital where that which it replaces has one."""
    if like.isupper() and len(like) > 1:
        return word.upper()
    return word[:1].upper() + word[1:] if like[:1].isupper() else word


@functools.cache
def _wordnet() -> Mapping[str, tuple[str, ...]]:
    """English words -> words that share one of their two most frequent senses in WordNet 3.0 (Fellbaum 1998)."""
    packed = files("tunesmith.data").joinpath("synonyms.txt.gz").read_bytes()
    lines = (line.split() for line in gzip.decompress(packed).decode().splitlines())
    return {word: tuple(others) for word, *others in lines}


def wordnet(word: str) -> Sequence[str]:
    """The synonyms of an English word; of a plural in -s, those of its singular in the plural."""
    table = _wordnet()
    if word in table or not word.endswith("s"):
        return table.get(word, ())
    return [f"{other}s" for other in table.get(word[:-1], ()) if not other.endswith(("s", "x", "y", "ch", "sh", "men"))]


@functools.lru_cache(maxsize=4)
def of_file(path: str) -> Mapping[str, tuple[str, ...]]:
    """Words -> their synonyms, of a file in which each line holds words of one meaning, apart by commas, tabs or
    spaces; `#` begins a remark."""
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise DataError(f"cannot be read: {reason}", where=path, remedy="check data.augment.synonyms") from None
    found: dict[str, dict[str, None]] = {}
    for line in lines:
        words = [word for word in re.split(r"[\s,;\u3001\uff0c]+", line.partition("#")[0].lower()) if word]
        for word in words:
            found.setdefault(word, {}).update(dict.fromkeys(other for other in words if other != word))
    table = {word: tuple(others) for word, others in found.items() if others}
    if not table:
        what = "holds no two words of one meaning in a line"
        raise DataError(what, where=path, remedy="write a line such as: movie, film, picture")
    return table


def neighbours(embeddings: Tensor, tokenizer: Any) -> Synonyms:
    """For a word that is one token, the five whole words of the model's vocabulary that are nearest to it in the table
    of embeddings (vocabulary, width), by the cosine, if it is 0.4 or more."""
    words, rows = _whole_words(tokenizer)
    table = torch.nn.functional.normalize(embeddings.detach().float().cpu()[rows], dim=1)
    place = {word: number for number, word in enumerate(words)}

    @functools.cache
    def found(word: str) -> tuple[str, ...]:
        if (number := place.get(word)) is None:
            return ()
        cosines, nearest = (table @ table[number]).topk(min(NEAREST + 1, len(words)))
        pairs = zip(cosines.tolist(), nearest.tolist(), strict=True)
        return tuple(words[other] for cosine, other in pairs if other != number and cosine >= LEAST_COSINE)

    return found


def _whole_words(tokenizer: Any) -> tuple[list[str], list[int]]:
    """The tokens that are a word of small letters by themselves, and their numbers: those that a text of this one word
    becomes, so that the rest of a word (##ing) is none."""
    special = set(tokenizer.all_special_ids)
    texts = {
        number: tokenizer.decode([number]).strip() for number in tokenizer.get_vocab().values() if number not in special
    }
    asked = [(text, number) for number, text in sorted(texts.items()) if text.isalpha() and text == text.lower()]
    asked = [(text, number) for text, number in asked if len(text) > 1 or re.match(rf"[{_IDEOGRAPHS}]", text)]
    made = tokenizer([f" {text}" for text, _ in asked], add_special_tokens=False, verbose=False)["input_ids"]
    kept = {text: number for (text, number), ids in zip(asked, made, strict=True) if ids == [number]}
    return list(kept), list(kept.values())
