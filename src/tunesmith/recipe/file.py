"""File <-> Recipe: TOML in and out, YAML 1.2 in, dotted overrides; errors name file, line and the right word."""

from __future__ import annotations

import io
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel, ValidationError

from tunesmith.errors import Problem, RecipeError, nearest
from tunesmith.recipe.schema import Choice, Part, Recipe, Search

Lines = dict[tuple[str, ...], int]

MISSING = {
    "data": "give the rows: tunesmith fit DATA --model MODEL, or data = ... in a recipe",
    "model": "give the pretrained model: --model FOLDER, a hub name or package:NAME, or model = ... in a recipe",
}

SUFFIXES = (".toml", ".yaml", ".yml")
"""What a recipe file is called."""


def read(path: Path) -> Recipe:
    """Read a recipe from a file; RecipeError shows all its problems."""
    tree, lines = read_tree(path)
    return build(tree, where=str(path), lines=lines)


def read_tree(path: Path) -> tuple[dict[str, Any], Lines]:
    """The plain values of a `.toml`, `.yaml` or `.yml` file, and the line of each key as far as it is known."""
    if not path.is_file():
        raise RecipeError("no such recipe file", where=str(path))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise RecipeError(f"cannot be read: {error}", where=str(path), remedy="save it as UTF-8") from None
    return _toml(path, text) if path.suffix == ".toml" else _yaml(path, text)


def build(tree: Mapping[str, Any], *, where: str = "recipe", lines: Lines | None = None) -> Recipe:
    """Make the Recipe from a tree of plain values; every wrong key and type is collected into one RecipeError."""
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        errors: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for item in error.errors(include_url=False):
            errors.setdefault(_known_path(tuple(map(str, item["loc"]))), []).append(dict(item))
        raise RecipeError([_problem(path, found, where, lines or {}) for path, found in errors.items()]) from None


def override(tree: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Apply `train.lr=1e-4`-like overrides; a value is TOML, or text where that fails; options go through the choice.

    >>> override({"strategy": "full"}, ["train.lr=1e-4", "seed=3", "data.target=label"])
    {'strategy': 'full', 'train': {'lr': 0.0001}, 'seed': 3, 'data': {'target': 'label'}}
    """
    result: dict[str, Any] = _copied(tree)
    for item in overrides:
        path, equals, text = item.partition("=")
        if not equals or not path.strip():
            raise RecipeError(f'"{item}" sets nothing', where="--set", remedy="write --set train.lr=1e-4")
        put(result, path.strip(), _value(text))
    return result


def put(tree: dict[str, Any], path: str, value: Any) -> None:
    """Set one dotted field; a choice or section that was written as a name alone becomes a table with that name."""
    *parents, last = path.split(".")
    for depth, key in enumerate(parents):
        below = tree.get(key)
        if not isinstance(below, dict):
            name = "source" if depth == 0 and key == "data" else "name"
            below = {name: below} if isinstance(below, str) else {}
        tree[key] = below
        tree = below
    tree[last] = value


def dump(recipe: Recipe, reasons: Mapping[str, str] | None = None) -> str:
    """The recipe as TOML; a field that was filled in carries its reason as a comment. What a search may do is left out
    where nothing is said of it."""
    without = {"search"} if recipe.search == Search() else set()
    text = tomli_w.dumps(_without_none(recipe.model_dump(exclude=without)))
    rows = text.splitlines()
    lines = _toml_lines(text)
    for path, reason in (reasons or {}).items():
        if number := lines.get(tuple(path.split("."))):
            rows[number - 1] += f"  # {reason}"
    return "\n".join(rows) + "\n"


def template(recipe: Recipe) -> str:
    """The recipe as TOML with what each field means above it; fields without a value stand there commented out."""
    return "".join(_template(recipe, "")).lstrip()


def _template(part: Part, section: str) -> Iterator[str]:
    fields = {name: (field, getattr(part, name)) for name, field in type(part).model_fields.items()}
    plain = part.model_dump()
    if section:
        yield f"\n[{section}]\n"
    for name, (field, value) in fields.items():
        if isinstance(value, Part) and not isinstance(value, Choice):
            continue
        if field.description:
            yield from (f"# {line.strip()}\n" for line in field.description.splitlines())
        yield f"# {name} =\n" if value is None else f"{name} = {_inline(plain[name])}\n"
    for name, (_, value) in fields.items():
        if isinstance(value, Part) and not isinstance(value, Choice):
            yield from _template(value, f"{section}.{name}".lstrip("."))


def _inline(value: Any) -> str:
    """A value on the right of an equals sign; a table as an inline one, which does not open a section."""
    if isinstance(value, Mapping):
        pairs = (f"{tomli_w.dumps({key: 0}).partition(' = ')[0]} = {_inline(item)}" for key, item in value.items())
        return f"{{ {', '.join(pairs)} }}" if value else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_inline, value))}]"
    return tomli_w.dumps({"value": value}).removeprefix("value = ").strip()


def json_schema() -> dict[str, Any]:
    """The JSON schema of a recipe, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema(mode="validation")}


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def _copied(tree: Any) -> Any:
    return {key: _copied(value) for key, value in tree.items()} if isinstance(tree, Mapping) else tree


