"""Every page's code blocks run, in order and at toy size, in a folder that holds the sample data as reviews.csv."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "src" / "tunesmith" / "samples" / "support-tickets.csv"
BLOCK = re.compile(r"^```(.*?)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# What makes a verb's line toy-sized. `demo` has no such words: its lines run in the slow set.
TOY = {"fit": "--set train.length='2 steps'", "search": "--trials 2"}


def _parameters(*, demo: bool) -> list[object]:
    """The pages, those marked `<!-- slow -->` in the slow set; for `demo`, only the pages that show that verb."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8") if page.exists() else ""
        if demo and not any(verb == "demo" for _, verb in _lines(text)):
            continue
        marks = [pytest.mark.slow] if demo or "<!-- slow -->" in text else []
        found.append(pytest.param(page, id=page.name, marks=marks))
    return found


def _lines(block: str) -> list[tuple[str, str]]:
    """The `$ tunesmith VERB ...` lines of a text as (command, verb); lines that end in a backslash are joined."""
    lines = block.replace("\\\n", " ").splitlines()
    return [(line[2:], line.split()[2]) for line in lines if line.startswith("$ tunesmith ")]


def _run(command: str, folder: Path) -> None:
    """Run one shell line with the installed `tunesmith` of this environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, shell=True, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", _parameters(demo=False))
def test_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(SAMPLE, tmp_path / "reviews.csv")
    namespace: dict[str, object] = {"__name__": "__page__"}
    text = page.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        kind, block = found[1].strip(), found[2]
        if kind == "python":
            line = text[: found.start(2)].count("\n")
            exec(compile("\n" * line + block, page, "exec"), namespace)
        elif kind == "console":
            for command, verb in _lines(block):
                toy = TOY.get(verb, "") if "--resume" not in command else ""
                if verb != "demo":
                    _run(f"{command} {toy}", tmp_path)


@pytest.mark.parametrize("page", _parameters(demo=True))
def test_the_demo_runs_as_shown(page, tmp_path):
    for command, verb in _lines(page.read_text(encoding="utf-8")):
        if verb == "demo":
            _run(command, tmp_path)


def test_the_chinese_readme_is_the_same_page():
    pages = [(ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh.md")]
    blocks = [BLOCK.findall(page) for page in pages]
    assert blocks[0] == blocks[1]
    headings = [re.findall(r"^#+ ", BLOCK.sub("", page), re.MULTILINE) for page in pages]
    assert headings[0] == headings[1]
