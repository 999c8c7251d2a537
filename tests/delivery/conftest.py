"""Tiny folders in transformers format, as bench/families.py makes them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def families() -> ModuleType:
    """bench/families.py as a module."""
    spec = importlib.util.spec_from_file_location("families", ROOT / "bench" / "families.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["families"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tiny(families, tmp_path):
    """`tiny("bert")` writes a tiny random model of that family and gives its folder."""

    def make(family: str, **exceptions: object) -> Path:
        return families.tiny_folder(family, tmp_path / family, **exceptions)

    return make
