"""The command line starts fast: what --help imports, and that the bench of its promise runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

VERBS = ("", "demo", "fit", "check", "evaluate", "predict", "list", "new")


def test_help_imports_neither_torch_nor_transformers_nor_pydantic():
    # Typer itself reads the options of a verb with pydantic, so for a verb's --help only the other two can be promised.
    code = (
        "import sys\nfrom tunesmith.cli import _run\n"
        "heavy = {'torch', 'transformers', 'pydantic', 'numpy'}\n"
        "assert not _run(['--help'])\nprint('heavy:', sorted(heavy & sys.modules.keys()))\n"
        f"assert not any(_run([verb, '--help']) for verb in {VERBS[1:]!r})\n"
        "print('heavy:', sorted(heavy - {'pydantic'} & sys.modules.keys() - {'pydantic'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [line for line in done.stdout.splitlines() if line.startswith("heavy")] == ["heavy: []", "heavy: []"]


def test_no_arguments_show_the_help_and_wrong_ones_exit_with_1():
    command = [Path(sys.executable).with_name("tunesmith")]
    bare = subprocess.run(command, capture_output=True, text=True)
    assert (bare.returncode, bare.stderr) == (0, "")
    assert all(verb in bare.stdout for verb in VERBS)
    assert subprocess.run([*command, "fit", "--frob"], capture_output=True).returncode == 1


def test_the_bench_of_the_start_prints_the_ratio():
    script = (
        next(root for root in Path(__file__).parents if (root / "pyproject.toml").is_file()) / "bench" / "startup.py"
    )
    done = subprocess.run([sys.executable, script, "1"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].startswith("ratio")


@pytest.mark.parametrize("code", ["TunesmithError", "Interrupted", "KeyboardInterrupt", "ValueError"])
def test_the_exit_code_tells_whose_fault_it_was(code, monkeypatch, capsys):
    import tunesmith
    from tunesmith.cli import _run

    errors = {
        "TunesmithError": (tunesmith.TunesmithError("wrong", where="here", remedy="this"), 1, "error: here: wrong"),
        "Interrupted": (tunesmith.Interrupted("saved", 75), 75, "saved"),
        "KeyboardInterrupt": (KeyboardInterrupt(), 130, ""),
        "ValueError": (ValueError("ours"), 2, "this is a bug of tunesmith"),
    }
    error, status, words = errors[code]

    def fail(*_arguments, **_options):
        raise error

    monkeypatch.setattr(tunesmith, "list", fail, raising=False)
    assert _run(["list"]) == status
    assert words in capsys.readouterr().err
