"""Each dependency is needed by the file its comment in pyproject.toml names, and each import is a dependency."""

from __future__ import annotations

import ast
import itertools
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LINE = re.compile(r'^    "([\w.-]+)[^"]*",\s*(?:#\s*(\S+\.py))?$', re.MULTILINE)


OTHERWISE = {"mlflow-skinny": "mlflow"}
"""Distributions of the extras that are tested in environments of their own -> what is imported of them."""


def _modules_of(distribution: str) -> set[str]:
    """`{"sklearn"}` for scikit-learn; its own name for one that is not installed here."""
    distribution = canonicalize_name(distribution)
    found = packages_distributions().items()
    installed = {module for module, names in found if distribution in map(canonicalize_name, names)}
    return installed or {OTHERWISE.get(distribution, distribution.replace("-", "_"))}


def _imported(tree: ast.AST) -> set[str]:
    """The top-level packages that a file imports, at its head or inside a function, or asks for with `need("...")`."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.append(node.module or "")
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("need") and node.args:
            names += [node.args[0].value] if isinstance(node.args[0], ast.Constant) else []
    return {name.partition(".")[0] for name in names}


def _annotated(text: str, table: str) -> dict[str, str]:
    """Distribution -> the file its comment names, of the list that starts with `table = [`."""
    lines = re.search(rf"^{table} = \[\n(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    assert lines, table
    return dict(LINE.findall(lines[1]))


@pytest.fixture
def text(root):
    return (root / "pyproject.toml").read_text(encoding="utf-8")


@pytest.fixture
def requirements(text):
    """Every requirement, of the core and of the extras."""
    project = tomllib.loads(text)["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    return [Requirement(line) for line in itertools.chain(*lists) if not line.startswith("tunesmith[")]


def test_each_dependency_is_imported_by_the_file_its_comment_names(text, package, hold):
    files = {source.path.removeprefix("src/tunesmith/"): _imported(source.tree) for source in package}
    annotated = _annotated(text, "dependencies")
    assert len(annotated) == len(tomllib.loads(text)["project"]["dependencies"]), "a line this test cannot read"
    broken = {
        name: f"not imported by {file or 'any file: its comment names none'}"
        for name, file in annotated.items()
        if not _modules_of(name) & files.get(file, set())
    }
    hold("dependencies", broken)


def test_each_optional_dependency_is_named_in_the_file_its_comment_names(text, package):
    files = {source.path.removeprefix("src/tunesmith/"): source.text for source in package}
    extras = ("data", "demo", "keras", "mlflow", "optim", "sound", "tensorboard", "trackio", "wandb")
    for name, file in {name: file for extra in extras for name, file in _annotated(text, extra).items()}.items():
        assert any(re.search(rf"\b{module}\b", files[file]) for module in _modules_of(name)), f"{name}: {file}"


def test_each_import_is_a_dependency(requirements, package, hold):
    known = {"tunesmith", *sys.stdlib_module_names}.union(*(_modules_of(wanted.name) for wanted in requirements))
    broken = {}
    for source in package:
        for module in _imported(source.tree) - known:
            broken.setdefault(module, f"imported by {source.path}, asked for nowhere in pyproject.toml")
    hold("undeclared", broken)


def test_the_tested_set_satisfies_every_requirement(requirements, root):
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = (line.split("==") for line in lines if not line.startswith("#"))
    pinned = {canonicalize_name(name): version for name, version in pins}
    for wanted in requirements:
        assert pinned[canonicalize_name(wanted.name)] in wanted.specifier, wanted
