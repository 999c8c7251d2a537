"""The net that is tuned: its addresses, and that frozen means frozen."""

from __future__ import annotations

import pytest
import torch

from tunesmith.models.loaders import transformers
from tunesmith.models.tunable import Tunable

HEADS = [("own", {}), ("pooled", {"pooling": "mean"})]


@pytest.fixture
def net(tiny):
    def make(family="bert", head="own", options=None, **exceptions):
        labels = ("left", "right")
        pretrained = transformers.load(str(tiny(family, **exceptions)), labels, "single_label_classification")
        return Tunable(pretrained, head, options or {}, 2)

    return make


def freeze(net, *stages):
    for address, parameter in net.address().items():
        parameter.requires_grad_(address.partition("/")[0] not in stages)
    net.settle()


@pytest.mark.parametrize(("head", "options"), HEADS)
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "xlm"])
def test_every_parameter_has_one_address_and_the_head_its_own(net, family, head, options):
    made = net(family, head, options)
    addresses = [address.partition("/")[2] for address in made.address()]
    assert sorted(addresses) == sorted(name for name, _ in made.named_parameters())
    assert [stage.name for stage in made.stages][-1] == "head" and made.stages[-1].parameters


@pytest.mark.parametrize(("head", "options"), HEADS)
def test_frozen_stages_are_in_evaluation_mode_and_the_others_train(net, head, options):
    made = net(head=head, options=options)
    freeze(made, "stem", "block.0")
    body = made.body.bert if head == "own" else made.body
    assert not any(module.training for module in [*body.embeddings.modules(), *body.encoder.layer[0].modules()])
    assert all(module.training for module in body.encoder.layer[1].modules())
    freeze(made)
    assert all(module.training for module in made.modules())


def test_the_output_of_a_frozen_prefix_is_the_same_each_time(net):
    made = net(hidden_dropout_prob=0.5)
    freeze(made, "stem", "block.0")
    seen = []
    made.body.bert.encoder.layer[0].register_forward_hook(lambda _module, _args, output: seen.append(output))
    inputs = {"input_ids": torch.full((2, 5), 7), "attention_mask": torch.ones(2, 5, dtype=torch.long)}
    outputs = [made(inputs) for _ in range(2)]
    first, second = (output[0] if isinstance(output, tuple) else output for output in seen)
    assert torch.equal(first, second)
    assert not torch.equal(*outputs), "dropout is on above it"


def test_layers_are_not_dropped_over_a_frozen_part(net):
    made = net("bart", encoder_layerdrop=0.5)
    freeze(made)
    assert made.body.model.encoder.layerdrop == 0.5
    freeze(made, "stem")
    assert made.body.model.encoder.layerdrop == 0.0


def test_folding_the_scale_gives_outputs_in_the_unit_of_the_target(net):
    made = net().eval()
    inputs = {"input_ids": torch.full((2, 5), 7), "attention_mask": torch.ones(2, 5, dtype=torch.long)}
    before = made(inputs)
    made.fold_scale(10.0, 3.0)
    torch.testing.assert_close(made(inputs), before * 3 + 10)
