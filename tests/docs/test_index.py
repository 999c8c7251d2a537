"""The pages are complete: every verb, page, recipe field and module is where a reader looks for it."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from tunesmith import cli
from tunesmith.recipe.schema import Choice, Recipe

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def _verbs() -> list[str]:
    return [command.name or command.callback.__name__ for command in cli.app.registered_commands]


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Dotted field -> default of the recipe, sections opened, choices not."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel) and kind is not Choice:
            yield from _fields(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, field.get_default(call_default_factory=True)


def _links(page: Path) -> set[Path]:
    """The files of this repository that a page links to."""
    found = LINK.findall(page.read_text(encoding="utf-8"))
    return {(page.parent / link).resolve() for link in found if "://" not in link}


def test_every_verb_has_a_page_and_every_page_is_linked():
    pages = set(DOCS.glob("*.md"))
    assert {DOCS / f"{verb}.md" for verb in _verbs()} <= pages
    linked = {link for page in (ROOT / "README.md", DOCS / "start.md", DOCS / "models.md") for link in _links(page)}
    assert not sorted(page.name for page in pages - linked)


def test_links_between_pages_lead_somewhere():
    pages = [*ROOT.glob("*.md"), *DOCS.glob("*.md")]
    assert not [f"{page.name} -> {link.name}" for page in pages for link in _links(page) if not link.exists()]


def test_the_recipe_page_names_every_field_with_its_default():
    text = (DOCS / "recipe.md").read_text(encoding="utf-8")
    rows = {row[1]: row[2] for row in re.finditer(r"^\| `([\w.]+)` \| (.*?) \|", text, re.MULTILINE)}
    fields = dict(_fields(Recipe))
    assert rows.keys() == fields.keys()
    for field, default in fields.items():
        if default is PydanticUndefined:
            assert rows[field] == "required", field
            continue
        shown = default.name if isinstance(default, Choice) else default
        expected = "none" if shown is None else json.dumps(shown).strip('"')
        assert rows[field] == f"`{expected}`", field


def test_architecture_opens_every_module_with_the_modules_own_sentence():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    package = ROOT / "src" / "tunesmith"
    for path in sorted(package.rglob("*.py")):
        opening = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
        row = f"| `{path.relative_to(package).as_posix()}` | {' '.join(opening.split())} |"
        assert row in text, f"ARCHITECTURE.md lacks: {row}"
