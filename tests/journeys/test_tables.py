"""Tables from a file to predictions: fit, load, predict, evaluate, tune further, and every strategy."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import tunesmith as package
from tunesmith.errors import DataError, ModelError

SMALL = ("model.options={width = 8, layers = 3, embedding = 2}", "train.length=2 epochs", "train.lr=1e-2")
TRANSFORMER = ("model.options={width = 8, heads = 2, blocks = 2}", "train.length=2 epochs", "train.lr=1e-2")

LAST = "strategy={name = 'last', stages = 1}"


def _rows(num_rows=240, seed=0):
    """Two classes: the sign of a number, turned where the colour is red."""
    random = np.random.default_rng(seed)
    size, colour = random.normal(size=num_rows).round(3), random.choice(["red", "blue", "green"], num_rows)
    label = np.where((size > 0) ^ (colour == "red"), "yes", "no")
    sizes = [None if row % 9 == 0 else value for row, value in enumerate(size.tolist())]
    days = [f"2024-{1 + row % 12:02}-03" for row in range(num_rows)]
    return {"size": sizes, "colour": colour.tolist(), "day": days, "label": label.tolist()}


def _fit(rows, model="new:mlp", out=None, settings=(), **options):
    given = [*(SMALL if model == "new:mlp" else TRANSFORMER if model == "new:ft_transformer" else ()), *settings]
    told = []
    options = {"target": "label", **options}
    run = package.fit(rows, model, out=out, device="cpu", settings=given, tell=told.append, **options)
    return run, told


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, write_csv):
    """A Run of new:mlp long enough to have learnt the rows, and their file."""
    folder = tmp_path_factory.mktemp("tables")
    file = write_csv(folder / "rows.csv", _rows())
    return _fit(file, out=folder / "run", settings=["train.length=60 epochs"])[0], file


def test_an_mlp_learns_a_table_and_stands_beside_trees(fitted):
    scores = fitted[0].scores["valid"]
    assert scores["accuracy"]["value"] > 0.8
    assert {*scores["baselines"]} == {"majority", "boosted_trees"}
    assert scores["baselines"]["boosted_trees"]["accuracy"]["value"] > 0.8


def test_the_rows_with_missing_values_train_too(fitted):
    data = fitted[0].read("data.json")
    assert sum(data["split"][part] for part in ("train", "valid", "test")) == 240


def test_a_run_answers_a_file_and_a_frame_alike(fitted, tunesmith, tmp_path):
    import pandas

    run, file = fitted
    answer = tunesmith("predict", run.path, file, "-o", tmp_path / "out.csv", "--proba")
    assert answer.code == 0, answer.err
    from_file = pandas.read_csv(tmp_path / "out.csv")
    model = package.load(run)
    frame = pandas.read_csv(file)
    assert model.predict(frame) == from_file["prediction"].tolist()
    assert np.allclose(model.probabilities(frame)[:, 1], from_file[f"probability_{model.labels[1]}"], atol=1e-5)
    assert package.evaluate(run, file)["accuracy"]["value"] > 0.8


BAD = {
    "a column missing": (lambda rows: rows.pop("size"), 'column "size"'),
    "text where numbers were": (lambda rows: rows.update(size=["tall"] * 240), '"size" holds "tall"'),
    "an infinite value": (lambda rows: rows.update(size=[float("inf")] * 240), "infinite"),
    "no date where dates were": (lambda rows: rows.update(day=["soon"] * 240), '"day" holds "soon" where dates'),
}


@pytest.mark.parametrize("spoil, words", BAD.values(), ids=BAD)
def test_rows_of_other_columns_are_refused_with_what_is_wrong(fitted, spoil, words):
    rows = _rows()
    spoil(rows)
    with pytest.raises(DataError) as error:
        package.load(fitted[0]).predict(rows)
    assert words in str(error.value)


def test_rows_without_a_target_are_refused(tmp_path):
    rows = _rows()
    rows["label"][3] = None
    with pytest.raises(DataError, match="row 4"):
        _fit(rows, out=tmp_path / "run")


def test_a_table_without_a_usable_column_is_refused(tmp_path):
    rows = {"text": [f"words {i}" for i in range(40)], "label": ["a", "b"] * 20}
    with pytest.raises(DataError, match="free text"):
        _fit(rows, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("strategy", ["head", "last", "lora", "discriminative"])
def test_a_strategy_moves_the_stages_that_it_names(fitted, strategy, tmp_path):
    choice = LAST if strategy == "last" else f"strategy={strategy}"
    run, told = _fit(fitted[1], fitted[0], tmp_path / "run", settings=["train.length=6 epochs", choice])
    before, after = load_file(fitted[0].weights), load_file(run.weights)
    same = {name for name in before if name in after and torch.equal(before[name], after[name])}
    stem = {name for name in before if ".columns." in name}
    assert stem and (stem <= same) is (strategy in ("head", "last", "lora"))
    assert any("frozen stages run once a row" in line for line in told) is (strategy in ("head", "last"))


def test_a_transformer_fits_with_a_kept_prefix(tmp_path):
    run, _ = _fit(_rows(), "new:ft_transformer", tmp_path / "run")
    again, told = _fit(_rows(), run, tmp_path / "again", settings=["train.length=4 epochs", LAST])
    assert any("frozen stages run once a row" in line for line in told)
    assert len(package.load(again).predict(_rows(5))) == 5


def test_columns_in_common_keep_their_weights_and_their_scale(fitted, tmp_path):
    rows = _rows(120, seed=1)
    rows["weight"] = rows.pop("day") and np.linspace(5, 9, 120).round(2).tolist()
    rows["size"] = [None if value is None else 10 * value for value in rows["size"]]
    run, told = _fit(rows, fitted[0], tmp_path / "run", strategy="head", settings=["train.length=1 epochs"])
    assert any("columns kept: size, colour; new: weight; gone: day; its head is kept" in line for line in told)
    columns = [{column["name"]: column for column in one.network["encoder"]["columns"]} for one in (fitted[0], run)]
    assert columns[0]["size"] == columns[1]["size"] and columns[1]["weight"]["centre"] == pytest.approx(7, abs=0.5)
    weights = [load_file(one.weights) for one in (fitted[0], run)]
    name = next(name for name in weights[0] if name.endswith("columns.numbers_weight"))
    assert torch.equal(weights[0][name][:2], weights[1][name][:2])  # the value of size, and that it is missing
    assert package.load(run).predict(rows)


def test_a_regression_keeps_its_head_for_the_same_target_alone(tmp_path):
    def rows(name, scale):
        x = np.linspace(-1, 1, 120)
        return {"x": x.tolist(), "y": np.sin(9 * x).tolist(), name: (scale * (x + 2)).round(4).tolist()}

    options = {"task": "regression", "settings": ["train.length=40 epochs"]}
    first, _ = _fit(rows("price", 1000), out=tmp_path / "first", target="price", **options)
    assert first.scores["valid"]["r2"]["value"] > 0.9
    options["settings"] = ["train.length=1 steps", "train.lr=1e-9", "train.warmup=never"]
    same, told = _fit(rows("price", 1000), first, tmp_path / "same", target="price", **options)
    assert "its head is kept" in " ".join(told) and same.scores["valid"]["r2"]["value"] > 0.9
    _, told = _fit(rows("weight", 1), first, tmp_path / "other", target="weight", **options)
    assert "newly made: output" in " ".join(told)


def test_a_small_regression_is_cross_validated_in_the_targets_own_unit(tmp_path):
    x = np.linspace(-1, 1, 150)
    rows = {"x": x.tolist(), "price": (1e5 + 1e4 * x).round(1).tolist()}
    run, told = _fit(rows, out=tmp_path / "run", target="price", settings=["train.length=60 epochs"])
    assert any("under 200 rows" in line for line in told)
    found = package.evaluate(run, rows, tell=lambda _line: None)
    error = run.scores["valid"]["rmse"]["value"]
    assert error < 5000 and error == pytest.approx(found["rmse"]["value"], rel=1.0)
    answers = pq.read_table(run.path / "predictions" / "valid.parquet")["prediction"].to_pylist()
    assert min(answers) > 80_000


def test_small_tables_are_cross_validated_trees_too(tmp_path):
    run, told = _fit(_rows(60), out=tmp_path / "run")
    assert any("cross-validation" in line for line in told)
    assert "boosted_trees" in run.scores["valid"]["baselines"]


def test_several_labels_are_learnt_from_a_table(tmp_path):
    rows = _rows()
    pairs = zip(rows["label"], rows["colour"], strict=True)
    rows["label"] = [[colour, "yes"] if label == "yes" else [colour] for label, colour in pairs]
    run, _ = _fit(rows, out=tmp_path / "run")
    assert run.recipe.task.name == "multilabel"
    assert run.scores["valid"]["baselines"]["boosted_trees"]["f1_micro"]["value"] > 0.8


def test_check_tells_the_cost_of_a_table(fitted):
    shown = str(package.check(fitted[1], "new:mlp", target="label", settings=list(SMALL), tell=lambda _line: None))
    assert "stem" in shown and "table columns found" in shown


def test_a_stopped_run_ends_in_the_weights_of_one_that_was_not(tmp_path, fitted, killed):
    settings = ["train.length=3 epochs", "train.every.save=4 steps"]
    whole, _ = _fit(fitted[1], out=tmp_path / "whole", settings=settings)
    with killed(3):
        _fit(fitted[1], out=tmp_path / "cut", settings=settings)
    cut = package.fit(resume=tmp_path / "cut", quiet=True)
    weights = [load_file(run.weights) for run in (whole, cut)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


class Own(nn.Module):
    """A person's own network that takes one tensor."""

    def __init__(self, width):
        super().__init__()
        self.first, self.last = nn.Linear(width, 8), nn.Linear(8, 7)

    def forward(self, rows):
        return self.last(self.first(rows).relu())


