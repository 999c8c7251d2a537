"""Images from the folder to the Run: every strategy, the cache, resume, prediction, and the folder that is left."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import nn

import tunesmith
from tunesmith.delivery.summary import summary
from tunesmith.errors import DataError, ModelError, RecipeError
from tunesmith.models.tunable import Tunable
from tunesmith.testing import tiny_image_model, tiny_pictures

FAST = ("train.length=2 epochs", "train.lr=1e-2", 'evaluate.metrics=["accuracy"]')


class Small(nn.Module):
    """A person's own network."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(*[nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU()) for _ in range(2)])
        self.fc = nn.Linear(4, 10)

    def forward(self, images):
        return self.fc(self.blocks(images).mean((2, 3)))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for part, number in (("train", 12), ("valid", 4), ("test", 4)):
        tiny_pictures(folder / part, number, seed=number)
    return folder


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return tiny_image_model(tmp_path_factory.mktemp("models") / "vit")


def own():
    torch.manual_seed(0)
    net = Small()
    net(torch.zeros(1, 3, 20, 24))
    return net


def fit(data, model, out, *settings, **options):
    return tunesmith.fit(data, model, out=out, settings=[*FAST, *settings], quiet=True, **options)


def logged(run, event):
    lines = map(json.loads, (run.path / "events.jsonl").read_text().splitlines())
    return [line for line in lines if line["event"] == event]


@pytest.fixture(scope="module")
def run(pictures, tmp_path_factory):
    return fit(pictures, "new:cnn", tmp_path_factory.mktemp("runs") / "cnn", "model.options={channels = 8}")


def test_a_new_network_learns_pictures_and_answers_for_files_folders_and_arrays(run, pictures, tmp_path):
    assert run.scores["test"]["accuracy"]["value"] == 1.0
    assert set(run.scores["test"]["baselines"]) == {"majority", "plain_logistic", "edges_logistic"}
    assert run.recipe.name == pictures.name, "not that of the folder train in it"
    model = tunesmith.load(run)
    file = pictures / "test" / "red" / "0.png"
    with Image.open(file) as opened:
        picture = opened.copy()
    assert model.predict([str(file)]) == model.predict([picture]) == model.predict(np.asarray(picture)[None]) == ["red"]
    found = tunesmith.predict(run, pictures / "test" / "blue", tmp_path / "found.csv", tell=lambda _line: None)
    assert found["prediction"].to_pylist() == ["blue"] * 4
    assert tunesmith.evaluate(run, pictures / "test", tell=lambda _line: None)["accuracy"]["value"] == 1.0


