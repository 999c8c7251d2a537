"""Keras models from file or memory to the Run: strategies, cache, resume, and the file that plain Keras loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from keras import layers
from PIL import Image

import tunesmith
from tunesmith.errors import ModelError, RecipeError
from tunesmith.testing import tiny_pictures

FAST = ("train.length=6 steps", "train.lr=1e-2", 'evaluate.metrics=["accuracy"]')
PLAIN = """
import sys
sys.modules["tunesmith"] = None
import keras, numpy as np
print(keras.saving.load_model(sys.argv[1]).predict(np.load(sys.argv[2]), verbose=0).tolist())
"""
"""What a person runs who has Keras and not Tunesmith."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for part, number in (("train", 12), ("valid", 4), ("test", 4)):
        tiny_pictures(folder / part, number, seed=number)
    return folder


def model(*first):
    keras.utils.set_random_seed(0)
    conv = layers.Conv2D(6, 3, activation="relu")
    block = [layers.Conv2D(6, 3, activation="relu"), layers.BatchNormalization(), layers.Dropout(0.2, seed=1)]
    end = [layers.GlobalAveragePooling2D(), layers.Dense(5, activation="softmax", name="top")]
    return keras.Sequential([keras.Input((20, 24, 3)), *first, conv, *block, *end])


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "net.keras"
    model().save(path)
    return path


def fit(data, model, out, *settings, **options):
    return tunesmith.fit(data, model, out=out, settings=[*FAST, *settings], quiet=True, **options)


