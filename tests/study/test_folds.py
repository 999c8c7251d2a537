"""k-fold runs: an ordinary Run for each fold, a delivered model of all rows, and scores that are their mean."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

import tunesmith
from tunesmith.delivery.summary import summary
from tunesmith.errors import DataError, RecipeError
from tunesmith.evaluation.resampled import resampled
from tunesmith.study import several
from tunesmith.testing import tiny_model, tiny_rows

TINY = ["train.length=2 epochs", "train.batch=8", "model.head=pooled", "train.precision=fp32", "train.lr=1e-2"]
KFOLD = 'data.split={name="kfold", k=3}'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="module")
def fitted(folder, tmp_path_factory):
    """The Run of three folds, and what was told."""
    told: list[str] = []
    out = tmp_path_factory.mktemp("runs") / "run"
    run = tunesmith.fit(tiny_rows(60, 3), folder, settings=[*TINY, KFOLD], out=out, device="cpu", tell=told.append)
    return run, told


def held_out(run):
    parts = [pq.read_table(run.folds / str(number) / "split.parquet").to_pylist() for number in (1, 2, 3)]
    return [{row["id"] for row in rows if row["split"] == "test"} for rows in parts]


def test_each_row_is_tested_in_one_fold_and_the_delivered_model_trains_on_all(fitted):
    run, _ = fitted
    tested = held_out(run)
    assert sum(map(len, tested)) == 60 == len(set().union(*tested))
    sizes = run.read("data.json")["split"]
    assert (sizes["train"] + sizes["valid"], sizes["test"], sizes["how"]) == (60, 0, "kfold")


def test_the_scores_are_the_mean_over_folds_with_the_corrected_interval_and_so_are_the_baselines(fitted):
    run, _ = fitted
    each = [run.folds / str(number) for number in (1, 2, 3)]
    scores = [tunesmith.run.Run(path).scores["test"] for path in each]
    sizes = [tunesmith.run.Run(path).read("data.json")["split"] for path in each]
    ratio = sum(size["test"] for size in sizes) / sum(size["train"] for size in sizes)
    assert ratio == 60 / 111, "of 40 rows 37 train, and one of each class chooses"
    found = run.scores["test"]
    assert found["accuracy"] == resampled([score["accuracy"]["value"] for score in scores], ratio)
    for name, values in found["baselines"].items():
        assert values["accuracy"] == resampled([s["baselines"][name]["accuracy"]["value"] for s in scores], ratio)
    assert found["baselines"].keys() == scores[0]["baselines"].keys() >= {"majority"}
    assert sum(figures["rows"] for figures in found["classes"].values()) == 60
    assert "folds" not in run.scores["valid"]["accuracy"], "its own validation rows are scored as ever"


def test_a_fold_keeps_what_it_showed_and_no_weights(fitted):
    run, _ = fitted
    for number in (1, 2, 3):
        assert sorted(path.name for path in (run.folds / str(number)).iterdir()) == sorted(several.KEPT)
        assert (run.folds / str(number) / "predictions" / "test.parquet").is_file()


def test_a_fold_is_a_run_that_anybody_may_run_alone(fitted, folder, tmp_path):
    run, _ = fitted
    recipe = tunesmith.run.Run(run.folds / "2").recipe
    assert recipe.data.split.name == "fold" and recipe.data.split.options["fold"] == 2
    options = ", ".join(f"{key}={value}" for key, value in recipe.data.split.options.items())
    settings = [*TINY, f'data.split={{name="fold", {options}}}']
    alone = tunesmith.fit(tiny_rows(60, 3), folder, settings=settings, out=tmp_path / "alone", device="cpu", quiet=True)
    one = tunesmith.run.Run(run.folds / "2").scores["test"]["accuracy"]
    assert alone.scores["test"]["accuracy"] == one
    # And its weights can be had again from what it keeps.
    again = tunesmith.fit(tiny_rows(60, 3), resume=run.folds / "2", quiet=True)
    assert again.finished and again.scores["test"]["accuracy"] == one


def test_it_is_told_what_is_run_and_each_line_once(fitted):
    _, told = fitted
    assert [line.split(":")[0] for line in told if line.startswith("fold ")] == [f"fold {n} of 3" for n in (1, 2, 3)]
    assert any(line == "3 folds of 20 to 20 rows" for line in told)
    assert len(told) == len(set(told))


def test_card_and_summary_say_that_the_score_is_a_mean_over_folds(fitted):
    run, _ = fitted
    assert "test accuracy, mean of 3 folds, with 95 % interval:" in summary(run)
    card = (run.path / "README.md").read_text()
    assert "**test** (mean of 3 folds" in card and "corrected resampled t over the folds" in card
    assert "`folds/`" in card


def test_other_verbs_take_the_run(fitted):
    run, _ = fitted
    rows = tiny_rows(9, 3, seed=4)
    assert tunesmith.predict(run, rows).num_rows == 9
    assert tunesmith.evaluate(run, rows, tell=str)["rows"] == 9
    assert tunesmith.fit(resume=run, tell=str) == run, "complete: nothing to resume"


def test_groups_stay_whole_in_every_fold(folder, tmp_path):
    rows = tiny_rows(48, 2) | {"site": [f"site {row // 4}" for row in range(48)]}
    split = 'data.split={name="kfold", k=3, by="site"}'
    settings = [*TINY, split, 'data.inputs=["text"]', "data.target=label"]
    run = tunesmith.fit(rows, folder, settings=settings, out=tmp_path / "run", device="cpu", quiet=True)
    ids = np.array(tunesmith.data.table.Table(**open_arrow(rows)).identified(["text"]).ids())
    for tested in held_out(run):
        sites = {rows["site"][row] for row in np.flatnonzero(np.isin(ids, list(tested)))}
        assert len(tested) == 4 * len(sites)


def open_arrow(rows):
    import pyarrow as pa

    return {"arrow": pa.table(rows), "origin": (("rows", 48),)}


def test_few_rows_may_all_train_and_choose_by_cross_validation_inside_each_fold(folder, tmp_path):
    settings = [*TINY, 'data.split={name="kfold", k=2, valid=0}']
    out = tmp_path / "run"
    run = tunesmith.fit(tiny_rows(24, 2), folder, settings=settings, out=out, device="cpu", quiet=True)
    assert run.read("data.json")["split"] == {"train": 24, "valid": 0, "test": 0, "how": "all"}
    assert {run.measured["length"]["folds"]} == {5}
    assert len(run.scores["test"]["accuracy"]["folds"]) == 2 and run.scores["valid"]["accuracy"]["value"] is not None


@pytest.mark.parametrize("part", ["valid", "test"])
def test_files_of_parts_and_folds_are_refused(part, folder, tmp_path):
    others = {part: tiny_rows(9, 3, seed=1)}
    with pytest.raises(RecipeError, match=f'"data.{part}" beside data.split = kfold'):
        tunesmith.fit(tiny_rows(60, 3), folder, **others, settings=[KFOLD], out=tmp_path / "run", quiet=True)
    for name in ("train", part):
        lines = [",".join(pair) for pair in zip(*tiny_rows(30, 3).values(), strict=True)]
        (tmp_path / "rows").mkdir(exist_ok=True)
        (tmp_path / "rows" / f"{name}.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    with pytest.raises(DataError, match="no folds to make"):
        tunesmith.fit(tmp_path / "rows", folder, settings=[KFOLD], out=tmp_path / "run", quiet=True)


def test_an_error_before_anything_trained_leaves_no_folder(folder, tmp_path, monkeypatch):
    def refused(*_args, **_options):
        raise DataError("no")

    monkeypatch.setattr(several, "run_recipe", refused)
    with pytest.raises(DataError):
        tunesmith.fit(tiny_rows(60, 3), folder, settings=[*TINY, KFOLD], out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_check_counts_the_trainings_and_the_time_of_all(folder):
    def estimate(*settings):
        return tunesmith.check(tiny_rows(60, 3), folder, settings=[*TINY, *settings], device="cpu", tell=str)

    found, plain = estimate('data.split={name="kfold", k=3, repeats=2}'), estimate("data.split=hash")
    assert (found.folds, plain.folds) == (6, 0)
    assert "7 trainings: 6 folds, then all rows" in str(found) and "trainings" not in str(plain)


def test_folds_are_not_pushed_to_the_hub(folder, tmp_path, monkeypatch):
    asked = []

    def stop(recipe, *_args, **_options):
        asked.append(recipe.deliver.push)
        raise DataError("enough")

    monkeypatch.setattr(several, "run_recipe", stop)
    with pytest.raises(DataError):
        settings = [*TINY, KFOLD, "deliver.push=owner/name"]
        tunesmith.fit(tiny_rows(60, 3), folder, settings=settings, out=tmp_path / "run", quiet=True)
    assert asked == [None]
