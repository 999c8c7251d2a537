"""The store of prefix outputs: whole or absent, verified, shared by processes, within its budget."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
from filelock import FileLock

from tunesmith.models import store

KEYS = [bytes([number]) * 16 for number in range(4)]
ROWS = [bytes([number]) * (10 + number) for number in range(4)]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def put(name, numbers):
    store.append(name, {"model": "toy"}, [KEYS[i] for i in numbers], [ROWS[i] for i in numbers])


def there(name):
    entry = store.open_entry(name)
    found = entry.verified(KEYS)
    assert all(bytes(entry.bytes_of(KEYS[i])) == ROWS[i] for i in range(4) if KEYS[i] in found)
    return [i for i in range(4) if KEYS[i] in found]


def test_rows_are_found_again_with_their_bytes():
    assert there("a") == []
    put("a", [2, 0])
    put("a", [3])
    assert there("a") == [0, 2, 3]
    assert there("b") == []


@pytest.mark.parametrize("name", ["data.bin", "index.bin"])
def test_a_process_killed_while_writing_loses_only_what_it_was_writing(place, name):
    put("a", [0, 1])
    with open(place / "a" / name, "ab") as file:
        file.write(b"torn")
    assert there("a") == [0, 1]
    put("a", [2])
    assert there("a") == [0, 1, 2]


def test_a_changed_byte_is_noticed_and_a_row_written_again_counts(place):
    put("a", [0, 1])
    data = bytearray((place / "a" / "data.bin").read_bytes())
    data[3] ^= 1
    (place / "a" / "data.bin").write_bytes(bytes(data))
    assert there("a") == [1]
    put("a", [0])
    assert there("a") == [0, 1]


def test_a_lost_file_is_an_empty_entry(place):
    put("a", [0])
    (place / "a" / "data.bin").write_bytes(b"")
    assert there("a") == []


def test_who_writes_waits_for_who_is_writing(place):
    put("a", [0])
    with FileLock(place / "a" / "lock"):
        second = threading.Thread(target=put, args=("a", [1]))
        second.start()
        second.join(0.3)
        assert second.is_alive() and there("a") == [0]
    second.join(10)
    assert there("a") == [0, 1]


def test_two_processes_write_one_entry(place):
    code = (
        "import sys; from tunesmith.models import store\n"
        "first = int(sys.argv[1])\n"
        "for i in range(first, first + 50):\n"
        "    store.append('a', {}, [bytes([i]) * 16], [bytes([i]) * 1000])\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(first)]) for first in (0, 50)]
    assert [process.wait() for process in running] == [0, 0]
    entry = store.open_entry("a")
    keys = [bytes([i]) * 16 for i in range(100)]
    assert entry.verified(keys) == set(keys)
    assert all(bytes(entry.bytes_of(key)) == key[:1] * 1000 for key in keys)


def test_the_entry_used_longest_ago_makes_room(place, monkeypatch):
    for age, name in enumerate(("old", "middle", "new")):
        put(name, [0, 1, 2, 3])
        os.utime(place / name, (1000 + age, 1000 + age))
    size = sum(file.stat().st_size for file in (place / "old").iterdir())
    monkeypatch.setenv("TUNESMITH_CACHE_GB", str(3 * size / 1e9))
    store.open_entry("old")
    assert store.make_room(size, keep="new")
    assert sorted(path.name for path in place.iterdir()) == ["new", "old"]


def test_what_is_larger_than_the_budget_removes_nothing(place, monkeypatch):
    put("a", [0, 1])
    monkeypatch.setenv("TUNESMITH_CACHE_GB", "0.000001")
    assert not store.make_room(2000)
    assert there("a") == [0, 1]


def test_the_budget_is_a_fifth_of_what_is_free_and_20_gb_at_most(monkeypatch):
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _: usage(0, 0, 10_000_000_000))
    assert store.budget() == 2_000_000_000
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _: usage(0, 0, 10**13))
    assert store.budget() == 20_000_000_000


def test_entries_are_listed_newest_first_and_cleared(place):
    put("a", [0, 1])
    put("b", [0])
    os.utime(place / "a", (1000, 1000))
    listed = store.entries()
    assert [(entry["name"], entry["model"], entry["rows"]) for entry in listed] == [("b", "toy", 1), ("a", "toy", 2)]
    assert store.clear() == sum(entry["bytes"] for entry in listed) > 0
    assert store.entries() == []
