"""Augmentation that must earn its place: "auto" ends in the weights of the run that names its answer, and says why."""

from __future__ import annotations

import csv
import json
from types import SimpleNamespace

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import tunesmith
from tunesmith.data import word_changes
from tunesmith.errors import ModelError, RecipeError
from tunesmith.models.pretrained import Pretrained
from tunesmith.testing import tiny_image_model, tiny_model, tiny_pictures, tiny_rows

FAST = ("train.length=2 epochs", "train.lr=1e-2", 'evaluate.metrics=["accuracy"]')
SMALL = ("model.options={channels = 8, layers = 2}", "train.length=12 epochs", "train.patience=0")


def corners(folder, num_rows, *, mirrored, by_side, seed):
    """Pictures with a spot that is high or wide (the class), on the left, or on either side; or whose class is the
    side."""
    random = np.random.default_rng(seed)
    for row in range(num_rows):
        label, right = row % 2, by_side and row % 2 == 1
        right = right or (mirrored and not by_side and random.random() < 0.5)
        array = random.integers(0, 60, (16, 16, 3), np.uint8)
        high, wide = ((6, 2), (2, 6))[label if not by_side else int(random.integers(2))]
        top, left = int(random.integers(16 - high)), int(random.integers(7 - wide)) + (9 if right else 0)
        array[top : top + high, left : left + wide] = 250
        place = folder / ["a", "b"][label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(place / f"{row}.png")
    return folder


def fit(data, model, out, *settings, **options):
    told = []
    run = tunesmith.fit(data, model, out=out, settings=[*FAST, *settings], tell=told.append, **options)
    return run, told


def same(run, other):
    own, others = (load_file(one.path / "tunesmith.safetensors") for one in (run, other))
    return own.keys() == others.keys() and all(torch.equal(own[name], others[name]) for name in own)


@pytest.mark.parametrize("by_side", [False, True])
def test_auto_keeps_what_helps_and_leaves_what_harms_out(by_side, tmp_path):
    """Valid pictures have spots on both sides: a mirrored picture helps where the side says nothing, and lies where it
    is the class."""
    data = {"by_side": by_side, "seed": 0}
    train = corners(tmp_path / "train", 40, mirrored=False, **data)
    valid = corners(tmp_path / "valid", 300, mirrored=True, **data | {"seed": 1})
    files = {"valid": str(valid), "test": str(corners(tmp_path / "test", 40, mirrored=True, **data | {"seed": 2}))}
    run, told = fit(train, "new:cnn", tmp_path / "auto", *SMALL, "data.augment=auto", **files)
    found = run.measured["augment"]
    assert found["kept"] is not by_side and found["name"] == "images"
    assert (found["with"] > found["without"]) is not by_side
    line = next(line for line in told if "is kept" in line or "is not kept" in line)
    assert ("is not kept" in line) is by_side and f"{found['with']:.3f} with it" in line
    assert any("trains without and with images" in line and "300 held-out rows" in line for line in told)
    named, _ = fit(train, "new:cnn", tmp_path / "named", *SMALL, *[] if by_side else ["data.augment=images"], **files)
    assert same(run, named) and run.scores["test"]["accuracy"] == named.scores["test"]["accuracy"]
    assert run.recipe.data.augment == "auto", "measured, as the head is"


def test_where_few_rows_judge_auto_asks_folds_of_the_training_rows(tmp_path):
    model = tiny_model(tmp_path / "model")
    with open(tmp_path / "rows.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *zip(*tiny_rows(60, 2).values(), strict=True)])
    run, told = fit(tmp_path / "rows.csv", model, tmp_path / "auto", "data.augment=auto", "data.split=all")
    found = run.measured["augment"]
    assert any("up to 5 times each without and with words" in line and "60 held-out rows" in line for line in told)
    folds = [line.partition(": ")[0] for line in told if "cross-validation: fold" in line]
    assert folds[:4] == ["without words", "with words"] * 2, "in turn, to give up early"
    assert folds.count("without words") == 5, "the answer's own folds give the length as well"
    settings = ["data.augment=words"] if found["kept"] else []
    named, _ = fit(tmp_path / "rows.csv", model, tmp_path / "named", "data.split=all", *settings)
    assert same(run, named) and run.measured["length"] == named.measured["length"]


def test_what_does_not_help_in_the_first_folds_is_given_up(tmp_path):
    data = corners(tmp_path / "data", 120, mirrored=True, by_side=True, seed=0)
    run, told = fit(data, "new:cnn", tmp_path / "auto", *SMALL, "data.augment=auto", "data.split=hash")
    found = run.measured["augment"]
    assert found["with"] <= found["without"] and not found["kept"]
    folds = [line.partition(": ")[0] for line in told if "cross-validation: fold" in line]
    assert folds == ["without images", "with images"] * 2, "the other three folds are left out"
    train = len(pq.read_table(run.path / "split.parquet").filter(pc.field("split") == "train"))
    asked = next(int(line.rpartition(" rows;")[0].rpartition(" ")[2]) for line in told if "is not kept" in line)
    assert asked == pytest.approx(train * 2 / 5, abs=1), "it says how many rows judged"


@pytest.mark.parametrize("kept", [False, True])
def test_a_resumed_run_reads_the_answer_of_auto(kept, tmp_path):
    random = np.random.default_rng(0)
    with open(tmp_path / "rows.csv", "w", newline="", encoding="utf-8") as file:
        rows = random.normal(size=(120, 3)).round(4)
        csv.writer(file).writerows([("a", "b", "y"), *(row.tolist() for row in rows)])
    settings = (
        "data.augment=auto",
        "data.split=hash",
        "model.options={layers = 1, width = 8}",
        'evaluate.metrics=["mae"]',
    )
    whole, _ = fit(tmp_path / "rows.csv", "new:mlp", tmp_path / "whole", *settings)
    # As if it had been stopped after it was measured: the answer is read, not measured again.
    stopped = tmp_path / "stopped"
    stopped.mkdir()
    for name in ("recipe.toml", "environment.json", "data.json", "split.parquet", "ledger.json"):
        (stopped / name).write_bytes((whole.path / name).read_bytes())
    answer = json.loads((whole.path / "measured.json").read_text())
    answer["augment"]["kept"] = kept
    (stopped / "measured.json").write_text(json.dumps(answer))
    other = tunesmith.fit(resume=stopped, quiet=True, tell=lambda _line: None)
    assert same(whole, other) is (whole.measured["augment"]["kept"] == kept)
    named = ["data.augment=columns"] if kept else []
    plain, _ = fit(tmp_path / "rows.csv", "new:mlp", tmp_path / "plain", *settings[1:], *named)
    assert same(other, plain)


def test_fixed_views_of_pictures_are_kept_behind_frozen_stages(tmp_path):
    pictures = tiny_pictures(tmp_path / "train", 12)
    vit = tiny_image_model(tmp_path / "vit")
    settings = ["data.augment={name = 'images', views = 2}", "train.length=4 epochs"]
    kept, told = fit(pictures, vit, tmp_path / "kept", *settings, strategy="head")
    assert any("run once a row" in line for line in told)
    live, told = fit(pictures, vit, tmp_path / "live", *settings, "train.cache=off", strategy="head")
    own, others = (load_file(run.path / "tunesmith.safetensors") for run in (kept, live))
    assert max(float((own[name] - others[name]).abs().max()) for name in own) < 1e-3
    _, told = fit(pictures, vit, tmp_path / "mixed", "data.augment={name='images', mixup=0.2}", strategy="head")
    assert any("mixed anew in each step" in line for line in told)


@pytest.mark.parametrize(
    ("model", "settings", "words"),
    [
        ("text", ["data.augment=images"], ("images changes images", "texts", "use words")),
        ("text", ["data.augment={name='words', synonyms='no.txt'}"], ("no.txt", "No such file")),
        ("image", ["data.augment=sounds"], ("sounds changes sounds", "use images")),
        ("image", ["objective=consistency", "data.unlabelled=x.csv", "data.augment=auto"], ("x.csv",)),
        ("text", ["objective=contrastive", "data.augment={name='images', mixup=0.2}"], ("mixed rows have none",)),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_trains(model, settings, words, tmp_path):
    with open(tmp_path / "rows.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *zip(*tiny_rows(30, 2).values(), strict=True)])
    data = tmp_path / "rows.csv" if model == "text" else tiny_pictures(tmp_path / "train", 12)
    net = tiny_model(tmp_path / "model") if model == "text" else "new:cnn"
    with pytest.raises(tunesmith.TunesmithError) as error:
        fit(data, net, tmp_path / "run", *settings)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert not (tmp_path / "run").exists()


def test_neighbours_come_from_the_models_own_table_and_not_every_net_has_one(tmp_path, monkeypatch):
    # In the random table of a tiny model no word is near another: the nearest is taken however far it is.
    monkeypatch.setattr(word_changes, "LEAST_COSINE", -1.0)
    with open(tmp_path / "rows.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *zip(*tiny_rows(60, 2).values(), strict=True)])
    model = tiny_model(tmp_path / "model")
    way = "data.augment={{name='words', delete=0.0, swap=0.0, insert=0.0, replace=0.5, synonyms='{}'}}"
    (tmp_path / "none.txt").write_text("nosuchword nosuchother")
    run, _ = fit(tmp_path / "rows.csv", model, tmp_path / "run", way.format("embeddings"))
    plain, _ = fit(tmp_path / "rows.csv", model, tmp_path / "plain", way.format(tmp_path / "none.txt"))
    assert run.finished and not same(run, plain)
    bare = SimpleNamespace(module=torch.nn.Linear(2, 2), origin=SimpleNamespace(name="mine"))
    with pytest.raises(ModelError, match="no table of embeddings") as error:
        Pretrained.embeddings.fget(bare)
    assert 'synonyms = "wordnet"' in str(error.value)


def test_unlabelled_pictures_are_augmented_and_an_unreadable_one_is_named(tmp_path):
    pictures, more = tiny_pictures(tmp_path / "train", 12), tiny_pictures(tmp_path / "more", 6, seed=9)
    settings = ["objective=consistency", f"data.unlabelled={more}", "data.augment=trivialaugment"]
    run, _ = fit(pictures, "new:cnn", tmp_path / "run", *settings, "model.options={channels = 8}")
    assert run.finished
    (more / "red" / "0.png").write_bytes(b"no picture")
    with pytest.raises(tunesmith.TunesmithError, match="leave the row out of") as error:
        fit(pictures, "new:cnn", tmp_path / "other", *settings)
    assert "cannot be read" in str(error.value)


def test_consistency_needs_a_named_way(tmp_path):
    (tmp_path / "more.csv").write_text("text\n" + "\n".join(tiny_rows(9, 2)["text"]) + "\n")
    with open(tmp_path / "rows.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *zip(*tiny_rows(30, 2).values(), strict=True)])
    settings = ["objective=consistency", f"data.unlabelled={tmp_path / 'more.csv'}", "data.augment=auto"]
    with pytest.raises(RecipeError, match="name a way"):
        fit(tmp_path / "rows.csv", tiny_model(tmp_path / "model"), tmp_path / "run", *settings)


def test_check_reckons_with_the_trainings_of_auto(tmp_path):
    pictures = tiny_pictures(tmp_path / "train", 30)
    settings = ["train.length=20000 epochs", "data.split=hash", "model.options={channels = 4, layers = 1}"]
    seconds = [
        tunesmith.check(pictures, "new:cnn", settings=[*settings, *more], tell=str).seconds
        for more in (["data.augment=images"], ["data.augment=auto"])
    ]
    # Five folds without and five with it, beside the run itself. So long a run that what the process did before, which
    # is reckoned too, is little beside it.
    assert seconds[1] > 4 * seconds[0]
