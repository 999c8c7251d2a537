"""The house rules that are seen by importing: their order, what stays unimported, and names that stay functions."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

import tunesmith

HELP = """
sys.argv = ["tunesmith", {arguments}]
from tunesmith.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""
LIGHT = {
    "import tunesmith": ("import tunesmith", {"torch", "transformers", "pydantic"}),
    "tunesmith --help": (HELP.format(arguments='"--help"'), {"torch", "transformers", "pydantic"}),
    # typer itself imports pydantic to show the options of one verb.
    "tunesmith fit --help": (HELP.format(arguments='"fit", "--help"'), {"torch", "transformers"}),
    "the recipe": ("import tunesmith.recipe.file, tunesmith.recipe.resolve", {"torch", "transformers"}),
}


def _modules() -> list[str]:
    found = pkgutil.walk_packages(tunesmith.__path__, "tunesmith.")
    return [info.name for info in found if not info.name.endswith("__main__")]


def test_imports_go_down(root):
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("code", "heavy"), LIGHT.values(), ids=LIGHT.keys())
def test_what_must_start_fast_imports_nothing_heavy(code, heavy):
    code += f"\nprint('imported:', *sorted({heavy!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", "import sys\n" + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "imported:"


def test_a_public_name_is_never_a_module():
    for module in _modules():
        importlib.import_module(module)
    for name in tunesmith.__all__:
        thing = getattr(tunesmith, name)
        assert callable(thing) and not isinstance(thing, types.ModuleType), name


def test_public_names_are_found_by_tab_and_unknown_ones_are_errors():
    assert set(tunesmith.__all__) <= set(dir(tunesmith))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = tunesmith.no_such_name
