"""The learning curve: nested parts of the training rows, trained as a fit would, scored on the same valid rows."""

from __future__ import annotations

import json
import tempfile
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

import tunesmith
from tunesmith.assemble.rows import Objects, open_rows
from tunesmith.cli import _run
from tunesmith.delivery.drawing import COLOURS
from tunesmith.errors import DataError, Interrupted, RecipeError
from tunesmith.evaluation import intervals
from tunesmith.evaluation.power_law import Outlook
from tunesmith.recipe.schema import Recipe
from tunesmith.study import curve_picture, learning_curve
from tunesmith.study.learning_curve import SHARES, LearningCurve, Point, part_of
from tunesmith.testing import tiny_model, tiny_rows

SETTINGS = ["data.split=hash", "model.head=pooled", "train.precision=fp32", "train.lr=1e-2", "train.length=3 epochs"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="module")
def rows_of():
    """`rows_of(columns)` are the rows of a hash split."""

    def read(columns, **data):
        tree = {"data": {"source": "memory:rows", "split": "hash", **data}, "model": "none"}
        return open_rows(Recipe.model_validate(tree), Objects(columns))

    return read


@pytest.fixture(scope="module")
def checked(folder, tmp_path_factory):
    """The curve of a tiny model, what was told, its picture, and what lay in the folder for temporary files."""
    told, place = [], tmp_path_factory.mktemp("curve")
    before, tempfile.tempdir = tempfile.tempdir, str(place)
    (place / "pictures").mkdir()
    png = place / "pictures" / "there.png"
    try:
        options = {"settings": SETTINGS, "device": "cpu", "tell": told.append}
        found = tunesmith.check(tiny_rows(200, 3), folder, curve=True, png=png, **options)
    finally:
        tempfile.tempdir = before
    return found, told, png, [path.name for path in place.iterdir()]


def test_parts_are_nested_and_stratified_and_the_rows_to_score_on_stay(rows_of):
    columns = tiny_rows(400, 2)
    columns["label"] = ["rare" if row % 50 == 0 else label for row, label in enumerate(columns["label"])]
    rows = rows_of(columns)
    parts = [part_of(rows, share) for share in SHARES]
    whole = np.bincount(rows.codes[rows.split.train])
    for share, part, smaller in zip(SHARES, parts, parts[1:] + parts[-1:], strict=True):
        assert set(smaller.split.train) <= set(part.split.train)
        assert (part.split.valid == rows.split.valid).all() and (part.split.test == rows.split.test).all()
        counts = np.bincount(part.codes[part.split.train], minlength=3)
        assert (np.abs(counts - whole * float(share)) <= 1).all() and (counts >= 1).all()
        assert part.target.counts == tuple(counts) and part.target.labels == rows.target.labels


def test_too_few_rows_and_rows_that_all_train_are_refused_with_a_remedy(rows_of):
    with pytest.raises(DataError, match="training rows are too few"):
        part_of(rows_of(tiny_rows(60, 2)), Fraction(1))
    with pytest.raises(DataError, match=r"no row is set aside to score on: all 90 train\n  -> .*data.split=hash"):
        part_of(rows_of(tiny_rows(90, 2), split="all"), Fraction(1))


def test_each_size_is_trained_and_scored_on_the_same_rows(checked):
    curve, told, _, _ = checked
    sizes = [point.rows for point in curve.points]
    assert len(sizes) == 4 and sizes == sorted(sizes)
    for share, size in zip(reversed(SHARES), sizes, strict=True):
        assert abs(size - float(share) * sizes[-1]) <= 3
    assert all(point.low <= point.value <= point.high for point in curve.points)
    assert curve.metric == "accuracy"
    said = [line.partition(" of the training rows")[0] for line in told if " of the training rows" in line]
    assert said == ["all", "1/2", "1/4", "1/8"]
    assert any(line.startswith(f"{sizes[-1]} train") for line in told), "what is told of the rows is of all of them"


def test_each_size_is_the_fit_that_it_stands_for(checked, folder, tmp_path):
    """The score with all rows is the valid score of the Run that fit would leave."""
    run = tunesmith.fit(tiny_rows(200, 3), folder, settings=SETTINGS, device="cpu", out=tmp_path / "run", quiet=True)
    point = checked[0].points[-1]
    assert {"value": point.value, "low": point.low, "high": point.high} == run.scores["valid"]["accuracy"]


