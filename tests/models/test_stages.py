"""The stages of twenty families, written out, and the laws of stages on toy nets."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import nn

from tunesmith.models.stages import find_stages

IDS = torch.arange(24).reshape(2, 12) % 50
TEXT = {
    "vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 32, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
}  # fmt: skip
LLAMA = {**TEXT, "num_key_value_heads": 2}
PICTURE = {"image_size": 32, "num_channels": 3}
GPT2 = {"vocab_size": 60, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
T5 = {"vocab_size": 60, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
BART = {
    "vocab_size": 60, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 32,
}  # fmt: skip
WAV2VEC2 = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "conv_dim": (8, 8),
    "conv_kernel": (10, 3), "conv_stride": (5, 2), "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2,
    "feat_extract_norm": "group",
}  # fmt: skip


def read_ids(model):
    return model(input_ids=IDS)


def read_both(model):
    return model(input_ids=IDS, decoder_input_ids=IDS)


def see(model):
    return model(pixel_values=torch.zeros(1, 3, 32, 32))


def hear(model):
    return model(input_values=torch.zeros(1, 400))


def listed(path, *counts):
    """`listed("a.{}", 2)` -> a.0, a.1."""
    return [path.format(i) for i in range(counts[0])]


# family -> (model type, its sizes, how it is called, modules of the stem, of each block, of the neck)
FAMILIES = {
    "BERT": ("bert", TEXT, read_ids, ["embeddings"], listed("encoder.layer.{}", 2), ["pooler"]),
    "DistilBERT": (
        "distilbert",
        {"vocab_size": 60, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 32},
        read_ids, ["embeddings"], listed("transformer.layer.{}", 2), [],
    ),
    "RoBERTa": ("roberta", TEXT, read_ids, ["embeddings"], listed("encoder.layer.{}", 2), ["pooler"]),
    "DeBERTa-v2": (
        "deberta-v2", {**TEXT, "relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"]},
        read_ids, ["embeddings", "encoder.rel_embeddings"], listed("encoder.layer.{}", 2), [],
    ),
    "ModernBERT": ("modernbert", TEXT, read_ids, ["embeddings"], listed("layers.{}", 2), ["final_norm"]),
    "ALBERT": (
        "albert", {**TEXT, "embedding_size": 8}, read_ids,
        ["embeddings", "encoder.embedding_hidden_mapping_in"], ["encoder.albert_layer_groups.0"], ["pooler"],
    ),
    "ELECTRA": (
        "electra", {**TEXT, "embedding_size": 8}, read_ids,
        ["embeddings", "embeddings_project"], listed("encoder.layer.{}", 2), [],
    ),
    "MPNet": (
        "mpnet", TEXT, read_ids,
        ["embeddings", "encoder.relative_attention_bias"], listed("encoder.layer.{}", 2), ["pooler"],
    ),
    "Llama": ("llama", LLAMA, read_ids, ["embed_tokens"], listed("layers.{}", 2), ["norm"]),
    "GPT-2": ("gpt2", GPT2, read_ids, ["wte", "wpe"], listed("h.{}", 2), ["ln_f"]),
    "Qwen2": ("qwen2", LLAMA, read_ids, ["embed_tokens"], listed("layers.{}", 2), ["norm"]),
    "Mixtral": (
        "mixtral", {**LLAMA, "num_local_experts": 3, "num_experts_per_tok": 2},
        read_ids, ["embed_tokens"], listed("layers.{}", 2), ["norm"],
    ),
    "T5": (
        "t5", T5, read_both, ["shared"],
        ["encoder.block.0", "encoder.block.1 encoder.final_layer_norm", *listed("decoder.block.{}", 2)],
        ["decoder.final_layer_norm"],
    ),
    "BART": (
        "bart", BART, read_both, ["encoder.embed_positions", "encoder.layernorm_embedding", "shared"],
        [
            "encoder.layers.0",
            "encoder.layers.1 decoder.embed_positions decoder.layernorm_embedding",
            *listed("decoder.layers.{}", 2),
        ],
        [],
    ),
    "XLNet": (
        "xlnet", {"vocab_size": 60, "d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 32},
        read_ids, ["word_embedding"], listed("layer.{}", 2), [],
    ),
    "ViT": (
        "vit", {**TEXT, **PICTURE, "patch_size": 16}, see,
        ["embeddings"], listed("layers.{}", 2), ["layernorm", "pooler"],
    ),
    "ResNet": (
        "resnet",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [2, 2], "layer_type": "basic", "num_channels": 3},
        see, ["embedder"], [f"encoder.stages.{i}.layers.{j}" for i in range(2) for j in range(2)], [],
    ),
    "ConvNeXt": (
        "convnext", {**PICTURE, "hidden_sizes": [8, 16], "depths": [1, 2], "num_stages": 2}, see,
        ["embeddings"],
        ["encoder.stages.0.layers.0 encoder.stages.1.downsampling_layer", *listed("encoder.stages.1.layers.{}", 2)],
        ["layernorm"],
    ),
    "Swin": (
        "swin",
        {**PICTURE, "patch_size": 2, "embed_dim": 8, "depths": [1, 2, 1], "num_heads": [2, 2, 2], "window_size": 4},
        see, ["embeddings"],
        [
            "encoder.layers.0.blocks.0 encoder.layers.0.downsample",
            "encoder.layers.1.blocks.0",
            "encoder.layers.1.blocks.1 encoder.layers.1.downsample",
            "encoder.layers.2.blocks.0",
        ],
        ["layernorm"],
    ),
    "wav2vec 2.0": (
        "wav2vec2", WAV2VEC2, hear, [],
        [
            "feature_extractor.conv_layers.0",
            "feature_extractor.conv_layers.1 feature_projection encoder.pos_conv_embed encoder.layer_norm",
            *listed("encoder.layers.{}", 2),
        ],
        [],
    ),
}  # fmt: skip


def body(model_type, sizes):
    torch.manual_seed(0)
    return transformers.AutoModel.from_config(transformers.CONFIG_MAPPING[model_type](**sizes)).eval()


def with_weights(stage):
    """The stage's modules that hold parameters of it."""
    return [name for name in stage.modules if any(held.startswith(f"{name}.") for held in stage.parameters)]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_has_these_stages(family):
    model_type, sizes, run, stem, blocks, neck = FAMILIES[family]
    model = body(model_type, sizes)
    stages = find_stages(model, lambda: run(model))
    found = {stage.name: sorted(with_weights(stage)) for stage in stages}
    expected = {"stem": sorted(stem), **{f"block.{i}": sorted(block.split()) for i, block in enumerate(blocks)}}
    assert found == expected | ({"neck": sorted(neck)} if neck else {})
    names = [name for stage in stages for name in stage.parameters]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())


