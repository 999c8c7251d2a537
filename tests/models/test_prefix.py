"""The frozen prefix: entered behind it, a net computes and learns what it would have, to the bit."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from tunesmith.models import prefix
from tunesmith.models.loaders import transformers as loader
from tunesmith.models.loaders.processors import CALLING
from tunesmith.models.prefix import Uncacheable, find_cut, frozen_depth
from tunesmith.models.pretrained import Origin, Pretrained
from tunesmith.models.stages import find_stages
from tunesmith.models.tunable import STORED, Tunable

LABELS = ("a", "b", "c")
SHORT = ["apple to the", "bread"]
LONG = ["a an and at but by in it no apple", "cheese of on or so the to", "we with dates eggs figs"]
TEXT = {
    "bert": {"num_hidden_layers": 3},
    "distilbert": {"n_layers": 3},
    "roberta": {"num_hidden_layers": 3},
    "modernbert": {"num_hidden_layers": 3},
    "llama": {"num_hidden_layers": 3},
    "gpt2": {"n_layer": 3},
    "t5": {"num_layers": 3},
}
OTHERS = ("vit", "resnet", "convnext", "wav2vec2")


def of_texts(folder: Path) -> tuple[Pretrained, list[dict[str, torch.Tensor]]]:
    pretrained = loader.load(str(folder), LABELS, "single_label_classification")
    encode = pretrained.processor
    return pretrained, [dict(encode(texts, padding=True, return_tensors="pt")) for texts in (SHORT, LONG)]


def of_signals(family: str) -> tuple[Pretrained, list[dict[str, torch.Tensor]]]:
    import transformers

    torch.manual_seed(0)
    pixels = [{"pixel_values": torch.randn(rows, 3, 32, 32)} for rows in (2, 3)]
    labels = {"num_labels": 3}
    if family == "vit":
        sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
        config = transformers.ViTConfig(image_size=32, patch_size=8, **sizes, **labels)
        module, probes = transformers.ViTForImageClassification(config), pixels
    elif family == "resnet":
        config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[2, 2], **labels)
        module, probes = transformers.ResNetForImageClassification(config), pixels
    elif family == "convnext":
        config = transformers.ConvNextConfig(hidden_sizes=[8, 16], depths=[2, 2], num_stages=2, patch_size=2, **labels)
        module, probes = transformers.ConvNextForImageClassification(config), pixels
    else:
        sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
        wave = {"conv_dim": (8, 8), "conv_stride": (4, 4), "conv_kernel": (8, 4), "num_feat_extract_layers": 2}
        more = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 8}
        config = transformers.Wav2Vec2Config(**sizes, **wave, **more, layerdrop=0.5, mask_time_prob=0.5, **labels)
        module = transformers.Wav2Vec2ForSequenceClassification(config)
        probes = [{"input_values": torch.randn(rows, 400)} for rows in (2, 3)]
    stages = find_stages(module.base_model, lambda: module(**probes[0]))
    origin = Origin(family, Path(), "")
    return Pretrained(module, module.base_model, stages, 16, None, 0, origin, "", (), True, CALLING), probes


@pytest.fixture
def made(tiny, families):
    """`made("bert", head="own")`: a Tunable of that family, and two batches of unlike shape."""

    def make(family: str, head: str = "own", **fields: int) -> tuple[Tunable, list[dict[str, torch.Tensor]]]:
        pretrained, probes = of_texts(tiny(family, **TEXT[family] | fields)) if family in TEXT else of_signals(family)
        torch.manual_seed(1)
        return Tunable(pretrained, head, {}, 3), probes

    return make


def freeze(net: Tunable, depth: int) -> None:
    named = dict(net.named_parameters())
    for index, stage in enumerate(net.stages):
        for name in stage.parameters:
            named[name].requires_grad_(index >= depth)
    net.settle()


def trained(net: Tunable, batches: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Every weight and buffer after some steps of Adam with dropout."""
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=1e-2)
    for step in range(6):
        torch.manual_seed(step)
        outputs = net(batches[step % len(batches)])
        nn.functional.cross_entropy(outputs, torch.arange(len(outputs)) % 3).backward()
        optimizer.step()
        optimizer.zero_grad()
    return {name: value.clone() for name, value in net.state_dict().items()}