def test_each_size_decides_at_the_threshold_that_a_fit_would_choose(folder, tmp_path):
    rows = tiny_rows(240, 2)
    settings = [*SETTINGS, 'evaluate.metrics=["f1"]', "evaluate.select=f1", "evaluate.threshold=auto"]
    settings += ["train.lr=1e-5", "train.length=2 steps"]
    run = tunesmith.fit(rows, folder, settings=settings, device="cpu", out=tmp_path / "run", quiet=True)
    curve = tunesmith.check(rows, folder, settings=settings, device="cpu", curve=True, tell=str)
    scores = run.scores["valid"]
    assert scores["default_threshold"]["f1"]["value"] != scores["f1"]["value"]
    assert curve.points[-1].value == pytest.approx(scores["f1"]["value"], rel=1e-6)


def test_a_regression_is_scored_in_the_unit_of_its_target(folder, tmp_path):
    columns = tiny_rows(120, 2)
    values = [1000.0 + 50 * (label == "apple") + row % 7 for row, label in enumerate(columns["label"])]
    rows = {"text": columns["text"], "price": values}
    options = {"task": "regression", "settings": [*SETTINGS, "evaluate.select=mae"], "device": "cpu"}
    run = tunesmith.fit(rows, folder, out=tmp_path / "run", quiet=True, **options)
    curve = tunesmith.check(rows, folder, curve=True, tell=str, **options)
    assert curve.metric == "mae"
    assert curve.points[-1].value == pytest.approx(run.scores["valid"]["mae"]["value"], rel=1e-4)


def test_each_size_has_the_settings_that_a_fit_of_so_many_rows_has(folder, monkeypatch):
    resolved, real = [], learning_curve.train

    def seen(job, run, tell, quiet):
        resolved.append((len(job.rows.split.train), job.recipe.train.length))
        return real(job, run, tell, quiet)

    monkeypatch.setattr(learning_curve, "train", seen)
    settings = [*SETTINGS[:-1], "train.batch=8"]
    tunesmith.check(tiny_rows(640, 2), folder, curve=True, settings=settings, device="cpu", tell=str)
    lengths = [int(length.removesuffix(" epochs")) for _, length in sorted(resolved)]
    assert lengths == sorted(lengths, reverse=True) and len(set(lengths)) == 4, "few rows are gone through more often"


def test_no_run_is_left(checked):
    assert checked[-1] == ["pictures"]


def test_what_is_printed_is_a_table_a_picture_and_a_sentence(checked):
    text = str(checked[0])
    assert "valid accuracy, with 95 % interval" in text
    assert all(f"{point.rows:,}  {point.value:.3f} [" in text for point in checked[0].points)
    assert "█" in text and "rows" in text
    assert text.splitlines()[-1].startswith(("twice the rows:", "whether more rows would help cannot be told:"))


def curve_of(outlook):
    recipe = Recipe.model_validate({"data": "rows.csv", "model": "m"})
    values = (0.5, 0.6, 0.66, 0.7)
    points = tuple(Point(100 * 2**n, value, value - 0.05, value + 0.05) for n, value in enumerate(values))
    return LearningCurve(recipe, "accuracy", points, outlook)


RISES = Outlook(1600, 0.73, 0.03, 0.01, 0.05)
FLAT = Outlook(1600, None, 0.2, -0.01, 0.4)


def test_the_sentence_says_what_twice_the_rows_bring_or_that_it_cannot_be_told():
    last = str(curve_of(RISES)).splitlines()[-1]
    assert last.startswith(
        "twice the rows: 1,600 training rows would likely bring accuracy 0.730, +0.030 [+0.010, +0.050]"
    )
    last = str(curve_of(FLAT)).splitlines()[-1]
    assert "cannot be told: from 100 to 800 rows the accuracy changes by +0.200 [-0.010, +0.400]" in last


def test_the_columns_of_the_terminal_rise_with_the_scores_and_what_is_foretold_is_pale():
    lines = curve_picture.blocks("accuracy", curve_of(RISES)._drawn, RISES)[: curve_picture.LINES]
    columns = [[line.partition("| ")[2].ljust(60)[curve_picture.WIDTH * n] for line in lines] for n in range(5)]
    filled = [sum(curve_picture.EIGHTHS.find(cell) for cell in column) for column in columns[:4]]
    assert filled == sorted(filled) and filled[0] == 8 and len(set(filled)) == 4
    assert columns[4] == ["░"] * curve_picture.LINES
    assert not any("░" in line for line in curve_picture.blocks("accuracy", curve_of(FLAT)._drawn, FLAT))


