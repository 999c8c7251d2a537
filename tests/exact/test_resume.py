"""Exact resume: however a run was stopped, it ends in the weights and events of the run that was not."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time

import pytest
import torch
from safetensors.torch import load_file

from tunesmith.run import FIRST, is_free
from tunesmith.testing import tiny_model, tiny_rows

LENGTH = 24
CADENCE = {"train.length": f"{LENGTH} steps", "train.every.save": "3 steps", "train.every.evaluate": "4 steps"}


@pytest.fixture(scope="module")
def place(tmp_path_factory, write_rows):
    folder = tmp_path_factory.mktemp("exact")
    tiny_model(folder / "model", hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.2)
    write_rows(folder / "rows.csv", tiny_rows(75, 3))
    return folder


@pytest.fixture(scope="module")
def begin(place, process, settings):
    """Start a fit at `out`; other settings come by name."""

    def run(out, others=CADENCE, **order):
        options = settings(**others)
        return process(
            "fit", place / "rows.csv", "--model", place / "model", "--out", out, "--quiet", *options, **order
        )

    return run


@pytest.fixture(scope="module")
def unbroken(place, begin):
    """The run that nothing stopped, and the seconds it took."""
    started = time.perf_counter()
    code, text = begin(place / "unbroken")
    assert code == 0, text
    return place / "unbroken", time.perf_counter() - started


@pytest.fixture(scope="module")
def assert_equal(steps_of):
    """Bit-equal weights, the same steps, losses, rates and scores, none of them twice."""

    def check(run, other):
        own, others = (load_file(folder / "tunesmith.safetensors") for folder in (run, other))
        assert own.keys() == others.keys()
        assert all(torch.equal(own[name], others[name]) for name in own)
        assert steps_of(run) == steps_of(other)

    return check


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_saves_and_exits_with_its_code_and_the_resumed_run_is_bit_equal(
    number, code, tmp_path, begin, process, unbroken, assert_equal
):
    step = random.Random(int(number)).randrange(1, LENGTH)
    found, text = begin(tmp_path / "run", signal=number, step=step)
    assert found == code
    assert f"saved at step {step}" in text and "--resume" in text
    found, text = process("fit", "--resume", tmp_path / "run")
    assert found == 0, text
    assert_equal(tmp_path / "run", unbroken[0])


def test_a_run_may_be_stopped_and_resumed_twice(tmp_path, begin, process, unbroken, assert_equal):
    assert begin(tmp_path / "run", signal=signal.SIGTERM, step=5)[0] == 75
    assert process("fit", "--resume", tmp_path / "run", signal=signal.SIGINT, step=17)[0] == 130
    assert process("fit", "--resume", tmp_path / "run")[0] == 0
    assert_equal(tmp_path / "run", unbroken[0])


def test_ctrl_c_saves_even_when_the_recipe_never_saves(tmp_path, begin, process, unbroken, assert_equal):
    never = CADENCE | {"train.every.save": "never"}
    code, text = begin(tmp_path / "run", never, signal=signal.SIGINT, step=7)
    assert code == 130 and "saved at step 7" in text
    assert (tmp_path / "run" / "checkpoints" / "step-00000007").is_dir()
    assert process("fit", "--resume", tmp_path / "run")[0] == 0
    assert_equal(tmp_path / "run", unbroken[0])


def test_a_run_killed_before_its_first_checkpoint_begins_again_without_double_events(
    tmp_path, begin, process, unbroken, assert_equal
):
    assert begin(tmp_path / "run", signal=signal.SIGKILL, step=2)[0] == -signal.SIGKILL
    with open(tmp_path / "run" / "events.jsonl", "a") as events:
        events.write('{"event": "step", "step": 1, "loss": 9.9}\n{"event": "st')
    assert process("fit", "--resume", tmp_path / "run")[0] == 0
    assert_equal(tmp_path / "run", unbroken[0])


def test_a_run_killed_while_it_is_scored_is_only_scored_again(tmp_path, begin, process, unbroken, assert_equal):
    assert begin(tmp_path / "run", signal=signal.SIGKILL, scores=True)[0] == -signal.SIGKILL
    assert not (tmp_path / "run" / "scores.json").exists()
    # A signal at any step would be seen: no step is left.
    code, text = process("fit", "--resume", tmp_path / "run", signal=signal.SIGKILL, step=LENGTH)
    assert code == 0, text
    assert_equal(tmp_path / "run", unbroken[0])


def killed_at_random(seed, run, begin, process, seconds):
    """Kill the run three times at random moments, then let it end."""
    lot = random.Random(seed)
    begin(run, signal=signal.SIGKILL, after=lot.uniform(0.05, 1.0) * seconds)
    for _ in range(2):
        if not (run / "data.json").exists():  # Killed before it had begun: the same command begins it.
            begin(run, signal=signal.SIGKILL, after=lot.uniform(0.2, 1.0) * seconds)
        else:
            process("fit", "--resume", run, signal=signal.SIGKILL, after=lot.uniform(0.05, 1.0) * seconds)
    code, text = process("fit", "--resume", run) if (run / "data.json").exists() else begin(run)
    assert code == 0, text
    assert not list(run.rglob(".*.tmp"))


def test_a_run_killed_at_random_times_is_bit_equal(tmp_path, begin, process, unbroken, assert_equal):
    killed_at_random(0, tmp_path / "run", begin, process, unbroken[1])
    assert_equal(tmp_path / "run", unbroken[0])


def test_a_run_killed_before_it_had_begun_is_begun_by_the_same_command(
    tmp_path, begin, process, unbroken, assert_equal
):
    run = tmp_path / "run"
    run.mkdir()
    for name in FIRST[:3]:
        shutil.copy(unbroken[0] / name, run)
    (run / f".{FIRST[3]}.4711.tmp").write_text("[{")
    code, text = process("fit", "--resume", run)
    assert code == 1 and "stopped before it had begun" in text and "again" in text
    assert begin(run)[0] == 0
    assert_equal(run, unbroken[0])
    code, text = begin(run)
    assert code == 1 and "not empty" in text and f"--resume {run}" in text
    assert not list(run.glob(".*.tmp"))


BEGUN = [FIRST[:count] for count in range(5)] + [(".recipe.toml.7.tmp",)]
TAKEN = [("recipe.toml",), (".mine.7.tmp",), (*FIRST, "mine.txt"), (*FIRST, "data.json")]


@pytest.mark.parametrize(("names", "free"), [(names, True) for names in BEGUN] + [(names, False) for names in TAKEN])
def test_a_run_begins_where_nothing_is_or_only_what_a_killed_one_left(names, free, tmp_path):
    for name in names:
        (tmp_path / name).touch()
    assert is_free(tmp_path) == free
    assert not is_free(tmp_path / names[0]) if names else is_free(tmp_path / "absent")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 13))
def test_a_run_killed_at_many_random_times_is_bit_equal(seed, tmp_path, begin, process, unbroken, assert_equal):
    killed_at_random(seed, tmp_path / "run", begin, process, unbroken[1])
    assert_equal(tmp_path / "run", unbroken[0])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


DAMAGES = {
    "a flipped bit": ("weights.safetensors", flip),
    "a truncated file": ("optimizer.pt", lambda path: path.write_bytes(path.read_bytes()[:-100])),
    "a lost file": ("state.json", lambda path: path.unlink()),
    "a lost manifest": ("manifest.json", lambda path: path.unlink()),
}


@pytest.fixture(scope="module")
def stopped(place, begin):
    """A run that was stopped at step 16, with checkpoints at 15 and 16."""
    assert begin(place / "stopped", signal=signal.SIGTERM, step=16)[0] == 75
    return place / "stopped"


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_told_and_the_one_before_is_used(
    damage, tmp_path, stopped, process, unbroken, assert_equal
):
    run = shutil.copytree(stopped, tmp_path / "run")
    name, spoil = DAMAGES[damage]
    spoil(run / "checkpoints" / "step-00000016" / name)
    code, text = process("fit", "--resume", run)
    assert code == 0, text
    assert "step-00000016 is damaged; continuing from" in text and "step-00000015" in text
    assert_equal(run, unbroken[0])


def test_damaged_best_weights_never_become_the_result(tmp_path, stopped, process, unbroken, assert_equal):
    run = shutil.copytree(stopped, tmp_path / "run")
    for best in (run / "checkpoints").glob("best-*"):
        flip(best)
    code, text = process("fit", "--resume", run)
    assert code == 0, text
    assert "is damaged; continuing from the beginning" in text
    assert_equal(run, unbroken[0])


def test_a_disk_without_space_is_told_and_the_former_checkpoint_stays(
    tmp_path, stopped, process, unbroken, assert_equal
):
    run = shutil.copytree(stopped, tmp_path / "run")
    code, text = process("fit", "--resume", run, file_bytes=20_000)
    assert code == 1, text
    assert "could not be written" in text and "free some disk space" in text and "Traceback" not in text
    names = {path.name for path in (run / "checkpoints").iterdir()}
    assert {"step-00000015", "step-00000016"} <= names and not [name for name in names if name.endswith(".tmp")]
    assert process("fit", "--resume", run)[0] == 0
    assert_equal(run, unbroken[0])


def test_resuming_with_other_rows_is_refused(tmp_path, place, stopped, process):
    run = shutil.copytree(stopped, tmp_path / "run")
    rows = place / "rows.csv"
    before = rows.read_text()
    try:
        rows.write_text(before.replace("apple", "lemon"))
        code, text = process("fit", "--resume", run)
    finally:
        rows.write_text(before)
    assert code == 1
    assert "cannot continue: there are other rows than when the run began" in text
    assert (run / "checkpoints" / "step-00000016").is_dir()


def test_a_run_stopped_at_the_step_of_its_early_stop_trains_no_further(tmp_path, begin, process, assert_equal):
    early = CADENCE | {"train.lr": "1e-9", "train.patience": 2, "train.length": "40 steps"}
    assert begin(tmp_path / "unbroken", early)[0] == 0
    # No score beats the first, at step 4; two more evaluations and it stops.
    assert begin(tmp_path / "run", early, signal=signal.SIGTERM, step=12)[0] == 75
    assert process("fit", "--resume", tmp_path / "run")[0] == 0
    assert_equal(tmp_path / "run", tmp_path / "unbroken")
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    assert max(event.get("step", 0) for event in events) == 12


def test_a_finished_run_has_nothing_to_resume(process, unbroken):
    code, text = process("fit", "--resume", unbroken[0])
    assert code == 0 and "nothing to resume" in text


def test_a_run_killed_behind_its_temperature_is_divided_by_it_once(tmp_path, begin, process, unbroken, assert_equal):
    divided = CADENCE | {"evaluate.temperature": "2.0"}
    assert begin(tmp_path / "whole", divided)[0] == 0
    assert begin(tmp_path / "run", divided, signal=signal.SIGKILL, scores=True)[0] == -signal.SIGKILL
    assert (tmp_path / "run" / "tunesmith.safetensors").is_file()
    code, text = process("fit", "--resume", tmp_path / "run")
    assert code == 0, text
    assert_equal(tmp_path / "run", tmp_path / "whole")
    own, others = (load_file(folder / "tunesmith.safetensors") for folder in (tmp_path / "run", unbroken[0]))
    assert torch.equal(own["heads.label.output.weight"] * 2, others["heads.label.output.weight"])
