"""Adapters: where they go, what they compute, and that merging them changes no output."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

from tunesmith.errors import ModelError, RecipeError
from tunesmith.models.edits import lora
from tunesmith.models.loaders import transformers
from tunesmith.models.tunable import Tunable
from tunesmith.seeds import seed_everything

METHODS = ("lora", "rslora", "dora", "ia3", "vera", "oft")
BERT_BLOCK = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
BERT_BLOCK += ("intermediate.dense", "output.dense")


@pytest.fixture(scope="module")
def load(families, tmp_path_factory):
    """`load("bert")` is a tiny random model of that family, the same each time."""

    @functools.cache
    def folder(family, **fields):
        return families.tiny_folder(family, tmp_path_factory.mktemp("models") / family, **fields)

    return lambda family, **fields: transformers.load(
        str(folder(family, **fields)), ("left", "right"), "single_label_classification"
    )


def adapted(pretrained, **options):
    homes = pretrained.homes()
    seed_everything(3)
    lora.edit(pretrained, **options)
    pretrained.restage(homes)
    return pretrained


def outputs(pretrained):
    ids = torch.tensor([[5, 6, 7, 8, 9], [9, 8, 7, 6, 5]])
    pretrained.body.eval()
    return pretrained.body(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state.detach()


def move(pretrained):
    """Adapters as a training might leave them."""
    seed_everything(5)
    with torch.no_grad():
        for parameter in pretrained.body.parameters():
            if id(parameter) in pretrained.added:
                parameter.add_(0.1 * torch.randn_like(parameter))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_adapters_change_nothing_at_first_and_merge_into_equal_weights(family, method, load):
    pretrained = load(family)
    names, before = set(pretrained.body.state_dict()), outputs(pretrained)
    if (family, method) == ("gpt2", "oft"):
        with pytest.raises(ModelError, match="a Conv1D"):
            adapted(pretrained, method=method)
        return
    adapted(pretrained, method=method)
    assert torch.allclose(outputs(pretrained), before, atol=1e-6)
    move(pretrained)
    trained = outputs(pretrained)
    assert not torch.allclose(trained, before, atol=1e-4)
    lora.merge(pretrained)
    assert torch.allclose(outputs(pretrained), trained, atol=1e-5)
    assert set(pretrained.body.state_dict()) == names, "the body is what its library knows again"
    assert not lora.adapters(pretrained.body)
    held = {name for stage in pretrained.stages for name in stage.parameters}
    assert held == {name for name, _ in pretrained.body.named_parameters()}


def test_every_linear_layer_above_the_stem_has_one_and_only_those_of_the_stages_named(load):
    layers = set(lora.adapters(adapted(load("bert")).body))
    assert layers == {f"encoder.layer.{i}.{name}" for i in (0, 1) for name in BERT_BLOCK} | {"pooler.dense"}
    layers = set(lora.adapters(adapted(load("bert"), stages=["block.1"]).body))
    assert layers == {f"encoder.layer.1.{name}" for name in BERT_BLOCK}


def test_what_is_added_is_of_the_kind_adapter_and_in_the_stage_around_it(load):
    net = Tunable(adapted(load("bert"), stages=["block.1"]), "pooled", {}, 2)
    kinds = net.kinds()
    added = [address for address, kind in kinds.items() if kind == "adapter"]
    assert len(added) == 12 and all(address.startswith("block.1/") for address in added)
    assert all(("lora_A" in address) or ("lora_B" in address) for address in added)
    assert kinds["block.1/body.encoder.layer.1.output.dense.base_layer.bias"] == "bias"


def test_lora_is_alpha_over_rank_of_a_product_of_two_matrices(load):
    pretrained = adapted(load("bert"), rank=4, alpha=6)
    move(pretrained)
    layer = pretrained.body.encoder.layer[0].output.dense
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    assert down.shape[0] == up.shape[1] == 4
    expected = layer.base_layer.weight + 6 / 4 * up @ down
    lora.merge(pretrained)
    assert torch.allclose(pretrained.body.encoder.layer[0].output.dense.weight, expected, atol=1e-6)


@pytest.mark.parametrize(("method", "scale"), [("lora", 1.0), ("dora", 1.0), ("rslora", 8**0.5)])
def test_without_options_the_rank_is_8_and_alpha_the_rank(method, scale, load):
    layer = adapted(load("bert"), method=method).body.encoder.layer[0].output.dense
    assert layer.r["default"] == 8 and layer.scaling["default"] == pytest.approx(scale)
    assert layer.use_dora.get("default", False) == (method == "dora")


def test_ia3_scales_the_outputs_and_where_a_layer_narrows_the_inputs(load):
    block = adapted(load("bert"), method="ia3").body.encoder.layer[0]
    assert block.output.dense.is_feedforward and not block.intermediate.dense.is_feedforward
    assert not block.attention.self.query.is_feedforward


def test_vera_shares_its_matrices_and_they_follow_the_seed(load):
    body = adapted(load("bert"), method="vera", rank=5).body
    first, second = body.encoder.layer[0].attention.self.query, body.encoder.layer[1].output.dense
    assert first.vera_A["default"] is second.vera_A["default"] and first.vera_A["default"].shape[0] == 5
    again = load("bert")
    seed_everything(4)
    lora.edit(again, method="vera", rank=5)
    other = again.body.encoder.layer[0].attention.self.query.vera_A["default"]
    assert not torch.equal(other, first.vera_A["default"])
    assert adapted(load("bert"), method="vera").body.encoder.layer[0].output.dense.r["default"] == 256


def test_the_block_size_of_oft_divides_every_width(load):
    layer = adapted(load("bert"), method="oft").body.encoder.layer[0].output.dense
    width = layer.base_layer.in_features
    assert width % layer.oft_block_size["default"] == 0
    layer = adapted(load("bert"), method="oft", rank=4).body.encoder.layer[0].output.dense
    assert layer.oft_block_size["default"] == 4
    with pytest.raises(RecipeError, match="blocks of 7 do not divide every width"):
        adapted(load("bert"), method="oft", rank=7)


def test_oft_turns_and_does_not_stretch(load):
    pretrained = adapted(load("bert"), method="oft", rank=4)
    before = pretrained.body.encoder.layer[0].intermediate.dense.base_layer.weight.detach().clone()
    with torch.no_grad():
        for parameter in pretrained.body.parameters():
            if id(parameter) in pretrained.added:
                parameter.add_(torch.randn_like(parameter))
    lora.merge(pretrained)
    after = pretrained.body.encoder.layer[0].intermediate.dense.weight.detach()
    assert not torch.allclose(after, before, atol=1e-2)
    assert torch.allclose(after.norm(dim=1), before.norm(dim=1), atol=1e-5)


@pytest.mark.parametrize("method", ["lora", "rslora", "dora", "vera"])
def test_dropout_acts_on_the_adapters_in_training_mode_only(method, load):
    plain = load("bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    pretrained = adapted(plain, method=method, dropout=0.5)
    move(pretrained)
    assert torch.equal(outputs(pretrained), outputs(pretrained))
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    pretrained.body.train()
    one, two = (pretrained.body(input_ids=ids).last_hidden_state for _ in range(2))
    assert not torch.equal(one, two)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"method": "ia3", "rank": 4}, '"rank" has no effect on ia3'),
        ({"method": "ia3", "alpha": 4.0}, '"alpha" has no effect on ia3'),
        ({"method": "ia3", "dropout": 0.1}, '"dropout" has no effect on ia3'),
        ({"method": "vera", "alpha": 4.0}, '"alpha" has no effect on vera'),
        ({"method": "oft", "alpha": 4.0}, '"alpha" has no effect on oft'),
        ({"rank": 0}, '"rank" = 0 is out of range'),
        ({"alpha": -1.0}, '"alpha" = -1.0 is out of range'),
        ({"dropout": 1.0}, '"dropout" = 1.0 is out of range'),
        ({"dropout": -0.1}, '"dropout" = -0.1 is out of range'),
        ({"method": "oft", "dropout": 0.1}, '"dropout" has no effect on oft'),
        ({"stages": ["blok.1"]}, 'did you mean "block.1"'),
    ],
)
def test_an_option_that_means_nothing_is_an_error(options, told, load):
    with pytest.raises(RecipeError, match=told):
        lora.edit(load("bert"), **options)


def test_a_second_set_of_adapters_is_an_error(load):
    pretrained = adapted(load("bert"))
    with pytest.raises(RecipeError, match="has adapters already"):
        lora.edit(pretrained)


def test_stages_without_linear_layers_are_an_error(load):
    with pytest.raises(ModelError, match="no linear layers"):
        lora.edit(load("bert"), stages=["stem"])


def test_layers_that_attention_reads_past_their_forward_get_none(load):
    pretrained = load("bert")
    pretrained.body.encoder.layer[0].extra = nn.MultiheadAttention(16, 2)
    assert not [name for name in lora.adapters(adapted(pretrained).body) if "extra" in name]
