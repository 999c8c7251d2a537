"""ARCHITECTURE.md names every module with the opening of its docstring, and no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "tunesmith"


def opening(path):
    return " ".join((ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0].split())


def test_the_module_tables_say_what_the_modules_say():
    told = dict(re.findall(r"^\| `([\w/]+\.py)` \| (.*) \|$", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE))
    assert told == {path.relative_to(PACKAGE).as_posix(): opening(path) for path in PACKAGE.rglob("*.py")}
