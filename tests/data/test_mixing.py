"""Mixup and cutmix: what is drawn is a function of the step, and inputs and targets are mixed by the same share."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tunesmith.data.mixing import Mix

ROWS = np.arange(100, 164)


def test_what_is_mixed_into_a_row_is_another_of_the_step_and_follows_the_seed_and_the_step():
    mix = Mix(mixup=0.4, cutmix=1.0)
    one, again, other = mix.drawn(ROWS, 1, 5), mix.drawn(ROWS, 1, 5), mix.drawn(ROWS, 1, 6)
    assert sorted(one.others) == list(ROWS) and (one.others != ROWS).mean() > 0.9
    assert (one.others == again.others).all() and (one.share == again.share).all()
    assert (one.others != other.others).any() and (one.share != other.share).any()
    assert 10 < one.cut.sum() < 54, "a lot decides between the two"
    assert not Mix(mixup=0.4).drawn(ROWS, 1, 5).cut.any() and Mix(cutmix=0.4).drawn(ROWS, 1, 5).cut.all()


def test_mixup_is_the_formula_of_the_paper():
    mixture = Mix(mixup=0.2).drawn(ROWS, 0, 0)
    own, other = torch.rand(64, 3, 4, 4), torch.rand(64, 3, 4, 4)
    mixed, share = mixture.mixed({"x": own}, {"x": other})
    wide = torch.from_numpy(mixture.share)[:, None, None, None]
    assert torch.equal(mixed["x"], wide * own + (1 - wide) * other) and torch.equal(share, wide.flatten())
    shares = np.concatenate([Mix(mixup=0.2).drawn(ROWS, 0, step).share for step in range(100)])
    assert shares.mean() == pytest.approx(0.5, abs=0.02)
    assert shares.var() == pytest.approx(0.25 / 1.4, rel=0.05), "of Beta(0.2, 0.2): 1 / (4 (2 a + 1))"


def test_cutmix_puts_a_part_of_the_other_in_place_and_shares_by_its_area():
    mixture = Mix(cutmix=1.0).drawn(ROWS, 0, 0)
    mixed, share = mixture.mixed({"x": torch.zeros(64, 3, 20, 30)}, {"x": torch.ones(64, 3, 20, 30)})
    put_in = mixed["x"]
    assert set(put_in.unique().tolist()) == {0.0, 1.0}
    assert torch.allclose(put_in[:, 0].mean((1, 2)), 1 - share)
    for picture in put_in[:, 0]:
        rows, columns = picture.any(1), picture.any(0)
        assert picture.sum() == rows.sum() * columns.sum(), "one rectangle"
    # A part that reaches over the edge is smaller than what was drawn, never larger but for rounding.
    assert ((1 - share) <= 1 - torch.from_numpy(mixture.share) + 0.08).all()


def test_codes_are_the_rows_own_as_often_as_its_share_says():
    mixture = Mix(mixup=5.0).drawn(np.arange(2000), 0, 0)
    own, other = torch.zeros(2000, 8, dtype=torch.int64), torch.ones(2000, 8, dtype=torch.int64)
    mixed, share = mixture.mixed({"categories": own}, {"categories": other})
    assert (mixed["categories"] == 0).float().mean() == pytest.approx(float(share.mean()), abs=0.02)
    assert np.corrcoef((mixed["categories"] == 0).float().mean(1), share)[0, 1] > 0.5


@pytest.mark.parametrize("mix", [Mix(mixup=1.0), Mix(cutmix=1.0), Mix(mixup=1.0, cutmix=1.0)])
def test_parts_of_a_step_are_mixed_as_the_whole_is(mix):
    mixture = mix.drawn(ROWS, 0, 3)
    own, other = {"x": torch.rand(64, 2, 6, 6)}, {"x": torch.rand(64, 2, 6, 6)}
    whole, share = mixture.mixed(own, other)
    for part in (np.arange(5), np.arange(5, 64)):
        some, shares = mixture.take(part).mixed({"x": own["x"][part]}, {"x": other["x"][part]})
        assert torch.equal(some["x"], whole["x"][part]) and torch.equal(shares, share[part])