class Apart(Own):
    """One that takes numbers and categories."""

    def forward(self, numbers, categories):
        return super().forward(torch.cat([numbers, categories.float()], 1))


def test_a_persons_own_network_reads_one_matrix_or_both_parts(tmp_path):
    rows, settings = _rows(), ["data.inputs=['size','colour']", "train.length=2 epochs"]
    for net, flat, keys in ((Own(2 + 5), True, ["x"]), (Apart(2 + 1), False, ["numbers", "categories"])):
        run, _ = _fit(rows, net, tmp_path / type(net).__name__, settings=settings)
        model = package.load(run, model=net)
        assert run.network["encoder"]["flat"] is flat and [*model.loaded.encoder.blank(1)] == keys
        assert len(model.predict(rows)) == 240


def test_only_nets_of_columns_can_be_tuned_on_other_columns(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    lines = (
        "from torch import nn\n\ndef net():\n    return nn.Sequential(nn.Linear(7, 8), nn.ReLU(), nn.Linear(8, 2))\n"
    )
    (tmp_path / "own_table_net.py").write_text(lines)
    settings = ["data.inputs=['size','colour']", "model.trust=true", "train.length=1 epochs"]
    run, _ = _fit(_rows(), "code:own_table_net:net", tmp_path / "run", settings)
    assert len(package.load(run).predict(_rows())) == 240
    with pytest.raises(ModelError, match="tuned on other columns"):
        _fit(_rows(), run, tmp_path / "more")


@pytest.mark.real
def test_a_real_table_is_learnt_far_better_than_by_its_mean(real_data, tmp_path):
    file = real_data("wine_quality_red") / "winequality-red.csv"
    settings = ["train.length=3 epochs", "train.lr=1e-2"]
    run, _ = _fit(file, out=tmp_path / "run", target="quality", task="regression", settings=settings)
    scores = run.scores["valid"]
    assert scores["rmse"]["value"] < 0.95 * scores["baselines"]["mean"]["rmse"]["value"]