def test_the_run_leaves_a_plain_state_dict_under_the_networks_own_names(pictures, tmp_path):
    net = own()
    run = fit(pictures, net, tmp_path / "run")
    weights = torch.load(run.model / "model.pth", weights_only=True)
    net.fc = nn.Linear(4, 3)
    net.load_state_dict(weights)
    with Image.open(pictures / "test" / "red" / "0.png") as picture:
        pixels = np.asarray(picture)
    network = run.network["encoder"]
    values = torch.from_numpy(pixels.transpose(2, 0, 1) / 255.0).float()[None]
    mean, std = (torch.tensor(network[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    chances = tunesmith.load(run, model=own()).probabilities([str(pictures / "test" / "red" / "0.png")])
    assert np.allclose(torch.softmax(net.eval()((values - mean) / std), -1).detach(), chances, atol=1e-5)


def test_a_network_of_ones_own_is_copied_and_asked_for_again(pictures, tmp_path):
    net = own()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    run = fit(pictures, net, tmp_path / "run")
    assert net.fc.out_features == 10
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    with pytest.raises(ModelError, match="network in memory"):
        tunesmith.load(run)
    assert "hand it over again" in (run.path / "README.md").read_text()
    assert tunesmith.evaluate(run, pictures / "test", model=own(), tell=lambda _line: None)["rows"] == 12


def test_what_to_do_next_fits_the_rows_and_asks_nothing_that_cannot_be(run, pictures, tmp_path):
    shown = summary(run)
    assert f"predict {run.path} photos -o" in shown and f"evaluate {run.path} labelled-photos" in shown
    assert f"predict {run.path} photos -o" in (run.path / "README.md").read_text()
    alone = fit(pictures, own(), tmp_path / "run", "train.length=1 steps")
    assert "next:" not in summary(alone) and "$ tunesmith" not in (alone.path / "README.md").read_text()


@pytest.mark.parametrize("task", ["regression", "multilabel"])
def test_pictures_are_rows_of_other_tasks_too(task, pictures, tmp_path):
    names = [(str(file), file.parent.name) for file in sorted((pictures / "train").rglob("*.png"))] * 4
    of = {"red": (0.5, 1, 0), "blue": (2.25, 0, 1), "green": (4.5, 1, 1)}
    columns = {"file": [name for name, _ in names]}
    for place, column in enumerate(("score", "warm", "calm")):
        columns[column] = [of[colour][place] for _, colour in names]
    target = "score" if task == "regression" else ["warm", "calm"]
    # By hash the parts would follow the names of a temporary folder, and a test part may be of one colour.
    settings = ["train.length=6 epochs", f"task={task}", "data.split=stratified"]
    run = tunesmith.fit(columns, "new:cnn", target=target, out=tmp_path / "run", settings=settings, quiet=True)
    assert run.scores["test"]["r2" if task == "regression" else "f1_micro"]["value"] > 0.8


def test_few_pictures_are_cross_validated(pictures, tmp_path):
    run = fit(pictures / "train", "new:cnn", tmp_path / "run", "train.length=3 epochs")
    assert run.measured["length"]["folds"] == 5 and run.scores["valid"]["accuracy"]["value"] > 0.9


@pytest.mark.parametrize(
    "strategy",
    ["head", "last", "full", "discriminative", "unfreeze", "probe_then_full", "biases", "norms", "lora", "stages"],
)
@pytest.mark.parametrize("kind", ["vit", "cnn"])
def test_every_strategy_trains_what_it_should_and_nothing_else(kind, strategy, pictures, vit, tmp_path):
    model, settings = (vit, ()) if kind == "vit" else ("new:cnn", ("model.options={channels = 4}",))
    if strategy == "lora" and kind == "cnn":
        settings = (*settings, 'strategy={name = "lora", rank = 2}')
    elif strategy == "stages":
        settings = (*settings, 'strategy={name = "stages", train = ["block.0"]}')
    else:
        settings = (*settings, f"strategy={strategy}")
    run = fit(pictures, model, tmp_path / "run", *settings, "train.length=6 steps")
    assert 0.0 <= run.scores["test"]["accuracy"]["value"] <= 1.0
    plan = tunesmith.check(pictures, model, settings=settings, plan=True, tell=lambda _line: None)
    assert plan.phases[-1].trainable > 0


def test_frozen_stages_run_once_a_row_and_not_at_all_in_a_second_run(pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    told = []
    for name in ("one", "two"):
        settings = [*FAST, "strategy=head", "model.options={channels = 4}"]
        run = tunesmith.fit(pictures, "new:cnn", out=tmp_path / name, settings=settings, tell=told.append)
    lines = [line for line in told if "run once a row" in line]
    assert "48 rows computed" in lines[0] and "0 rows computed, 48 found on disk" in lines[1]
    assert logged(run, "cache")[0]["computed"] == 0


@pytest.mark.parametrize("kind", ["vit", "cnn", "own"])
def test_cached_and_live_training_end_in_the_same_predictions(kind, pictures, vit, tmp_path):
    model = {"vit": vit, "cnn": "new:cnn", "own": own()}[kind]
    found = []
    for cache in ("fp32", "off"):
        run = fit(pictures, model, tmp_path / cache, "strategy=last", f"train.cache={cache}")
        rows = pq.read_table(run.path / "predictions" / "test.parquet")
        found.append(np.stack([rows[name] for name in rows.column_names if name.startswith("probability_")]))
    assert np.allclose(*found, atol=1e-4)


class Noisy(torch.utils.data.Dataset):
    """Tensors that are another at each reading."""

    def __len__(self):
        return 32

    def __getitem__(self, row):
        return torch.randn(3, 9, 9) + row % 2, row % 2


@pytest.mark.parametrize("kind", ["pictures", "noisy"])
def test_a_run_that_was_killed_goes_on_to_the_same_weights(kind, pictures, tmp_path, killed):
    data, others = (pictures, {}) if kind == "pictures" else (Noisy(), {"valid": Noisy(), "test": Noisy()})
    settings = ("train.every.save=2 steps", "train.length=6 steps")
    whole = fit(data, own(), tmp_path / "whole", *settings, **others)
    with killed(2):
        fit(data, own(), tmp_path / "cut", *settings, **others)
    with pytest.raises(RecipeError, match="model came from memory"):
        tunesmith.fit(resume=tmp_path / "cut", quiet=True)
    again = {"data": data, **others} if kind == "noisy" else {}
    resumed = tunesmith.fit(model=own(), resume=tmp_path / "cut", quiet=True, **again)
    one, two = (torch.load(run.model / "model.pth", weights_only=True) for run in (whole, resumed))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_run_is_a_pretrained_model_and_keeps_its_head_where_the_labels_are_the_same(run, pictures, tmp_path):
    told = []
    settings = [*FAST, "train.length=1 steps", "train.lr=1e-9"]
    same = tunesmith.fit(pictures, run, out=tmp_path / "same", settings=settings, tell=told.append)
    assert any("nothing newly made" in line for line in told) and same.scores["test"]["accuracy"]["value"] == 1.0
    two = tmp_path / "two"
    for part in ("train", "valid", "test"):
        for colour in ("red", "blue"):
            (two / part).mkdir(parents=True, exist_ok=True)
            (two / part / colour).symlink_to(pictures / part / colour)
    other = fit(two, run, tmp_path / "other", "strategy=head", "train.length=20 steps")
    assert other.scores["test"]["accuracy"]["value"] == 1.0
    weights = [torch.load(found.model / "model.pth", weights_only=True) for found in (run, other)]
    assert torch.equal(weights[0]["0.0.0.weight"], weights[1]["0.0.0.weight"]), "the body stayed as the Run left it"
    assert weights[0]["2.weight"].shape[0] == 3 and weights[1]["2.weight"].shape[0] == 2


@pytest.mark.parametrize("family", ["vit", "resnet", "convnext", "dinov2", "deit", "swin", "mobilenet_v2", "clip"])
def test_models_of_transformers_are_left_as_folders_that_its_pipeline_loads(family, pictures, tmp_path):
    import transformers

    folder = tiny_image_model(tmp_path / family, family)
    run = fit(pictures, folder, tmp_path / "run", "train.length=1 epochs")
    classify = transformers.pipeline("image-classification", model=str(run.model))
    file = str(pictures / "test" / "red" / "0.png")
    theirs = {found["label"]: found["score"] for found in classify(file, top_k=None)}
    ours = dict(zip(tunesmith.load(run).labels, tunesmith.load(run).probabilities([file])[0], strict=True))
    assert theirs == pytest.approx(ours, abs=1e-5)


def test_a_model_that_reads_other_rows_is_refused(pictures, vit, tmp_path):
    with pytest.raises(ModelError, match="reads images, and the data are texts"):
        fit({"text": ["one two three"] * 9, "label": ["a", "b", "c"] * 3}, vit, tmp_path / "run")
    with pytest.raises(DataError, match="no column holds text"):
        from tunesmith.testing import tiny_model

        fit(pictures, tiny_model(tmp_path / "bert"), tmp_path / "run")


def test_files_that_cannot_be_read_are_named_or_left_out(tmp_path):
    folder = tiny_pictures(tmp_path / "pictures", 20)
    (folder / "red" / "0.png").write_bytes(b"")
    (folder / "blue" / "3.png").write_bytes((folder / "blue" / "4.png").read_bytes()[:300])
    with pytest.raises(DataError) as error:
        fit(folder, "new:cnn", tmp_path / "run")
    assert "2 of 60 images cannot be read" in str(error.value)
    assert "red/0.png: it is no image" in str(error.value) and "blue/3.png: it cannot be decoded" in str(error.value)
    assert not (tmp_path / "run").exists()
    told = []
    settings = [*FAST, "data.clean.missing=drop"]
    run = tunesmith.fit(folder, "new:cnn", out=tmp_path / "run", settings=settings, tell=told.append)
    assert (
        any("left out 2 images" in line for line in told) and pq.read_table(run.path / "split.parquet").num_rows == 58
    )


def test_a_table_whose_pictures_are_all_absent_names_the_first_and_where_it_was_looked_for(tmp_path):
    (tmp_path / "rows.csv").write_text("file,label\n" + "no/a.jpg,x\nno/b.jpg,y\n" * 60)
    with pytest.raises(DataError, match=r"none of its images can be read; .*no/a\.jpg: there is no such file"):
        fit(tmp_path / "rows.csv", "new:cnn", tmp_path / "run")
    with pytest.raises(RecipeError, match=r'"model\.name": no net is called "cn"'):
        fit(tmp_path / "rows.csv", "new:cn", tmp_path / "run")


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        (["data.max_length=3"], "no effect on images"),
        (["data.augment=words"], "words changes texts"),
        (["model.expects={sise = 3}"], 'no "sise"'),
        (["model.options={leyers = 3}"], "leyers"),
    ],
)
def test_settings_without_effect_on_images_are_refused(settings, match, pictures, tmp_path):
    with pytest.raises(RecipeError, match=match):
        fit(pictures, "new:cnn", tmp_path / "run", *settings)


class Items(torch.utils.data.Dataset):
    """Tensors, as a person's own Dataset gives them."""

    def __init__(self, number):
        self.number = number

    def __len__(self):
        return self.number

    def __getitem__(self, row):
        label = row % 3
        return torch.full((3, 9, 9), float(label)) + torch.randn(
            3, 9, 9, generator=torch.Generator().manual_seed(row)
        ), label


def test_a_dataset_of_tensors_and_a_network_of_ones_own_are_all_it_takes(tmp_path):
    run = fit(Items(60), own(), tmp_path / "run", "train.length=5 epochs", valid=Items(12), test=Items(15))
    assert run.scores["test"]["accuracy"]["value"] > 0.6
    assert tunesmith.load(run, model=own()).predictions(Items(6)).outputs.shape == (6, 3)


def test_the_items_of_a_dataset_are_kept_where_each_is_the_same_at_every_reading(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    settings = ("strategy=head", "train.length=8 epochs", "train.patience=0", "train.every.evaluate=4 epochs")
    run = fit(Items(60), own(), tmp_path / "kept", *settings, valid=Items(12), test=Items(15))
    assert [line["computed"] for line in logged(run, "cache")] == [60]  # the rows of valid are rows of train
    live = fit(Items(60), own(), tmp_path / "live", *settings, "train.cache=off", valid=Items(12), test=Items(15))
    one, two = (torch.load(each.model / "model.pth", weights_only=True) for each in (run, live))
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)
    noisy = fit(Noisy(), own(), tmp_path / "noisy", *settings, valid=Noisy(), test=Noisy())
    assert not logged(noisy, "cache")


def test_code_is_run_only_where_it_is_allowed(pictures, tmp_path, monkeypatch):
    (tmp_path / "mine_nets.py").write_text(
        "from torch import nn\n"
        "def make(width=4):\n"
        "    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match="--allow-code"):
        fit(pictures, "code:mine_nets:make", tmp_path / "run")
    with pytest.raises(ModelError, match="cannot be built"):
        fit(pictures, "code:mine_nets:mak", tmp_path / "run", "model.trust=true")


def test_a_function_of_ones_own_builds_the_network_again_for_prediction(pictures, tmp_path, monkeypatch):
    (tmp_path / "my_nets.py").write_text(
        "from torch import nn\n"
        "def make(width=4):\n"
        "    layers = [nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5)]\n"
        "    return nn.Sequential(*layers)\n"
    )
    monkeypatch.chdir(tmp_path)
    settings = ("model.trust=true", "model.options={width = 6}")
    run = fit(pictures, "code:my_nets:make", tmp_path / "run", *settings)
    net = tunesmith.load(run).loaded.net
    assert isinstance(net, Tunable) and net.body[0].out_channels == 6
