"""Seeds: pure functions of what they are for."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.seeds import fold, seed_everything


@given(st.integers(0, 2**62), st.lists(st.one_of(st.integers(), st.text())))
def test_a_seed_fits_every_generator(seed, parts):
    assert 0 <= fold(seed, *parts) < 2**63


def test_every_part_and_its_place_matters():
    seeds = [fold(0), fold(1), fold(0, "a"), fold(0, "a", 1), fold(0, 1, "a"), fold(0, "a1"), fold(0, "a", "1", "")]
    assert len(set(seeds)) == len(seeds)


def test_a_seed_is_the_same_in_another_process():
    line = "from tunesmith.seeds import fold; print(fold(7, 'step', 3, 1, 0))"
    told = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True).stdout
    assert int(told) == fold(7, "step", 3, 1, 0)


def test_seeding_decides_what_torch_numpy_and_random_draw():
    def draw():
        seed_everything(2**62 + 5)
        return torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()

    once = draw()
    torch.rand(7)
    assert draw() == once
