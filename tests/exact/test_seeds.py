"""Runs of several seeds that are stopped: what is done is kept, what was begun goes on, and the scores are the same."""

from __future__ import annotations

import json
import signal

import pytest
import torch
from safetensors.torch import load_file

from tunesmith.testing import tiny_model, tiny_rows


@pytest.fixture(scope="module")
def begin(tmp_path_factory, write_rows, process, settings):
    place = tmp_path_factory.mktemp("seeds")
    tiny_model(place / "model", hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.2)
    write_rows(place / "rows.csv", tiny_rows(60, 3))

    def run(out, **order):
        asked = settings(**{"train.length": "12 steps", "train.every.save": "3 steps"})
        return process(
            "fit", place / "rows.csv", "--model", place / "model", "--out", out, "--seeds", 3, *asked, **order
        )

    return run


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, begin):
    out = tmp_path_factory.mktemp("unbroken") / "run"
    code, text = begin(out)
    assert code == 0, text
    return out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGKILL, -9)])
def test_a_run_stopped_in_its_second_seed_goes_on_there(number, code, tmp_path, begin, process, unbroken):
    run = tmp_path / "run"
    found, text = begin(run, signal=number, step=7, time=2)
    assert found == code, text
    assert "seed 1 (1 of 2 more):" in text and "seed 2 (2 of 2 more):" not in text
    if number != signal.SIGKILL:
        assert f"interrupted in seed 2 (2 of 2 more); continue with: tunesmith fit --resume {run}\n" in text
    first = (run / "seeds" / "1" / "events.jsonl").read_text()
    found, text = process("fit", "--resume", run)
    assert found == 0, text
    assert (run / "seeds" / "1" / "events.jsonl").read_text() == first, "it was not run again"
    steps = [json.loads(line) for line in (run / "seeds" / "2" / "events.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps if line["event"] == "step"] == list(range(1, 13))
    own, others = (load_file(folder / "tunesmith.safetensors") for folder in (run, unbroken))
    assert all(torch.equal(own[name], others[name]) for name in own)
    for name in ("scores.json", "seeds/1/scores.json", "seeds/2/scores.json"):
        assert (run / name).read_text() == (unbroken / name).read_text(), name
