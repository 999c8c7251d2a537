"""Files: whole or absent, whatever happens."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest
import torch

from tunesmith import files
from tunesmith.errors import MachineError


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"old": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(path, {"new": float("nan")})
    with pytest.raises(UnicodeEncodeError):
        files.write_text(path, "half \ud800")
    assert path.read_text() == '{\n  "old": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_there_when_all_went_well(tmp_path):
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "old").touch()
    with files.whole_folder(tmp_path / "done") as temporary:
        (temporary / "new").write_text("x")
        assert (tmp_path / "done" / "old").exists()
    assert [path.name for path in (tmp_path / "done").iterdir()] == ["new"]


@pytest.mark.parametrize("error", [ValueError("ours"), KeyboardInterrupt(), RuntimeError("ours")])
def test_an_error_leaves_no_folder_and_the_one_before(error, tmp_path):
    (tmp_path / "done").mkdir()
    with pytest.raises(type(error)), files.whole_folder(tmp_path / "done") as temporary:
        (temporary / "half").write_text("x")
        raise error
    assert list(tmp_path.rglob("*")) == [tmp_path / "done"]


def test_a_full_disk_is_told_in_words(tmp_path):
    with pytest.raises(MachineError, match="No space left") as caught, files.whole_folder(tmp_path / "done"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "free some disk space" in str(caught.value) and not list(tmp_path.iterdir())


SCRIPT = """
import resource, sys, torch
from pathlib import Path
from safetensors.torch import save_file
from tunesmith import files
from tunesmith.errors import MachineError
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
numbers = {"a": torch.ones(100_000)}
for write in (
    lambda path: save_file(numbers, path),
    lambda path: torch.save(numbers, path),
    lambda path: files.write_text(path, "x" * 100_000),
):
    try:
        with files.whole_folder(Path(sys.argv[1]) / "step-2") as folder:
            write(folder / "file")
    except MachineError as error:
        print(error)
"""


def test_no_room_for_a_checkpoint_leaves_the_former_one(tmp_path):
    (tmp_path / "step-1").mkdir()
    (tmp_path / "step-1" / "a").write_text("kept")
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("could not be written") == 3
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]


def test_what_a_killed_process_left_half_written_is_swept_away(tmp_path):
    (tmp_path / ".model.123.tmp").mkdir()
    (tmp_path / ".model.123.tmp" / "weights").touch()
    (tmp_path / ".data.json.9.tmp").touch()
    (tmp_path / "data.json").touch()
    files.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["data.json"]


def test_space_that_is_not_there_is_told_before_anything_is_written(tmp_path):
    files.require_space(tmp_path / "not" / "yet", 1, "this run")
    with pytest.raises(MachineError, match=r"this run needs 1000000000\.0 GB and .* has .* free"):
        files.require_space(tmp_path / "not" / "yet", 10**18, "this run")


def test_a_digest_changes_with_every_byte(tmp_path):
    path = tmp_path / "a"
    torch.save(torch.ones(3), path)
    before = files.digest(path)
    path.write_bytes(path.read_bytes() + b"\0")
    assert files.digest(path) != before and len(before) == 64