class Toy(nn.Module):
    """Layers by name, called in the order of `order`."""

    def __init__(self, order, **layers):
        super().__init__()
        self.order = order
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, states):
        for name in self.order:
            layer = self.get_submodule(name)
            for item in layer if type(layer) is nn.ModuleList else [layer]:
                states = item(states)
        return states


class Add(nn.Module):
    """Two linear layers in a list, beside the states: a block whose list is a part of it."""

    def __init__(self, width=4, out=4):
        super().__init__()
        self.parts = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.out = nn.Linear(width, out)

    def forward(self, states):
        return self.out(states + self.parts[1](self.parts[0](states)))


def linear(count):
    return nn.ModuleList(nn.Linear(4, 4) for _ in range(count))


def stages_of(model, states=None):
    given = torch.zeros(2, 3, 4) if states is None else states
    return {stage.name: stage for stage in find_stages(model, lambda: model(given))}


def modules_of(model, states=None):
    return {name: list(stage.modules) for name, stage in stages_of(model, states).items()}


def test_stages_follow_the_calls_not_the_order_of_definition():
    model = Toy(["before", "second", "first", "after"], first=linear(1), second=linear(2),
                after=nn.Linear(4, 4), before=nn.Linear(4, 4))  # fmt: skip
    assert modules_of(model) == {
        "stem": ["before"], "block.0": ["second.0"], "block.1": ["second.1"], "block.2": ["first.0"], "neck": ["after"],
    }  # fmt: skip


def test_what_lies_between_two_blocks_goes_with_the_earlier_one():
    model = Toy(["towers", "bridge", "more"], towers=linear(2), bridge=nn.Linear(4, 4), more=linear(2))
    assert modules_of(model)["block.1"] == ["towers.1", "bridge"]


def test_a_list_inside_a_block_is_a_part_of_the_block():
    model = Toy(["layers"], layers=nn.ModuleList(Add() for _ in range(2)))
    assert modules_of(model) == {"stem": [], "block.0": ["layers.0"], "block.1": ["layers.1"]}


