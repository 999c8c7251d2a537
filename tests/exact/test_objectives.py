"""Contrastive and consistency runs resume to the bit, and two ranks are one."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from tunesmith.testing import tiny_model, tiny_rows

MORE = {
    "contrastive": {"objective": "contrastive"},
    # No confidence is asked, so that every row without a target counts from the first step.
    "consistency": {"objective": "{name='consistency', confidence=0.0}", "data.augment": "words"},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory, write_rows):
    folder = tmp_path_factory.mktemp("objectives")
    tiny_model(folder / "model", hidden_dropout_prob=0.2)
    tiny_model(folder / "still", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    # One row of 41 is left for the last batch of 8: the second rank has no row with a target.
    write_rows(folder / "rows.csv", tiny_rows(41, 3))
    write_rows(folder / "valid.csv", tiny_rows(12, 3, seed=1))
    # Rows without a target may be longer than any with one.
    write_rows(folder / "more.csv", {"text": [f"{text} {text}" for text in tiny_rows(29, 3, seed=2)["text"]]})
    return folder


@pytest.fixture(scope="module")
def arguments(place, settings):
    """The command line of a fit under an objective; the head has no dropout."""

    def build(name, out, model="model", **others):
        fixed = {"train.length": "16 steps", "train.every.evaluate": "never", "train.every.save": "5 steps"}
        files = {"data.unlabelled": str(place / "more.csv")} if name == "consistency" else {}
        head = '{ name = "pooled", pooling = "mean", dropout = 0.0 }'
        words = ["fit", place / "rows.csv", "--valid", place / "valid.csv", "--model", place / model, "--out", out]
        return [*words, "--quiet", *settings(**{**fixed, **MORE[name], **files, "model.head": head, **others})]

    return build


@pytest.mark.parametrize("name", MORE)
@pytest.mark.parametrize("step", [3, 11])
def test_a_resumed_run_is_bit_equal(name, step, tmp_path, process, arguments, steps_of):
    assert process(*arguments(name, tmp_path / "unbroken"))[0] == 0
    assert process(*arguments(name, tmp_path / "run"), signal=15, step=step)[0] == 75
    code, text = process("fit", "--resume", tmp_path / "run")
    assert code == 0, text
    own, others = (load_file(tmp_path / run / "tunesmith.safetensors") for run in ("run", "unbroken"))
    assert all(torch.equal(own[key], others[key]) for key in own)
    assert steps_of(tmp_path / "run") == steps_of(tmp_path / "unbroken")


@pytest.mark.parametrize("name", MORE)
def test_two_ranks_equal_one(name, tmp_path, process, arguments):
    for ranks in (1, 2):
        code, text = process(*arguments(name, tmp_path / str(ranks), "still", **{"train.lr": "3e-4"}), ranks=ranks)
        assert code == 0, text
    own, others = (load_file(tmp_path / str(ranks) / "tunesmith.safetensors") for ranks in (1, 2))
    assert max(float((own[key] - others[key]).abs().max()) for key in own) < 1e-6


def test_other_rows_without_a_target_are_refused_on_resume(tmp_path, place, process, arguments, write_rows):
    others = {"data.unlabelled": str(tmp_path / "more.csv")}
    write_rows(tmp_path / "more.csv", {"text": tiny_rows(9, 3, seed=3)["text"]})
    assert process(*arguments("consistency", tmp_path / "run", **others), signal=15, step=6)[0] == 75
    write_rows(tmp_path / "more.csv", {"text": tiny_rows(9, 3, seed=4)["text"]})
    code, text = process("fit", "--resume", tmp_path / "run")
    assert code != 0 and "other rows without a target" in text
