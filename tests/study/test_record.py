"""The records of a study: shared by workers that may be killed at any point."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tunesmith.study import record as record_module
from tunesmith.study.record import Record, Records

WORKER = Path(__file__).with_name("record_worker.py")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "trials"


@pytest.fixture
def gone() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def a_trial(known: Sequence[Record]) -> Record:
    return Record(0, "full", params={"train.lr": 2.0}, settings={"train.lr": 4e-5}, seed=len(known))


def nothing(known: Sequence[Record]) -> None:
    return None


def worker(pid: int, host: str = socket.gethostname()) -> str:
    return f"{host}:{pid}"


def test_a_record_is_read_as_it_was_written(folder: Path) -> None:
    claimed = Records(folder).claim(a_trial)
    assert claimed is not None
    how_it_went = {"reports": ((1, 0.5), (3, 0.25)), "value": 0.5, "low": 0.4, "high": 0.6, "steps": 3, "length": 9}
    what_it_cost = {"predicted": 3.5, "seconds": 4.25, "cost": {"bytes": 12.0}, "why": "not among the best third"}
    optunas = {"system_attrs": {"completed_rung_0": 0.5}, "distributions": {"train.lr": "{}"}}
    params = {"model.head": {"layers": [8, 4]}, "train.optimizer": None}
    whole = replace(claimed, state="pruned", params=params, **how_it_went, **what_it_cost, **optunas)
    assert Records(folder).put(whole)
    assert Records(folder).all() == [whole]


def test_a_score_that_is_no_number_is_left_out_and_the_file_stays_json(folder: Path) -> None:
    records = Records(folder)
    nan = float("nan")
    records.put(Record(1, "full", value=nan, low=-float("inf"), reports=((1, 0.5), (2, nan)), state="failed"))
    json.loads((folder / "0001.json").read_text(), parse_constant=pytest.fail)
    (read,) = records.all()
    assert (read.value, read.low, read.reports) == (None, None, ((1, 0.5),))


def test_numbers_count_from_one_and_none_is_given_twice(folder: Path) -> None:
    claimed = [Records(folder).claim(a_trial) for _ in range(12)]
    assert [record.number for record in claimed if record] == list(range(1, 13))
    assert [record.seed for record in claimed if record] == list(range(12)), "make did not see every record"


def test_a_claimed_trial_is_running_in_this_process_before_claim_returns(folder: Path) -> None:
    records = Records(folder)
    before = time.time()
    claimed = records.claim(a_trial)
    assert claimed == Records(folder).all()[0]
    assert claimed is not None and claimed.state == "running" and claimed.worker == worker(os.getpid())
    assert before <= claimed.began <= time.time()
    assert records.claim(nothing) is None, "the trial of a living worker was handed out"


def test_a_waiting_trial_is_handed_out_before_a_new_one_and_begins_anew(folder: Path) -> None:
    records = Records(folder)
    first = records.claim(a_trial)
    assert first is not None
    told = replace(
        first, state="waiting", reports=((1, 0.9),), system_attrs={"completed_rung_0": 0.9}, value=0.9, seconds=9
    )
    records.put(told)
    again = records.claim(lambda known: pytest.fail("a new trial was asked for"))
    assert again is not None
    assert (again.number, again.params, again.settings, again.seed) == (1, first.params, first.settings, first.seed)
    assert (again.reports, again.system_attrs, again.value, again.seconds) == ((), {}, None, 0)
    assert again.state == "running" and again.deaths == 0


def test_the_trial_of_a_dead_worker_is_taken_up_again(folder: Path, gone: int) -> None:
    records = Records(folder)
    records.put(replace(a_trial(()), number=1, state="running", worker=worker(gone), began=time.time()))
    taken = records.claim(nothing)
    assert taken is not None and taken.number == 1 and taken.worker == worker(os.getpid()) and taken.deaths == 1


def test_a_killed_worker_that_nobody_has_waited_for_is_dead(folder: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    records = Records(folder)
    records.put(Record(1, "full", state="running", worker=worker(process.pid), began=time.time()))
    assert records.claim(nothing) is None
    process.kill()
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert records.claim(nothing) is not None
    process.communicate()


def test_a_process_that_began_after_the_trial_is_not_its_worker(folder: Path) -> None:
    records = Records(folder)
    started = psutil.Process().create_time()
    records.put(Record(1, "full", state="running", worker=worker(os.getpid()), began=started - 60))
    taken = records.claim(nothing)
    assert taken is not None and taken.number == 1


@pytest.mark.parametrize(("silent", "dead"), [(110, False), (130, True)])
def test_a_worker_elsewhere_is_dead_after_two_minutes_of_silence(folder: Path, silent: float, dead: bool) -> None:
    records = Records(folder)
    records.put(Record(1, "full", state="running", worker=worker(1, "elsewhere"), began=time.time()))
    touched = time.time() - silent
    os.utime(folder / "0001.json", (touched, touched))
    assert (records.claim(nothing) is not None) == dead


def test_a_beat_is_a_sign_of_life_and_touches_the_file_at_most_every_two_seconds(folder: Path) -> None:
    records = Records(folder)
    record = Record(1, "full", state="running", worker=worker(1, "elsewhere"), began=time.time())
    records.put(record)
    for expected in (True, False):
        os.utime(folder / "0001.json", (1e9, 1e9))
        records.beat(record)
        assert ((folder / "0001.json").stat().st_mtime > 1e9) == expected
    assert records.all() == [record]


def test_a_trial_that_keeps_killing_its_workers_is_given_up(folder: Path, gone: int) -> None:
    records = Records(folder)
    for deaths in range(1, record_module.MAX_DEATHS):
        lost = replace(a_trial(()), number=1, state="running", worker=worker(gone), began=1.0, deaths=deaths - 1)
        (folder / "0001.json").unlink(missing_ok=True)
        records.put(lost)
        assert records.claim(nothing) is not None
    (folder / "0001.json").unlink()
    records.put(replace(lost, deaths=record_module.MAX_DEATHS - 1))
    assert records.claim(nothing) is None
    (given_up,) = records.all()
    assert given_up.state == "failed" and given_up.why == "3 workers died at it"


def test_a_worker_whose_trial_was_taken_up_by_another_writes_nothing_more(folder: Path) -> None:
    records = Records(folder)
    slow = Record(1, "full", state="running", worker=worker(1, "elsewhere"), began=5.0)
    records.put(slow)
    os.utime(folder / "0001.json", (1e9, 1e9))
    taken = Records(folder).claim(nothing)
    assert taken is not None
    assert not records.put(replace(slow, state="done", value=1.0))
    assert records.all() == [taken]
    assert records.put(replace(taken, state="done", value=2.0))


def test_a_torn_or_unknown_file_is_skipped_and_told_and_its_number_is_not_given_again(folder: Path) -> None:
    records = Records(folder)
    for _ in range(5):
        records.claim(a_trial)
    good = (folder / "0005.json").read_text()
    (folder / "0002.json").write_text(good[:40])
    (folder / "0003.json").write_text(good.replace('"number": 5', '"number": 3').replace('"running"', '"resting"'))
    (folder / "0004.json").write_text(good)
    (folder / "0006.json").write_bytes(b"\xff\x00")
    (folder / "0007.json").write_text("[]")
    (folder / "0008.json").write_text(good.replace('"number": 5', '"number": 8, "mood": 1'))
    assert [record.number for record in records.all()] == [1, 5]
    told = records.unread()
    assert sorted(told) == ["0002.json", "0003.json", "0004.json", "0006.json", "0007.json", "0008.json"]
    assert "resting" in told["0003.json"] and "trial 5" in told["0004.json"] and "mood" in told["0008.json"]
    new = records.claim(a_trial)
    assert new is not None and new.number == 9
    (folder / "0002.json").write_text(good.replace('"number": 5', '"number": 2'))
    assert [record.number for record in records.all()] == [1, 2, 5, 9] and "0002.json" not in records.unread()


def test_only_files_that_changed_are_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records, other = Records(folder), Records(folder)
    for _ in range(4):
        last = records.claim(a_trial)
    assert last is not None
    records.all()
    read: list[str] = []
    parsed: Callable[[Path], Record | str] = record_module._parsed
    monkeypatch.setattr(record_module, "_parsed", lambda path: (read.append(path.name), parsed(path))[1])
    records.all()
    assert read == []
    other.put(replace(last, seed=7))  # of the same size
    read.clear()
    assert records.all()[-1].seed == 7
    assert read == ["0004.json"]


def test_what_a_killed_worker_left_half_written_is_swept_away(folder: Path) -> None:
    records = Records(folder)
    (folder / ".0001.json.77.tmp").write_text("{")
    records.claim(a_trial)
    assert not list(folder.glob("*.tmp")) and not list(folder.glob(".*.tmp"))


@pytest.mark.parametrize("seed", range(5))
def test_workers_killed_at_random_lose_no_trial_and_finish_none_twice(tmp_path: Path, seed: int) -> None:
    generator, num_trials, diary = random.Random(seed), 40, tmp_path / "diary"

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, str(WORKER), str(tmp_path / "trials"), str(num_trials), str(diary)]
        return subprocess.Popen(command)

    workers, killed = [start() for _ in range(3)], []
    for _ in range(2):  # with the two, no trial can lose three workers
        while not diary.exists():
            time.sleep(0.01)
        time.sleep(generator.uniform(0, 0.1))
        killed.append(workers.pop(generator.randrange(len(workers))))
        killed[-1].send_signal(signal.SIGKILL)
        workers.append(start())
    assert [process.wait() for process in workers] == [0, 0, 0]
    for process in killed:
        process.wait()
    records = Records(tmp_path / "trials")
    assert records.claim(nothing) is None
    ended = records.all()
    assert [(record.number, record.state) for record in ended] == [(n, "done") for n in range(1, num_trials + 1)]
    assert sorted(record.params["x"] for record in ended) == list(range(1, num_trials + 1))
    assert all(record.reports == ((1, 1.0), (2, 2.0), (3, 3.0)) for record in ended) and not records.unread()
    finished = [int(line) for line in diary.read_text().split()]
    assert len(finished) == len(set(finished)), "a trial was finished twice"


def test_a_record_that_is_done_gets_the_next_number_and_takes_no_trial_that_waits(folder: Path) -> None:
    records = Records(folder)
    first = records.claim(a_trial)
    assert first is not None
    records.put(replace(first, state="waiting"))
    added = records.add(replace(first, state="done", role="finalist", value=0.5))
    assert (added.number, added.value) == (2, 0.5)
    assert [(record.number, record.state) for record in records.all()] == [(1, "waiting"), (2, "done")]