def _without_none(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {key: _without_none(value) for key, value in tree.items() if value is not None}
    return list(tree) if isinstance(tree, tuple) else tree


def _toml(path: Path, text: str) -> tuple[dict[str, Any], Lines]:
    try:
        return tomllib.loads(text), _toml_lines(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"is not valid TOML: {error}", where=str(path)) from None


def _yaml(path: Path, text: str) -> tuple[dict[str, Any], Lines]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        tree = YAML(typ="safe", pure=True).load(io.StringIO(text))
        marked = YAML(typ="rt", pure=True).load(io.StringIO(text))
    except YAMLError as error:
        raise RecipeError(f"is not valid YAML: {error}", where=str(path)) from None
    if not isinstance(tree, dict):
        raise RecipeError("holds no recipe: the outermost level must be keys and values", where=str(path))
    return tree, _yaml_lines(marked)


def _yaml_lines(node: Any, path: tuple[str, ...] = ()) -> Lines:
    lines: Lines = {}
    if isinstance(node, dict) and hasattr(node, "lc"):
        for key, value in node.items():
            lines[(*path, str(key))] = node.lc.key(key)[0] + 1
            lines.update(_yaml_lines(value, (*path, str(key))))
    return lines


def _toml_lines(text: str) -> Lines:
    """The line of each key, as far as a glance can tell: sections and `key =` lines, not keys inside inline tables."""
    lines: Lines = {}
    section: tuple[str, ...] = ()
    for number, row in enumerate(text.splitlines(), 1):
        if found := re.match(r"^\s*\[+([^\[\]=]+)\]+\s*(#.*)?$", row):
            section = tuple(part.strip(" \"'") for part in found[1].split("."))
            lines[section] = number
        elif found := re.match(r"^\s*([A-Za-z0-9_.\"'-]+)\s*=", row):
            lines[section + tuple(part.strip("\"'") for part in found[1].split("."))] = number
    return lines


def _problem(path: tuple[str, ...], errors: list[dict[str, Any]], where: str, lines: Lines) -> Problem:
    """One problem for one key; a value that fits no member of a union fails once for each of them."""
    line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), None)
    place = f"{where}, line {line}" if line else where
    dotted, kind = ".".join(path), errors[0]["type"]
    if kind == "extra_forbidden":
        return Problem(f'unknown key "{dotted}"', place, nearest(path[-1], _fields(path[:-1])))
    if kind == "missing":
        return Problem(f'"{dotted}" is missing', place, MISSING.get(path[0], ""))
    if any(error["loc"][-2:] == ("Choice", "name") and error["input"] is None for error in errors):
        return Problem(f'"{dotted}" has options and no name', place, f'write {path[-1]} = {{ name = "...", ... }}')
    wanted = [error["msg"].removeprefix("Value error, ").removeprefix("Input should be ") for error in errors]
    if not errors[0]["msg"].startswith("Input should be"):
        return Problem(f'"{dotted}": {wanted[0]}', place)
    given = errors[0]["input"]
    shown = "" if isinstance(given, dict | BaseModel) else f" = {given!r}"
    return Problem(f'"{dotted}"{shown}: should be {" or ".join(wanted)}', place)


def _known_path(path: tuple[str, ...]) -> tuple[str, ...]:
    """Drop from pydantic's location the names of union members, which no person wrote."""
    kept: list[str] = []
    model: Any = Recipe
    for part in path:
        fields = _model_fields(model)
        if model is not None and (part in fields or not kept or fields):
            kept.append(part)
            model = fields.get(part)
    return tuple(kept)


def _fields(path: tuple[str, ...]) -> list[str]:
    model: Any = Recipe
    for part in path:
        model = _model_fields(model).get(part)
    return list(_model_fields(model))


def _model_fields(model: Any) -> dict[str, Any]:
    if isinstance(model, type) and issubclass(model, BaseModel) and model is not Choice:
        return {name: field.annotation for name, field in model.model_fields.items()}
    return {}