@pytest.mark.parametrize("family", [*TEXT, *OTHERS])
def test_training_behind_the_prefix_gives_the_weights_of_live_training_to_the_bit(made, family):
    net, probes = made(family)
    depths = sorted({2, len(net.stages) - 2, len(net.stages) - 1})
    for depth in depths:
        freeze(net, depth)
        cut = find_cut(net, probes)
        assert cut.depth == depth == frozen_depth(net)
        net.eval()
        kept = [cut.compute(net, inputs) for inputs in probes]
        net.settle()
        untouched = copy.deepcopy(net.state_dict())
        live = trained(net, probes)
        net.load_state_dict(untouched)
        net.entrance = cut
        stored = [
            inputs | {f"{STORED}{i}": value for i, value in enumerate(values)}
            for inputs, values in zip(probes, kept, strict=True)
        ]
        cached = trained(net, stored)
        assert any(not torch.equal(live[name], untouched[name]) for name in live), "something was learnt"
        for name in live:
            assert torch.equal(live[name], cached[name]), f"depth {depth}: {name}"
        net.load_state_dict(untouched)


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5", "resnet"])
def test_behind_the_prefix_no_frozen_module_runs(made, family):
    net, probes = made(family)
    freeze(net, 3)
    net.entrance = cut = find_cut(net, probes)
    named, ran = dict(net.named_modules()), []
    frozen = [name for stage in net.stages[:3] if stage.name != "stem" for name in stage.modules]
    for name in frozen:
        for inner, module in named[name].named_modules():
            if inner:
                module.register_forward_hook(lambda *_args, inner=f"{name}.{inner}": ran.append(inner))
    stored = {f"{STORED}{i}": value for i, value in enumerate(cut.compute(net, probes[1]))}
    assert ran, "the hooks see a live prefix"
    ran.clear()
    net(probes[1] | stored)
    assert ran == []


def test_what_runs_after_the_prefix_does_not_run_while_it_is_computed(made):
    net, probes = made("bert")
    freeze(net, 2)
    cut, ran = find_cut(net, probes), []
    net.body.bert.encoder.layer[2].register_forward_hook(lambda *_: ran.append(1))
    cut.compute(net, probes[0])
    assert not ran


def test_of_a_wholly_frozen_body_only_what_the_head_pools_is_kept(made):
    net, probes = made("bert", "pooled")
    freeze(net, len(net.stages) - 1)
    net.eval()
    net.entrance = cut = find_cut(net, probes)
    (features,) = cut.compute(net, probes[1])
    assert features.shape == (3, net.heads["label"].output.in_features)
    assert torch.equal(net({f"{STORED}0": features}), net(probes[1]))


def test_without_a_frozen_block_there_is_nothing_to_keep(made):
    net, probes = made("bert")
    freeze(net, 1)
    with pytest.raises(Uncacheable, match="no block is frozen"):
        find_cut(net, probes)


def test_a_model_whose_outputs_read_every_stage_is_left_uncached(made):
    net, probes = made("bert", "pooled", num_hidden_layers=5)
    freeze(net, 6)
    body = net.body.forward

    def weighted(**inputs):
        output = body(**inputs, output_hidden_states=True)
        output.last_hidden_state = torch.stack(output.hidden_states).mean(0)
        return output

    net.body.forward = weighted
    with pytest.raises(Uncacheable, match="too many frozen ones"):
        find_cut(net, probes)


def test_a_cut_that_changes_the_outputs_is_refused(made, monkeypatch):
    net, probes = made("bert")
    freeze(net, 3)
    compute = prefix.Cut.compute
    monkeypatch.setattr(prefix.Cut, "compute", lambda *args: [value + 1e-6 for value in compute(*args)])
    with pytest.raises(Uncacheable, match="other outputs"):
        find_cut(net, probes)


def test_a_cut_that_ignores_what_was_kept_is_refused(made, monkeypatch):
    net, probes = made("bert")
    freeze(net, 3)
    monkeypatch.setattr(prefix.Cut, "enter", lambda self, net, inputs, stored: net.run(inputs))
    with pytest.raises(Uncacheable, match="whatever its frozen stages gave"):
        find_cut(net, probes)


def test_the_digest_follows_the_frozen_weights_and_nothing_else(made):
    net, probes = made("bert")
    freeze(net, 3)
    cut = find_cut(net, probes)
    before = prefix.digest(net, cut)
    with torch.no_grad():
        net.body.classifier.weight.add_(1)
        net.body.bert.encoder.layer[2].output.dense.weight.add_(1)
    net.body.config.id2label = {0: "no", 1: "yes"}
    assert prefix.digest(net, cut) == before
    eps, net.body.config.layer_norm_eps = net.body.config.layer_norm_eps, 0.5
    assert prefix.digest(net, cut) != before, "the same weights in another network"
    net.body.config.layer_norm_eps = eps
    assert prefix.digest(net, cut) == before
    with torch.no_grad():
        net.body.bert.encoder.layer[1].output.dense.weight[0, 0].add_(1e-3)
    assert prefix.digest(net, cut) != before
