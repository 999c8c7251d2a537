"""Likeness of representations, distance of weights, perplexity, and the point that is kept, against known values."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tunesmith import plugins
from tunesmith.delivery import forgetting
from tunesmith.evaluation.perplexity import perplexity
from tunesmith.evaluation.predict import Predictions
from tunesmith.evaluation.similarity import _pooled, distance, linear_cka, stage_features
from tunesmith.models.loaders.language import LanguageModel
from tunesmith.models.loaders.network import of_module
from tunesmith.models.tunable import Tunable
from tunesmith.tasks.task import Target
from tunesmith.training import machine

CPU = machine.start("cpu", "fp32")


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_definition(first, second):
    """Linear CKA with the unbiased HSIC of Song et al. 2012, its sums written out."""

    def hsic(left, right):
        rows = len(left)
        left, right = left - np.diag(np.diag(left)), right - np.diag(np.diag(right))
        ones = np.ones(rows)
        trace = np.trace(left @ right)
        both = (ones @ left @ ones) * (ones @ right @ ones) / ((rows - 1) * (rows - 2))
        mixed = 2 / (rows - 2) * (ones @ left @ right @ ones)
        return (trace + both - mixed) / (rows * (rows - 3))

    one, other = (features.numpy() @ features.numpy().T for features in (first, second))
    return hsic(one, other) / math.sqrt(hsic(one, one) * hsic(other, other))


def test_cka_is_that_of_its_definition():
    first = random(20, 6)
    second = first @ random(6, 4, seed=1) + 0.5 * random(20, 4, seed=2) + 3.0
    expected = by_definition(first, second)
    assert 0.2 < expected < 0.95
    assert linear_cka(first, second) == pytest.approx(expected, rel=1e-9)


@given(seed=st.integers(0, 1000), scale=st.floats(0.01, 100), rows=st.integers(4, 30), width=st.integers(1, 9))
def test_a_rotation_a_scale_and_an_offset_change_nothing(seed, scale, rows, width):
    features = random(rows, width, seed=seed)
    rotation = torch.linalg.qr(random(width, width, seed=seed + 1))[0]
    moved = scale * features @ rotation + random(width, seed=seed + 2)
    assert linear_cka(features, moved) == pytest.approx(1.0, abs=1e-6)
    other = random(rows, 5, seed=seed + 3)
    assert linear_cka(features, other) == pytest.approx(linear_cka(other, features), abs=1e-9)


def test_features_that_have_nothing_to_do_with_each_other_are_unlike_also_where_rows_are_few():
    values = [linear_cka(random(40, 60, seed=seed), random(40, 60, seed=1000 + seed)) for seed in range(20)]
    assert np.mean(values) < 0.05, "the plain estimate would be near 60 / 100"


def test_features_that_are_the_same_for_all_rows_or_of_too_few_rows_have_no_likeness():
    assert linear_cka(torch.full((9, 3), 0.1), random(9, 3)) is None
    assert linear_cka(random(3, 2), random(3, 2)) is None


def test_the_distance_of_weights_is_relative_to_the_start():
    start = [torch.tensor([[3.0, 0.0]]), torch.tensor([4.0])]
    assert distance(start, [torch.tensor([[3.0, 3.0]]), torch.tensor([8.0])]) == pytest.approx(1.0)
    assert distance(start, start) == 0.0
    assert distance([torch.zeros(2)], [torch.ones(2)]) is None


def test_places_that_do_not_count_and_the_side_of_the_channels_do_not_change_what_a_row_is():
    states = random(2, 4, 3)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    torch.testing.assert_close(_pooled(states, mask), torch.stack([states[0, :2].mean(0), states[1].mean(0)]))
    maps = random(2, 7, 5, 5)
    torch.testing.assert_close(_pooled(maps, None), maps.mean((2, 3)))
    torch.testing.assert_close(_pooled(maps.permute(0, 2, 3, 1), None), maps.mean((2, 3)))


def test_features_are_those_of_the_rows_asked_for_in_their_order():
    class Rows:
        lengths = np.array([3, 1, 2, 5])
        values = random(4, 2).float()

        def batch(self, rows):
            return {"x": self.values[rows]}

    layers = [torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh()) for _ in range(3)]
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Sequential(*layers), torch.nn.Linear(2, 2))
    loaded = of_module(net, {"x": torch.zeros(2, 2)}, ["a", "b"], name="memory:net", modality="tensor")
    tunable = Tunable(loaded, "own", {}, 2)
    asked = np.array([2, 0, 3])
    found = stage_features(tunable, Rows(), asked, replace(CPU))
    assert list(found) == ["stem", "block.0", "block.1", "block.2"]
    states = net[0](Rows.values[asked])
    torch.testing.assert_close(found["stem"], states)
    torch.testing.assert_close(found["block.1"], net[1][1](net[1][0](states)))


class Uniform(torch.nn.Module):
    """A language model that finds each of `width` tokens equally likely, and notes what it is asked."""

    def __init__(self, width):
        super().__init__()
        self.width, self.seen = width, []

    def forward(self, input_ids, attention_mask):
        self.seen += [ids[mask.bool()].tolist() for ids, mask in zip(input_ids, attention_mask, strict=True)]
        return type("Output", (), {"logits": torch.zeros(*input_ids.shape, self.width)})


class Letters:
    """A tokenizer of letters between two marks."""

    mask_token_id = 5

    def __call__(self, text, truncation, max_length, return_special_tokens_mask=False):
        ids = [1, *[ord(letter) for letter in text], 2][:max_length]
        return {"input_ids": ids, "special_tokens_mask": [int(token in (1, 2)) for token in ids]}


@pytest.mark.parametrize("masked", [True, False])
def test_who_finds_every_token_equally_likely_wavers_between_all(masked):
    model = LanguageModel(Uniform(120), Letters(), masked, 50)
    assert perplexity(model, ["abc", "defghijklmnop", ""], CPU) == pytest.approx(120.0)


def test_each_token_of_a_masked_model_is_hidden_once_and_no_mark_ever():
    model = LanguageModel(Uniform(120), Letters(), True, 50)
    text = "abcdefghij"
    perplexity(model, [text], CPU)
    assert len(model.module.seen) == 7
    hidden = [place for ids in model.module.seen for place, token in enumerate(ids) if token == 5]
    assert sorted(hidden) == list(range(1, len(text) + 1))


@pytest.fixture
def points():
    """`points(0.9, 0.5, ...)`: a curve whose old accuracy has these values on a hundred rows."""

    def make(*values, metric="accuracy"):
        made = []
        for place, value in enumerate(values):
            if metric == "accuracy":
                task, target = plugins.get("task", "classification"), Target(("y",), ("a", "b"))
                right = np.arange(100) < round(100 * value)
                codes, outputs = np.zeros(100, np.int64), np.where(right[:, None], [[1.0, 0.0]], [[0.0, 1.0]])
            else:
                task, target = plugins.get("task", "regression"), Target(("y",), ("value",))
                codes, outputs = np.zeros(100), np.full((100, 1), value)
            ids = np.arange(100).astype(str)
            share = place / (len(values) - 1)
            made.append(forgetting.Point(share, None, Predictions(ids, codes, outputs, task, target)))
        return made

    return make


def test_kept_is_the_largest_share_that_leaves_so_much_of_the_old_score(points):
    rows = np.arange(100)
    curve = points(0.80, 0.90, 0.71, 0.72, 0.40)
    assert forgetting.kept_point(curve, 0.9, "accuracy", rows).share == 0.75, "0.72 is 0.9 x 0.8 to the last bit"
    assert forgetting.kept_point(curve, 0.95, "accuracy", rows).share == 0.25
    assert forgetting.kept_point(curve, 0.5, "accuracy", rows).share == 1.0
    assert forgetting.kept_point(points(0.8, 0.7, 0.6), 1.0, "accuracy", rows).share == 0.0


def test_of_an_error_it_is_how_much_it_may_rise(points):
    curve = points(2.0, 2.1, 2.3, 1.0, 4.0, metric="rmse")
    assert forgetting.kept_point(curve, 0.9, "rmse", np.arange(100)).share == 0.75
    assert forgetting.kept_point(curve[:3], 0.9, "rmse", np.arange(100)).share == 0.25


def test_the_difference_is_paired_and_worse_is_below_zero(points):
    before, same, after = (point.old for point in points(0.90, 0.90, 0.70))
    found = forgetting.difference(before, after, "accuracy")
    assert found["value"] == pytest.approx(-0.20)
    assert found["low"] < -0.20 < found["high"] < 0
    assert forgetting.difference(before, same, "accuracy") == {"value": 0.0, "low": 0.0, "high": 0.0}
    good, bad = (point.old for point in points(1.0, 2.0, metric="rmse"))
    assert forgetting.difference(good, bad, "rmse")["value"] == pytest.approx(-1.0)
