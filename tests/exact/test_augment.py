"""Augmented and mixed runs resume to the bit, and micro-batches and ranks change nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tunesmith.testing import tiny_pictures

PICTURES = "{name='images', erase=0.5, mixup=0.2, cutmix=1.0}"
CELLS = "{name='columns', mixup=0.5}"


@pytest.fixture(scope="module")
def place(tmp_path_factory, write_rows):
    folder = tmp_path_factory.mktemp("augmented")
    tiny_pictures(folder / "pictures", 21)
    random = np.random.default_rng(0)
    columns = {name: random.normal(size=45).round(3).tolist() for name in ("a", "b")}
    kinds = [["x", "y", "z"][row % 3] for row in range(45)]
    write_rows(folder / "rows.csv", {**columns, "kind": kinds, "label": [row % 2 for row in range(45)]})
    return folder


@pytest.fixture(scope="module")
def arguments(place, settings):
    """The command line of a fit of pictures or of a table."""

    def build(what, out, **others):
        names = {"model.head": "own", "train.length": "14 steps", "train.every.save": "4 steps"}
        names |= {"train.every.evaluate": "never", "train.lr": "1e-3"}
        if what == "pictures":
            data, net = place / "pictures", "new:cnn"
            names |= {"data.augment": PICTURES, "model.options": "{channels = 4, layers = 2, norm = 'none'}"}
        else:
            data, net = place / "rows.csv", "new:mlp"
            names |= {"data.augment": CELLS, "model.options": "{layers = 1, width = 8, dropout = 0.0}"}
        return ["fit", data, "--model", net, "--out", out, "--quiet", *settings(**names | others)]

    return build


def weights(run):
    return load_file(run / "tunesmith.safetensors")


@pytest.mark.parametrize("what", ["pictures", "table"])
def test_a_resumed_run_is_bit_equal(what, tmp_path, process, arguments, steps_of):
    code, text = process(*arguments(what, tmp_path / "unbroken"))
    assert code == 0, text
    assert process(*arguments(what, tmp_path / "run"), signal=15, step=7)[0] == 75
    assert process("fit", "--resume", tmp_path / "run")[0] == 0
    own, others = weights(tmp_path / "run"), weights(tmp_path / "unbroken")
    assert all(torch.equal(own[key], others[key]) for key in own)
    assert steps_of(tmp_path / "run") == steps_of(tmp_path / "unbroken")


@pytest.mark.parametrize("what", ["pictures", "table"])
def test_micro_batches_and_ranks_mix_the_same_rows(what, tmp_path, process, arguments):
    for name, order in {"3": {}, "8": {"train.micro": 8}, "ranks": {}}.items():
        options = {"ranks": 2} if name == "ranks" else {}
        code, text = process(*arguments(what, tmp_path / name, **order), **options)
        assert code == 0, text
    one = weights(tmp_path / "3")
    for name in ("8", "ranks"):
        others = weights(tmp_path / name)
        assert max(float((one[key] - others[key]).abs().max()) for key in one) < 1e-4, name