def test_lists_inside_a_list_that_changes_the_shape_are_flattened():
    narrow, wide = nn.Sequential(Add(4), Add(4)), nn.Sequential(Add(4, 8), Add(8, 8))
    model = Toy(["stages"], stages=nn.ModuleList([narrow, wide]))
    names = [f"block.{i}" for i in range(4)]
    found = stages_of(model)
    assert list(found) == ["stem", *names]
    assert [found[name].modules for name in names] == [(f"stages.{i}.{j}",) for i in range(2) for j in range(2)]


def test_lists_that_run_interleaved_are_one_list():
    class Interleaved(Toy):
        def forward(self, states):
            for attention, norm in zip(self.attentions, self.norms, strict=True):
                states = norm(attention(states))
            return states

    model = Interleaved([], attentions=linear(2), norms=linear(2))
    assert modules_of(model) == {
        "stem": [], "block.0": ["attentions.0", "norms.0"], "block.1": ["attentions.1", "norms.1"],
    }  # fmt: skip


def test_a_list_of_embeddings_is_no_block_list():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.tables = nn.ModuleList(nn.Embedding(9, 4) for _ in range(2))
            self.layers = linear(2)

        def forward(self, ids):
            states = sum(table(ids) for table in self.tables)
            for layer in self.layers:
                states = layer(states)
            return states

    assert modules_of(Sum(), torch.ones(2, 3, dtype=torch.long))["stem"] == ["tables"]


def test_a_block_called_more_than_once_is_one_stage():
    layer = nn.Linear(4, 4)
    model = Toy(["layers"] * 3 + ["after"], layers=nn.ModuleList([layer, layer]), after=nn.Linear(4, 4))
    assert list(stages_of(model)) == ["stem", "block.0", "neck"]


def test_a_tied_parameter_belongs_to_the_lowest_stage_that_holds_it():
    model = Toy(["before", "layers", "after"], before=nn.Linear(4, 4), layers=linear(2), after=nn.Linear(4, 4))
    model.after.weight = model.before.weight
    model.layers[1].bias = model.layers[0].bias
    found = stages_of(model)
    assert found["stem"].parameters == ("before.weight", "before.bias")
    assert found["block.0"].parameters == ("layers.0.weight", "layers.0.bias")
    assert found["block.1"].parameters == ("layers.1.weight",)
    assert found["neck"].parameters == ("after.bias",)


def test_a_parameter_defined_late_but_used_first_belongs_to_the_stem():
    model = Toy(["before", "layers"], layers=linear(2), before=nn.Linear(4, 4))
    model.before.weight = model.layers[1].weight
    found = stages_of(model)
    assert found["stem"].parameters == ("layers.1.weight", "before.bias")
    assert found["block.1"].parameters == ("layers.1.bias",)


def test_a_module_that_is_never_called_goes_to_the_stem_or_with_the_block_around_it():
    model = Toy(["layers"], layers=nn.ModuleList(Add() for _ in range(2)), unused=nn.Linear(4, 4))
    model.layers[1].unused = nn.Linear(4, 4)
    found = stages_of(model)
    assert found["stem"].modules == ("unused",)
    assert "layers.1.unused.weight" in found["block.1"].parameters


def test_without_block_lists_every_layer_after_the_first_is_a_block_and_a_norm_goes_with_the_layer_before_it():
    two = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 4))
    model = Toy(["one", "two"], one=nn.Linear(4, 4), two=two)
    assert modules_of(model) == {"stem": ["one"], "block.0": ["two.0", "two.1", "two.2"], "block.1": ["two.3"]}


def test_the_parts_of_a_sequential_of_several_classes_are_blocks_and_the_layers_between_them_are_not():
    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, states):
            return self.inner(states)

    class Other(Wide):
        pass

    model = Toy(["one"], one=nn.Sequential(nn.Linear(4, 4), Wide(), Other(), nn.ReLU(), Wide()))
    assert modules_of(model) == {
        "stem": ["one.0"],
        "block.0": ["one.1"],
        "block.1": ["one.2", "one.3"],
        "block.2": ["one.4"],
    }


def test_finding_stages_leaves_modes_hooks_and_gradients_as_they_were():
    model = Toy(["before", "layers"], before=nn.Dropout(), layers=linear(2))
    model.layers[0].eval()
    seen = []
    find_stages(model, lambda: seen.append((model(torch.zeros(1, 4)).requires_grad, model.before.training)))
    assert seen == [(False, False)]
    assert model.before.training and model.layers[1].training and not model.layers[0].training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
