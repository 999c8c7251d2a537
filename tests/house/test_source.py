"""The house rules that are read from the source files: sizes, names, openings, inheritance, randomness."""

from __future__ import annotations

import ast
import re
import typing
from collections.abc import Iterator

from pydantic import BaseModel

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
MODULE_NAMES = {"utils", "util", "common", "helpers", "helper", "misc", "base", "core", "manager"}
CLASS_WORDS = {"abstract", "base", "callback", "engine", "factory", "handler", "helper", "manager", "trainer"}
# The word in use stands beside the words that would be a second one for the same thing.
SECOND_WORDS = {
    "Observer": {"callback", "callbacks"},
    "Recipe": {"hparams", "hyperparameters"},
    "the loop": {"trainer"},
    "valid": {"val", "validation"},
}
# Pure in their arguments, so not a stream: generators and bit generators that are given a seed.
SEEDED = {"default_rng", "Generator", "PCG64", "Philox", "Random", "SeedSequence"}


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, FUNCTIONS))


def _classes(tree: ast.AST) -> Iterator[ast.ClassDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def _is_property(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(_last_name(mark) in {"property", "cached_property"} for mark in function.decorator_list)


def _words(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)}


def _given_names(tree: ast.AST) -> Iterator[str]:
    """Every name this file gives to something (names of other libraries are only used, not given)."""
    for node in ast.walk(tree):
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def _last_name(node: ast.expr) -> str:
    """`Part` of `Part`, `schema.Part` and `Part[int]`."""
    if isinstance(node, ast.Subscript):
        node = node.value
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def test_a_file_has_at_most_400_lines(sources, hold):
    lengths = {source.path: len(source.text.splitlines()) for source in sources}
    hold("file_lines", {path: f"{length} lines" for path, length in lengths.items() if length > 400})


def test_a_function_has_at_most_60_lines(sources, hold):
    broken = {}
    for source in sources:
        for function in _functions(source.tree):
            length = function.end_lineno - function.lineno + 1
            if length > 60:
                broken[f"{source.path}::{function.name}"] = f"{length} lines"
    hold("function_lines", broken)


def test_a_class_has_at_most_10_public_methods(sources, hold):
    broken = {}
    for source in sources:
        for found in _classes(source.tree):
            functions = [node for node in found.body if isinstance(node, FUNCTIONS) and not node.name.startswith("_")]
            methods = [node for node in functions if not _is_property(node)]
            if len(methods) > 10:
                broken[f"{source.path}::{found.name}"] = f"{len(methods)} public methods"
    hold("public_methods", broken)


def test_a_function_has_at_most_6_positional_parameters(package, hold):
    broken = {}
    for source in package:
        for function in _functions(source.tree):
            names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
            count = len(names) - (names[:1] in (["self"], ["cls"]))
            if count > 6:
                broken[f"{source.path}::{function.name}"] = f"{count} positional parameters"
    hold("positional_parameters", broken)


def test_a_recipe_has_at_most_70_fields(hold):
    from tunesmith.recipe.schema import Choice, Recipe

    def parts(annotation: object) -> list[type[BaseModel]]:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return [annotation] if annotation is not Choice else []
        return [part for argument in typing.get_args(annotation) for part in parts(argument)]

    def count(part: type[BaseModel]) -> int:
        inner = [parts(field.annotation) for field in part.model_fields.values()]
        return sum(sum(map(count, found)) if found else 1 for found in inner)

    assert count(Recipe) > 20, "the fields inside the parts are counted"
    hold("recipe_fields", {"Recipe": f"{count(Recipe)} fields"} if count(Recipe) > 70 else {})


def test_no_module_has_a_name_that_says_nothing(sources, hold):
    parts = {source.path: set(source.path.removesuffix(".py").split("/")) & MODULE_NAMES for source in sources}
    hold("module_names", {path: f"called {found}" for path, found in parts.items() if found})


def test_a_module_opens_with_one_sentence(sources, hold):
    broken = {}
    for source in sources:
        opening = " ".join((ast.get_docstring(source.tree) or "").split("\n\n")[0].split())
        if not opening.endswith((".", "?", "!")):
            broken[source.path] = "opens without a sentence that ends"
        elif re.search(r"[.?!]\s+\S", opening):
            broken[source.path] = "the first paragraph is more than one sentence"
    hold("openings", broken)


def test_comments_hold_no_banners_and_no_notes_to_self(sources, hold):
    form = re.compile(r"#\s*(TODO|FIXME|XXX|HACK)\b|#\s?([-=#*~])\2{3,}")
    broken = {}
    for source in sources:
        for number, line in enumerate(source.text.splitlines(), 1):
            if form.search(line) and "re.compile" not in line:
                broken[f"{source.path}:{number}"] = line.strip()
    hold("comments", broken)


def test_nobody_inherits_from_tunesmith(package, hold):
    home = {found.name: source.path for source in package for found in _classes(source.tree)}
    broken = {}
    for source in package:
        for found in _classes(source.tree):
            ours = {_last_name(parent) for parent in found.bases} & home.keys()
            recipe_parts = source.path.startswith("src/tunesmith/recipe/")
            if not recipe_parts and any(home[name] != "src/tunesmith/errors.py" for name in ours):
                broken[f"{source.path}::{found.name}"] = f"inherits from {', '.join(sorted(ours))}"
    hold("inheritance", broken)


def test_one_word_per_thing(package, hold):
    broken = {}
    for source in package:
        for found in _classes(source.tree):
            for word in _words(found.name) & CLASS_WORDS:
                broken[f"{source.path}::{found.name}"] = f'"{word}" names a pattern, not a thing'
        for name in set(_given_names(source.tree)):
            for word, others in SECOND_WORDS.items():
                if _words(name) & others:
                    broken[f"{source.path}::{name}"] = f'the word for this is "{word}"'
    hold("vocabulary", broken)


def test_nothing_draws_from_the_global_streams(package, hold):
    """Seeds are folded (`seeds.fold`); only seeds.py seeds, and only generators that are given a seed draw."""
    broken = {}
    for source in package:
        if source.path == "src/tunesmith/seeds.py":
            continue
        streams = {"np.random", "numpy.random", "random" if "\nimport random\n" in source.text else ""}
        for call in (node for node in ast.walk(source.tree) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func)
            module, _, draw = name.rpartition(".")
            drawn = module and module in streams and (draw not in SEEDED or not call.args)
            if drawn or name == "torch.manual_seed":
                broken[f"{source.path}:{call.lineno}"] = ast.unparse(call)
    hold("randomness", broken)
