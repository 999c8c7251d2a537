"""Dropout at another rate: in modules and in attributes, in all stages or in those named, and in the passes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tunesmith.errors import ModelError, RecipeError
from tunesmith.models.edits.dropout import edit
from tunesmith.models.loaders import transformers


@pytest.fixture
def load(tiny):
    return lambda family, **fields: transformers.load(
        str(tiny(family, **fields)), ("left", "right"), "single_label_classification"
    )


@pytest.fixture
def rates(monkeypatch):
    """The rates at which a body drops something in a pass in training mode, however it keeps them."""

    def measure(pretrained):
        seen = []
        attention, dropout = nn.functional.scaled_dot_product_attention, nn.functional.dropout

        def attend(*args, dropout_p=0.0, **kwargs):
            seen.append(dropout_p)
            return attention(*args, dropout_p=dropout_p, **kwargs)

        def drop(tensor, p=0.5, training=True, inplace=False):
            seen.append(p if training else 0.0)
            return dropout(tensor, p, training, inplace)

        monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", attend)
        monkeypatch.setattr(nn.functional, "dropout", drop)
        ids = torch.arange(5, 11)[None]
        pretrained.body.train()
        pretrained.body(input_ids=ids, attention_mask=torch.ones_like(ids))
        return seen

    return measure


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "gpt2", "llama", "modernbert", "bart"])
def test_every_dropout_of_a_pass_has_the_rate(family, load, rates):
    pretrained = load(family)
    before = len(rates(pretrained))
    edit(pretrained, rate=0.37)
    after = rates(pretrained)
    assert before and len(after) == before and set(after) == {0.37}


def test_the_attention_of_a_vit_has_the_rate():
    from transformers import ViTConfig, ViTModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    body = ViTModel(ViTConfig(**sizes, image_size=32))
    edit(type("Loaded", (), {"body": body, "stages": ()})(), rate=0.3)
    assert [layer.attention.attention_dropout for layer in body.layers] == [0.3, 0.3]
    assert {module.p for module in body.modules() if isinstance(module, nn.Dropout)} == {0.3}


def test_only_the_named_stages_change_and_the_models_own_head_never_does(load):
    pretrained = load("bert")
    edit(pretrained, rate=0.5, stages=["block.*"])
    found = {name: module.p for name, module in pretrained.module.named_modules() if isinstance(module, nn.Dropout)}
    assert {rate for name, rate in found.items() if ".layer." in name} == {0.5}
    assert {rate for name, rate in found.items() if ".layer." not in name} == {0.1}
    assert {"dropout", "bert.embeddings.dropout"} < found.keys()


def test_layers_that_are_dropped_whole_and_switches_called_dropout_keep_their_values():
    body = nn.Module()
    body.layerdrop, body.token_dropout, body.classifier_dropout_prob, body.attention_dropout = 0.1, True, 0.2, 0
    edit(type("Loaded", (), {"body": body, "stages": ()})(), rate=0.4)
    assert (body.layerdrop, body.token_dropout, body.classifier_dropout_prob) == (0.1, True, 0.2)
    assert body.attention_dropout == 0.4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rate": 1.0}, "rate = 1.0 is not at least 0 and below 1"),
        ({"stages": ["blok.0"]}, 'no stage is called "blok.0"'),
        ({"stages": []}, "no stage is named"),
    ],
)
def test_a_rate_out_of_range_and_a_stage_that_is_not_there_are_refused(options, said, load):
    with pytest.raises(RecipeError, match=said):
        edit(load("bert"), **options)


def test_a_model_without_dropout_is_refused():
    with pytest.raises(ModelError, match="this model has no dropout"):
        edit(type("Loaded", (), {"body": nn.Linear(2, 2), "stages": ()})(), rate=0.2)
