"""The source files as text and syntax trees, and the written exceptions that a rule's findings must equal."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Source:
    """One Python file: its path from the repository root, its text and its tree."""

    path: str
    text: str
    tree: ast.Module

    @property
    def shipped(self) -> bool:
        return self.path.startswith("src/")


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def sources() -> list[Source]:
    """Every Python file of the repository."""
    found = []
    for folder in ("src", "tests", "examples", "bench"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            text = file.read_text(encoding="utf-8")
            found.append(Source(file.relative_to(ROOT).as_posix(), text, ast.parse(text)))
    return found


@pytest.fixture(scope="session")
def package(sources: list[Source]) -> list[Source]:
    """The files that ship."""
    return [source for source in sources if source.shipped]


@pytest.fixture(scope="session")
def hold() -> Callable[[str, Mapping[str, str]], None]:
    """`hold(rule, broken)`: what breaks a rule (name -> how) is exactly what exceptions.toml allows for it."""
    allowed = tomllib.loads(Path(__file__).with_name("exceptions.toml").read_text(encoding="utf-8"))

    def check(rule: str, broken: Mapping[str, str]) -> None:
        reasons = allowed.get(rule, {})
        assert all(reasons.values()), "an exception needs its reason"
        new = [f"{name}: {how}" for name, how in broken.items() if name not in reasons]
        stale = [f"{name}: this exception is no longer needed" for name in reasons.keys() - broken.keys()]
        if new or stale:
            pytest.fail("\n".join([f"[{rule}]", *new, *sorted(stale)]), pytrace=False)

    return check
