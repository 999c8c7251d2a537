"""Runs of several seeds: one split, one delivered model, and scores that say what chance in training does."""

from __future__ import annotations

import json
import statistics

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

import tunesmith
from tunesmith.delivery.summary import summary
from tunesmith.errors import RecipeError
from tunesmith.evaluation.resampled import over_seeds
from tunesmith.study import several
from tunesmith.testing import tiny_model, tiny_rows

TINY = ["train.length=2 epochs", "train.batch=8", "model.head=pooled", "train.precision=fp32", "train.lr=3e-3"]
SPLIT = "data.split=hash"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="module")
def fitted(folder, tmp_path_factory):
    """The Run of seeds 7, 8 and 9, and what was told."""
    told: list[str] = []
    out = tmp_path_factory.mktemp("runs") / "run"
    options = {"settings": [*TINY, SPLIT], "device": "cpu", "tell": told.append}
    return tunesmith.fit(tiny_rows(90, 3), folder, seed=7, seeds=3, out=out, **options), told


def others(run):
    return [tunesmith.run.Run(run.seeds / str(seed)) for seed in (8, 9)]


def test_the_delivered_model_is_that_of_the_first_seed_as_a_run_of_it_alone_makes_it(fitted, folder, tmp_path):
    run, _ = fitted
    options = {"settings": [*TINY, SPLIT], "device": "cpu", "quiet": True}
    alone = tunesmith.fit(tiny_rows(90, 3), folder, seed=7, out=tmp_path / "alone", **options)
    own, other = load_file(run.weights), load_file(alone.weights)
    assert all(torch.equal(own[name], other[name]) for name in own)
    assert run.scores["test"]["accuracy"]["value"] == alone.scores["test"]["accuracy"]["value"]
    assert run.scores["test"]["accuracy"]["low"] == alone.scores["test"]["accuracy"]["low"], "over the rows, as ever"


def test_the_split_is_the_same_for_all_seeds_and_the_training_is_not(fitted):
    run, _ = fitted
    splits = [pq.read_table(one.path / "split.parquet").to_pylist() for one in (run, *others(run))]
    assert splits[0] == splits[1] == splits[2]
    assert [one.recipe.seed for one in (run, *others(run))] == [7, 8, 9]
    assert [one.recipe.evaluate.seeds for one in (run, *others(run))] == [3, 1, 1]
    events = [(one.path / "events.jsonl").read_text().splitlines() for one in (run, *others(run))]
    first = [next(json.loads(line)["loss"] for line in lines if '"event": "step"' in line) for lines in events]
    assert len({*first}) == 3


def test_each_metric_says_its_values_their_mean_with_an_interval_and_their_spread(fitted):
    run, _ = fitted
    for part in ("valid", "test"):
        for name in ("accuracy", "log_loss", "f1_macro"):
            found = run.scores[part][name]
            assert found["seeds"] == [found["value"], *(one.scores[part][name]["value"] for one in others(run))]
            assert found["spread"] == pytest.approx(statistics.stdev(found["seeds"]))
            mean, reach = statistics.mean(found["seeds"]), 4.302653 * found["spread"] / 3**0.5
            assert found["mean"] == pytest.approx({"value": mean, "low": mean - reach, "high": mean + reach})
    assert len({*run.scores["test"]["log_loss"]["seeds"]}) == 3
    assert "seeds" not in run.scores["test"]["baselines"]["majority"]["accuracy"], "they are the same for every seed"


def test_a_seed_keeps_what_it_showed_and_no_weights(fitted):
    run, _ = fitted
    assert sorted(path.name for path in run.seeds.iterdir()) == ["8", "9"]
    for one in others(run):
        assert sorted(path.name for path in one.path.iterdir()) == sorted(several.KEPT)
        assert (one.path / "predictions" / "test.parquet").is_file()


def test_summary_card_and_messages_say_what_the_seeds_have_in_common(fitted):
    run, told = fitted
    seeds = [line.split(":")[0] for line in told if line.startswith("seed ")]
    assert seeds == ["seed 8 (1 of 2 more)", "seed 9 (2 of 2 more)"] and len(told) == len({*told})
    for text in (summary(run), (run.path / "README.md").read_text()):
        assert f"over 3 seeds: test accuracy {run.scores['test']['accuracy']['mean']['value']:.3f} [" in text
        assert "covers chance in training on these rows" in text
    assert "`seeds/`" in (run.path / "README.md").read_text()


def test_other_verbs_take_the_run(fitted):
    run, _ = fitted
    assert tunesmith.predict(run, tiny_rows(9, 3, seed=4)).num_rows == 9
    assert tunesmith.fit(resume=run, tell=str) == run, "complete: nothing to resume"


def test_folds_and_seeds_together_and_less_than_one_seed_are_refused(folder, tmp_path):
    with pytest.raises(RecipeError, match=r'"evaluate\.seeds" beside data\.split = kfold'):
        settings = ['data.split={name="kfold", k=3}']
        tunesmith.fit(tiny_rows(60, 3), folder, seeds=2, settings=settings, out=tmp_path / "run", quiet=True)
    with pytest.raises(RecipeError, match=r"evaluate\.seeds"):
        tunesmith.fit(tiny_rows(60, 3), folder, seeds=0, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_seeds_are_no_argument_of_a_resume(fitted):
    with pytest.raises(RecipeError, match="--seeds has no effect with --resume"):
        tunesmith.fit(resume=fitted[0], seeds=2)


def test_check_counts_the_trainings_and_the_time_of_all(folder):
    settings = [*TINY, SPLIT, "evaluate.seeds=4"]
    found = tunesmith.check(tiny_rows(90, 3), folder, settings=settings, device="cpu", tell=str)
    assert (found.folds, found.seeds) == (0, 3) and "4 trainings: one a seed" in str(found)


def test_the_interval_of_the_mean_holds_the_true_mean_as_often_as_it_says():
    import numpy as np

    random = np.random.default_rng(0)
    means = [over_seeds(values)["mean"] for values in random.normal(0.8, 0.02, (1000, 5)).tolist()]
    assert 0.93 < np.mean([mean["low"] <= 0.8 <= mean["high"] for mean in means]) < 0.97


def test_values_that_rows_do_not_define_are_kept_as_such():
    assert over_seeds([None, 0.5]) == {
        "seeds": [None, 0.5],
        "mean": {"value": 0.5, "low": None, "high": None},
        "spread": None,
    }
