"""What every test shares: no network, one thread per parallel worker, and the real data beside the repository."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

# Set before torch is imported, and inherited by every process a test starts.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["KERAS_BACKEND"] = "torch"
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"

if "PYTEST_XDIST_WORKER" not in os.environ:
    # Workers inherit it; no test reads or fills the cache of the person who runs them.
    _CACHE = tempfile.TemporaryDirectory(prefix="tunesmith-cache-")
    os.environ["TUNESMITH_CACHE"] = _CACHE.name

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("real") and not REAL_DATA.is_dir():
        pytest.skip(f"real data is not at {REAL_DATA}")
    if item.get_closest_marker("torchvision") and importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed here: make torchvision")


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """`real_data("trec")` is the folder of that data set; the test is skipped where it is absent."""

    def find(name: str) -> Path:
        folder = REAL_DATA / name
        if not folder.is_dir():
            pytest.skip(f"real data is not at {folder}")
        return folder

    return find


@pytest.fixture(scope="session")
def families() -> ModuleType:
    """bench/families.py as a module: `families.tiny_folder("bert", place)` writes a tiny random model there."""
    file = Path(__file__).resolve().parents[1] / "bench" / "families.py"
    spec = importlib.util.spec_from_file_location("families", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["families"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tiny(families: ModuleType, tmp_path: Path) -> Callable[..., Path]:
    """`tiny("bert")` writes a tiny random model of that family and gives its folder."""

    def make(family: str, **fields: object) -> Path:
        folder: Path = families.tiny_folder(family, tmp_path / family, **fields)
        return folder

    return make
