"""Trimming: the upper blocks go, the rest keeps its weights, and the library of the model loads what is saved."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import tunesmith
from tunesmith.errors import ModelError, RecipeError
from tunesmith.models.edits import trim
from tunesmith.models.loaders import transformers
from tunesmith.models.loaders.processors import CALLING
from tunesmith.models.pretrained import Origin, Pretrained
from tunesmith.models.stages import find_stages
from tunesmith.recipe.check import check_recipe
from tunesmith.recipe.file import build
from tunesmith.testing import tiny_image_model, tiny_model, tiny_rows


def load(folder):
    return transformers.load(str(folder), ("left", "right"), "single_label_classification")


def trimmed(folder, keep):
    pretrained = load(folder)
    homes = pretrained.homes()
    trim.edit(pretrained, keep=keep)
    pretrained.restage(homes)
    return pretrained


def names(pretrained):
    return [stage.name for stage in pretrained.stages]


@pytest.mark.parametrize(
    "family", ["bert", "distilbert", "gpt2", "llama", "deberta-v2", "modernbert", "xlnet", "qwen3"]
)
def test_the_library_loads_a_trimmed_text_model_with_the_same_stages_and_weights(family, tiny, tmp_path):
    folder = tiny(family)
    whole, pretrained = load(folder), trimmed(folder, 1)
    assert names(pretrained) == [name for name in names(whole) if name != "block.1"]
    pretrained.module.save_pretrained(tmp_path / "saved")
    pretrained.processor.save_pretrained(tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert names(again) == names(pretrained)
    for name, tensor in again.body.state_dict().items():
        assert torch.equal(tensor, pretrained.body.state_dict()[name]), name
        assert torch.equal(tensor, whole.body.state_dict()[name]), f"{name} was changed by the trimming"


@pytest.mark.parametrize(("family", "keep"), [("vit", 1), ("resnet", 3), ("convnext", 3), ("clip", 1)])
def test_the_library_loads_a_trimmed_image_model(family, keep, tmp_path):
    pretrained = trimmed(tiny_image_model(tmp_path / "whole", family), keep)
    pretrained.module.save_pretrained(tmp_path / "saved")
    pretrained.processor.save_pretrained(tmp_path / "saved")
    assert names(load(tmp_path / "saved")) == names(pretrained)
    assert sum(name.startswith("block.") for name in names(pretrained)) == keep


@pytest.mark.parametrize("family", ["wav2vec2", "hubert", "ast", "whisper"])
def test_of_a_sound_model_layers_of_its_encoder_go_and_convolutions_stay(family, sound_model, tmp_path):
    whole = load(sound_model(family))
    least = trim.least(whole)
    assert least == sum(name.startswith("block.") for name in names(whole)) - 2
    pretrained = trimmed(sound_model(family), least)
    pretrained.module.save_pretrained(tmp_path / "saved")
    pretrained.processor.save_pretrained(tmp_path / "saved")
    assert names(load(tmp_path / "saved")) == names(pretrained)


def test_a_run_with_fewer_blocks_is_an_ordinary_run(tmp_path):
    model = tiny_model(tmp_path / "bert", num_hidden_layers=3)
    settings = ["train.length=2 epochs", "train.lr=1e-2", "model.edits.trim.keep=1", 'evaluate.metrics=["accuracy"]']
    for head in ("own", "pooled"):
        run = tunesmith.fit(
            tiny_rows(80),
            model,
            device="cpu",
            settings=[*settings, f"model.head={head}"],
            out=tmp_path / head,
            quiet=True,
        )
        config = next(run.model.rglob("config.json") if head == "own" else run.model.glob("0_Transformer/config.json"))
        assert json.loads(config.read_text())["num_hidden_layers"] == 1
        assert [stage["stage"] for stage in run.drift["stages"]] == ["stem", "block.0", "neck"]
        assert len(tunesmith.load(run).predict(["an apple"])) == 1


def test_a_strategy_is_asked_about_the_blocks_that_are_left(tmp_path):
    model = tiny_model(tmp_path / "bert", num_hidden_layers=3)
    settings = ["train.length=1 epochs", "model.head=pooled", "model.edits.trim.keep=2", "strategy=lora"]
    run = tunesmith.fit(tiny_rows(80), model, device="cpu", settings=settings, out=tmp_path / "run", quiet=True)
    assert [stage["stage"] for stage in run.drift["stages"] if stage["moves"]][:2] == ["block.0", "block.1"]


@pytest.mark.parametrize("keep", [0, 3])
def test_more_blocks_than_there_are_or_none_is_refused(keep, tmp_path):
    with pytest.raises(RecipeError, match=f'"model.edits.trim.keep" = {keep}, but this model has 2 blocks'):
        trimmed(tiny_model(tmp_path / "bert"), keep)


def test_all_blocks_are_kept_where_all_are_asked_for(tmp_path):
    assert names(trimmed(tiny_model(tmp_path / "bert"), 2)) == ["stem", "block.0", "block.1", "neck"]


@pytest.mark.parametrize("family", ["bart", "xlm"])
def test_a_model_that_cannot_be_trimmed_says_so_and_is_left_as_it_was(family, tiny):
    pretrained = load(tiny(family))
    before = names(pretrained), len(pretrained.body.state_dict())
    assert trim.least(pretrained) is None
    with pytest.raises(ModelError, match="not the end of one list"):
        trim.edit(pretrained, keep=1)
    assert (names(pretrained), len(pretrained.body.state_dict())) == before


def test_a_configuration_that_does_not_say_the_number_is_refused_before_anything_changes(tmp_path):
    pretrained = load(tiny_image_model(tmp_path / "swin", "swin"))
    with pytest.raises(ModelError, match="does not say how many blocks"):
        trim.edit(pretrained, keep=1)
    assert names(pretrained)[-2:] != ["stem", "block.0"]
    assert pretrained.module.config.depths == [1, 1]


def test_a_network_of_no_library_is_refused():
    net = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), nn.Linear(4, 2))
    stages = find_stages(net, lambda: net(torch.zeros(2, 4)))
    pretrained = Pretrained(
        net, net, stages, 4, None, 0, Origin("mine", None, ""), "", (), True, CALLING, head_path="2", own_layer=net[2]
    )
    assert trim.least(pretrained) is None
    with pytest.raises(ModelError, match="only a model of the transformers library"):
        trim.edit(pretrained, keep=1)


def test_an_old_score_is_not_asked_of_a_model_whose_old_head_lost_its_blocks():
    tree = {"data": "new.csv", "model": {"name": "old", "edits": {"trim": {"keep": 1}}}}
    check_recipe(build(tree))
    with pytest.raises(RecipeError, match="takes out blocks on which the head"):
        check_recipe(build(tree | {"evaluate": {"source_task": "old.csv"}}))