def in_plain_keras(run, images, tmp_path):
    """What the file that the Run left gives in a process that cannot import tunesmith."""
    np.save(tmp_path / "images.npy", images)
    command = [sys.executable, "-c", PLAIN, str(run.model / "model.keras"), str(tmp_path / "images.npy")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": ""})
    assert done.returncode == 0, done.stderr
    return np.array(json.loads(done.stdout.splitlines()[-1]))


def test_a_file_is_tuned_and_left_as_a_file_that_plain_keras_loads_with_equal_outputs(file, pictures, tmp_path):
    copied = tmp_path / "net.keras"
    copied.write_bytes(file.read_bytes())
    run = fit(pictures, copied, tmp_path / "run", "strategy=full", "train.length=20 steps")
    assert run.scores["test"]["accuracy"]["value"] > 0.6
    copied.unlink()  # The Run must not need it.
    files = sorted((pictures / "test").rglob("*.png"))
    ours = tunesmith.load(run).probabilities([str(one) for one in files])
    images = np.stack([np.asarray(Image.open(one)) for one in files]).astype(np.float32)
    assert np.abs(in_plain_keras(run, images, tmp_path) - ours).max() < 1e-5


def test_a_model_in_memory_is_copied_and_not_asked_for_again(pictures, tmp_path):
    own = model()
    before = own.get_weights()
    run = fit(pictures, own, tmp_path / "run", "strategy=full")
    assert all(np.array_equal(one, two) for one, two in zip(before, own.get_weights(), strict=True))
    assert tunesmith.evaluate(run, pictures / "test", tell=lambda _line: None)["rows"] == 12
    readme = (run.path / "README.md").read_text()
    assert "model.keras" in readme and "hand it over" not in readme
    lines = readme.split("by keras alone:")[1].split("```")[1].removeprefix("python\n")
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0 and "[[" in done.stdout, done.stderr


def test_a_run_is_a_pretrained_model_and_so_is_the_file_that_it_left(file, pictures, tmp_path):
    run = fit(pictures, file, tmp_path / "run", "strategy=full", "train.length=20 steps")
    told = []
    settings = [*FAST, "train.length=1 steps", "train.lr=1e-9"]
    again = tunesmith.fit(pictures, run, out=tmp_path / "again", settings=settings, tell=told.append)
    assert any("nothing newly made" in line for line in told)
    assert again.scores["test"]["accuracy"]["value"] == run.scores["test"]["accuracy"]["value"]
    assert tunesmith.load(again).predict([str(pictures / "test" / "red" / "0.png")])
    told.clear()
    tunesmith.fit(pictures, run.model / "model.keras", out=tmp_path / "file", settings=settings, tell=told.append)
    assert any("its own layers scale the pixels" in line for line in told)


@pytest.mark.parametrize("strategy", ["head", "last", "full", "discriminative", "unfreeze", "biases", "norms"])
def test_every_strategy_trains(strategy, file, pictures, tmp_path):
    options = "strategy={name = 'last', stages = 1}" if strategy == "last" else f"strategy={strategy}"
    run = fit(pictures, file, tmp_path / "run", options)
    assert 0.0 <= run.scores["test"]["accuracy"]["value"] <= 1.0
    plan = tunesmith.check(pictures, file, settings=[options], plan=True, tell=lambda _line: None)
    assert plan.phases[-1].trainable > 0


def test_adapters_of_keras_move_alone_and_become_part_of_the_kernels(file, pictures, tmp_path):
    run = fit(pictures, file, tmp_path / "run", "strategy={name = 'lora', rank = 2}", "train.lr=0.01")
    before = {layer.name: layer.get_weights() for layer in keras.saving.load_model(file, compile=False).layers}
    saved = keras.saving.load_model(run.model / "model.keras", compile=False)
    inside = next((layer for layer in saved.layers if isinstance(layer, keras.Model)), saved)
    moved = {layer.name: layer.get_weights() for layer in inside.layers if layer.name in before}
    kernels = [name for name, weights in before.items() if len(weights) == 2 and weights[0].ndim > 1][:-1]
    assert kernels and all(len(moved[name]) == 2 for name in kernels)
    changes = {name: (moved[name][0] - before[name][0]).reshape(-1, before[name][0].shape[-1]) for name in kernels}
    assert max(np.abs(change).max() for change in changes.values()) > 1e-4
    assert all(np.linalg.matrix_rank(change, tol=1e-5) <= 2 for change in changes.values())
    assert all(np.array_equal(moved[name][1], before[name][1]) for name in kernels), "the biases stayed"
    assert tunesmith.load(run).predict([str(pictures / "test" / "red" / "0.png")])
    for settings, said in (("method = 'dora'", "method lora"), ("dropout = 0.1", "without dropout")):
        with pytest.raises(RecipeError, match=said):
            fit(pictures, file, tmp_path / "no", f"strategy={{name = 'lora', {settings}}}")


@pytest.mark.parametrize("head", ["own", "{name = 'pooled', layers = 1, hidden = 5}"])
def test_cached_and_live_training_end_in_the_same_predictions(head, file, pictures, tmp_path):
    found = []
    for cache in ("fp32", "off"):
        settings = ("strategy={name = 'last', stages = 1}", f"train.cache={cache}", f"model.head={head}")
        run = fit(pictures, file, tmp_path / cache, *settings)
        rows = pq.read_table(run.path / "predictions" / "test.parquet")
        found.append(np.stack([rows[name] for name in rows.column_names if name.startswith("probability_")]))
    assert np.allclose(*found, atol=1e-4)
    images = np.stack([np.asarray(Image.open(one)) for one in [pictures / "test" / "red" / "0.png"]])
    made = keras.saving.load_model(run.model / "model.keras")
    ours = tunesmith.load(run).probabilities([str(pictures / "test" / "red" / "0.png")])
    assert np.allclose(made.predict(images, verbose=0), ours, atol=1e-5)


def test_the_cache_of_frozen_stages_serves_a_second_run(file, pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    told = []
    for name in ("one", "two"):
        settings = [*FAST, "strategy=head"]
        tunesmith.fit(pictures, file, out=tmp_path / name, settings=settings, tell=told.append)
    assert "48 found on disk" in [line for line in told if "run once a row" in line][1]


@pytest.mark.parametrize("memory", [False, True])
def test_a_run_that_was_killed_goes_on_to_the_same_weights(memory, file, pictures, tmp_path, killed):
    settings = ("train.every.save=2 steps", "strategy=full")
    given = model() if memory else file
    whole = fit(pictures, given, tmp_path / "whole", *settings)
    with killed(2):
        fit(pictures, given, tmp_path / "cut", *settings)
    resumed = tunesmith.fit(model=model() if memory else None, resume=tmp_path / "cut", quiet=True)
    one, two = (torch.load(run.model / "model.pth", weights_only=True) for run in (whole, resumed))
    assert one and all(torch.equal(one[name], two[name]) for name in one)


def test_a_regression_on_tensors_gives_values_in_their_own_unit(tmp_path):
    rows = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
    values = 100 + 10 * rows[:, 0]

    class Items(torch.utils.data.Dataset):
        def __len__(self):
            return 60

        def __getitem__(self, row):
            return torch.from_numpy(rows[row]), float(values[row])

    inputs = keras.Input((6,))
    net = keras.Model(inputs, layers.Dense(1)(layers.Dense(8, activation="tanh")(inputs)))
    run = fit(Items(), net, tmp_path / "run", "task=regression", "evaluate.metrics=['mae']", "train.length=40 steps")
    ours = tunesmith.load(run).predictions(Items()).outputs
    theirs = in_plain_keras(run, rows, tmp_path)
    assert np.allclose(ours.reshape(-1), theirs.reshape(-1), atol=1e-3) and 80 < theirs.mean() < 120


def test_a_model_that_scales_its_pixels_is_given_them_raw(pictures, tmp_path):
    run = fit(pictures, model(layers.Rescaling(1 / 127.5, offset=-1)), tmp_path / "run")
    encoder = run.network["encoder"]
    assert encoder["mean"] == [0.0] * 3 and encoder["std"] == [1 / 255] * 3
    images = np.asarray(Image.open(pictures / "test" / "red" / "0.png"))[None]
    made = keras.saving.load_model(run.model / "model.keras")
    ours = tunesmith.load(run).probabilities([str(pictures / "test" / "red" / "0.png")])
    assert np.allclose(made.predict(images, verbose=0), ours, atol=1e-5)


@pytest.mark.parametrize("setting", ["model.weights=x.pth", "model.options={a = 1}"])
def test_settings_without_effect_are_refused(setting, file, pictures, tmp_path):
    with pytest.raises(RecipeError, match="no effect on a Keras model"):
        fit(pictures, file, tmp_path / "run", setting)


def test_a_file_of_another_format_is_refused_before_anything_is_written(pictures, tmp_path):
    (tmp_path / "old.h5").write_bytes(b"")
    with pytest.raises(ModelError, match=r"only \.keras files are opened"):
        fit(pictures, tmp_path / "old.h5", tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Pairs(torch.utils.data.Dataset):
    """Items of two tensors, under the names of the model's inputs."""

    def __init__(self, number):
        self.number = number

    def __len__(self):
        return self.number

    def __getitem__(self, row):
        drawn = torch.Generator().manual_seed(row)
        words = torch.randint(0, 9, (5,), generator=drawn)
        return {"words": words, "numbers": torch.randn(3, generator=drawn) + row % 2, "label": row % 2}


def test_a_model_of_several_inputs_and_of_recurrent_layers_is_tuned_and_left_whole(tmp_path):
    words, numbers = keras.Input((5,), name="words", dtype="int32"), keras.Input((3,), name="numbers")
    read = layers.Bidirectional(layers.LSTM(4, dropout=0.1))(layers.Embedding(9, 4, mask_zero=True)(words))
    both = layers.Concatenate()([read, layers.Dense(4)(numbers)])
    net = keras.Model([words, numbers], layers.Dense(2, activation="softmax")(both))
    run = fit(Pairs(24), net, tmp_path / "run", "strategy={name = 'last', stages = 1}", valid=Pairs(6), test=Pairs(9))
    loaded = tunesmith.load(run)
    assert [stage.name for stage in loaded.loaded.net.stages] == ["stem", "block.0", "block.1", "head"]
    rows = {name: np.stack([Pairs(9)[row][name].numpy() for row in range(9)]) for name in ("words", "numbers")}
    theirs = keras.saving.load_model(run.model / "model.keras").predict(rows, verbose=0)
    assert np.allclose(theirs, loaded.predictions(Pairs(9)).probabilities, atol=1e-5)


def test_the_columns_of_a_table_are_read_by_a_keras_model(tmp_path):
    draw = np.random.default_rng(0)
    rows = {"a": draw.normal(size=200), "b": draw.normal(size=200), "kind": draw.choice(["x", "y"], 200)}
    rows["label"] = np.where(rows["a"] + (rows["kind"] == "x") > 0.5, "yes", "no")
    rows = {name: list(values) for name, values in rows.items()}
    net = keras.Sequential([keras.Input((4,)), layers.Dense(16, activation="relu"), layers.Dense(1)])
    settings = ("data.inputs=['a','b','kind']", "train.length=8 epochs", "data.split=hash")
    with pytest.raises(ModelError, match=r"two rows \(x \(2, 6\)\).*\n.*a first layer for that shape"):
        fit(rows, net, tmp_path / "no", *settings, target="label", task="classification")
    net = keras.Sequential([keras.Input((6,)), layers.Dense(16, activation="relu"), layers.Dense(1)])
    run = fit(rows, net, tmp_path / "run", *settings, target="label", task="classification")
    assert run.scores["test"]["accuracy"]["value"] > 0.8 and "boosted_trees" in run.scores["test"]["baselines"]
    assert len(tunesmith.load(run).predict(rows)) == 200 and (run.model / "model.keras").is_file()
