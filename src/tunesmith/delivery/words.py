"""The words of what people read of a Run, in each language: words.json, a key a line."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib import resources

from tunesmith.errors import RecipeError, nearest

LANGUAGES = ("en", "zh")
"""As words.json lists them."""


@functools.cache
def table() -> dict[str, list[str]]:
    """Key -> its words in the order of `LANGUAGES`; names in braces are filled in."""
    text = resources.files("tunesmith.delivery").joinpath("words.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


@dataclass(frozen=True)
class Words:
    """The words of one language."""

    language: str = "en"

    def __post_init__(self) -> None:
        if self.language not in LANGUAGES:
            what = f'there is no report in "{self.language}"'
            raise RecipeError(what, where="--lang", remedy=nearest(self.language, LANGUAGES))

    def __call__(self, key: str, **values: object) -> str:
        """The words of a key, with what its braces name filled in."""
        return table()[key][LANGUAGES.index(self.language)].format(**values)

    def named(self, kind: str, name: str) -> str:
        """What a metric, a baseline ... is called in this language; its own name where it has no other."""
        return self(f"{kind}.{name}") if f"{kind}.{name}" in table() else name

    def sentences(self, parts: list[str]) -> str:
        """Sentences as one paragraph."""
        return ("" if self.language == "zh" else " ").join(parts)


def duration(seconds: float) -> str:
    """Seconds for people.

    >>> [duration(seconds) for seconds in (0.31, 12.4, 200, 7300)]
    ['0.3 s', '12 s', '3 min 20 s', '2 h 1 min']
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