def near(path, colour):
    """Pixels of about this colour."""
    wanted = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)])
    with Image.open(path) as image:
        return int((np.abs(np.asarray(image.convert("RGB"), int) - wanted).max(-1) < 40).sum())


def test_the_picture_shows_the_curve_and_what_is_foretold(tmp_path, checked):
    with Image.open(checked[2]) as image:
        assert (image.format, image.size) == ("PNG", (1000, 600))
    curve_of(RISES).draw(tmp_path / "rises.png")
    curve_of(FLAT).draw(tmp_path / "flat.png")
    assert near(tmp_path / "rises.png", COLOURS[0]) > 500 and near(tmp_path / "flat.png", COLOURS[0]) > 500
    assert near(tmp_path / "rises.png", COLOURS[1]) > 100 and near(tmp_path / "flat.png", COLOURS[1]) == 0


def test_resamples_are_the_same_rows_for_every_model(checked):
    """What makes a difference of two sizes surer than either: the bootstrap draws the same valid rows."""
    from tunesmith.evaluation.predict import Predictions
    from tunesmith.tasks.classification import TASK

    target = TASK.learn(("label",), ["a", "b"] * 20)
    codes = np.arange(40) % 2
    outputs = np.random.default_rng(0).normal(size=(40, 2))
    one = Predictions(np.arange(40).astype(str), codes, outputs, TASK, target)
    drawn = intervals.resamples(one, "accuracy")
    assert len(drawn) == intervals.RESAMPLES and (drawn == intervals.resamples(one, "accuracy")).all()

    def own(truth, predictions):
        return float(np.mean([a == b for a, b in zip(truth, predictions, strict=True)]))

    assert len(intervals.resamples(one, "own", [own])) == intervals.SLOW_RESAMPLES


def test_limits_are_asked_of_all_rows_only(folder):
    columns = tiny_rows(300, 3)
    columns = {name: values + values[:60] for name, values in columns.items()}
    data = "data.limits={dropped = 0.01, duplicates = 0.5}"
    curve = tunesmith.check(columns, folder, curve=True, settings=[*SETTINGS, data], device="cpu", tell=str)
    assert len(curve.points) == 4, "what the curve leaves out is no loss of the data"
    with pytest.raises(DataError, match="more rows than data"):
        tight = [*SETTINGS, "data.limits={duplicates = 0.01}"]
        tunesmith.check(columns, folder, curve=True, settings=tight, device="cpu", tell=str)


def test_an_interruption_says_that_nothing_is_kept(folder, monkeypatch):
    def stopped(*_args, **_options):
        raise Interrupted("saved at step 3; continue with: tunesmith fit --resume /tmp/gone", 130)

    monkeypatch.setattr(learning_curve, "train", stopped)
    with pytest.raises(Interrupted, match="of a learning curve nothing is kept") as caught:
        tunesmith.check(tiny_rows(200, 3), folder, curve=True, settings=SETTINGS, device="cpu", tell=str)
    assert caught.value.code == 130 and "resume" not in str(caught.value)


def test_what_the_command_line_refuses(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = [",".join(pair) for pair in zip(*tiny_rows(80, 2).values(), strict=True)]
    (tmp_path / "rows.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    words = ["check", "rows.csv", "--model", str(folder)]

    def refused(*more):
        assert _run([*words, *more]) == 1
        return capsys.readouterr().err

    assert "answers apart" in refused("--curve", "--lr")
    assert "both name the picture" in refused("--curve", "-o", "a.png", "--png", "b.png")
    assert "--out has no effect without --labels or --curve" in refused("-o", "a.png")
    assert "there is no such folder" in refused("--curve", "-o", "nowhere/a.png")
    assert _run(["check", "rows.csv", "--curve"]) == 1
    assert "--curve is about a model" in capsys.readouterr().err
    with pytest.raises(RecipeError, match="--png has no effect without --lr or --curve"):
        tunesmith.check("rows.csv", folder, png="a.png")


@pytest.mark.parametrize(("option", "name"), [((), "curve.png"), (("-o", "mine.png"), "mine.png")])
def test_the_command_line_draws_where_it_is_told(option, name, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = [",".join(pair) for pair in zip(*tiny_rows(120, 2).values(), strict=True)]
    (tmp_path / "rows.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    assert _run(["check", "rows.csv", "--model", str(folder), "--curve", *option, *settings]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["rows.csv", name])
    assert json.dumps(capsys.readouterr().out).count("valid accuracy") == 1
