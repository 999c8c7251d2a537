"""Re-initialisation: the weights of the stages named are drawn anew by the library, and no other tensor changes."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import pytest
import torch
from torch import nn

from tunesmith.errors import ModelError, RecipeError
from tunesmith.models.edits import reinit
from tunesmith.models.loaders import transformers
from tunesmith.models.loaders.processors import CALLING
from tunesmith.models.pretrained import Origin, Pretrained
from tunesmith.models.stages import find_stages
from tunesmith.seeds import seed_everything


@pytest.fixture(scope="module")
def load(families, tmp_path_factory):
    """`load("bert")` is a tiny random model of that family, the same each time."""

    @functools.cache
    def folder(family, **fields):
        return families.tiny_folder(family, tmp_path_factory.mktemp("models") / family, **fields)

    return lambda family, **fields: transformers.load(
        str(folder(family, **fields)), ("left", "right"), "single_label_classification"
    )


def tensors(pretrained):
    return {name: tensor.clone() for name, tensor in pretrained.body.state_dict().items()}


def changed(pretrained, before):
    """The stages in which a parameter is another now, and the parameters that are the same in them."""
    names = {name for name, tensor in pretrained.body.state_dict().items() if not torch.equal(tensor, before[name])}
    stages = {stage.name for stage in pretrained.stages if names & set(stage.parameters)}
    held = {name for stage in pretrained.stages for name in stage.parameters}
    assert names <= held, "a tensor of no stage changed"
    same = [
        name for stage in pretrained.stages if stage.name in stages for name in stage.parameters if name not in names
    ]
    return stages, same


def scramble(pretrained):
    """Make every weight what no initialisation gives."""
    with torch.no_grad():
        for parameter in pretrained.body.parameters():
            parameter.add_(torch.randn_like(parameter) + 3)


@pytest.mark.parametrize(
    "family", ["bert", "distilbert", "roberta", "gpt2", "llama", "t5", "deberta-v2", "modernbert", "xlnet"]
)
def test_all_of_a_stage_is_drawn_anew_and_nothing_else(family, load):
    pretrained = load(family)
    scramble(pretrained)
    before = tensors(pretrained)
    reinit.edit(pretrained, stages=["block.1"])
    assert changed(pretrained, before) == ({"block.1"}, [])
    values = [dict(pretrained.body.named_parameters())[name] for name in pretrained.stages[2].parameters]
    assert pretrained.stages[2].name == "block.1"
    assert all(value.abs().max() < 2 for value in values), "as the library draws them: small, 0 or 1"


def test_the_draw_is_the_librarys_and_follows_the_seed(load):
    pretrained = load("bert", initializer_range=0.5)
    stds = []
    for seed in (1, 1, 2):
        seed_everything(seed)
        reinit.edit(pretrained, stages=["block.0"])
        stds.append(pretrained.body.encoder.layer[0].intermediate.dense.weight.detach().clone())
    assert torch.equal(stds[0], stds[1]) and not torch.equal(stds[0], stds[2])
    assert 0.4 < float(stds[0].detach().std()) < 0.6
    norm = pretrained.body.encoder.layer[0].output.LayerNorm
    assert torch.equal(norm.weight, torch.ones_like(norm.weight)) and not norm.bias.any()


def test_without_names_it_is_the_top_block_and_the_pooler(load):
    pretrained = load("bert")
    scramble(pretrained)
    before = tensors(pretrained)
    reinit.edit(pretrained)
    assert changed(pretrained, before) == ({"block.1", "neck"}, [])
    assert not torch.equal(pretrained.body.pooler.dense.weight, before["pooler.dense.weight"])


def test_names_may_be_patterns_and_the_stem_is_a_stage(load):
    pretrained = load("bert")
    scramble(pretrained)
    before = tensors(pretrained)
    reinit.edit(pretrained, stages=["block.*", "stem"])
    assert changed(pretrained, before) == ({"stem", "block.0", "block.1"}, [])
    assert not pretrained.body.embeddings.word_embeddings.weight[0].any(), "the row of the padding stays 0"


@pytest.mark.parametrize(("stages", "told"), [(["blok.1"], 'did you mean "block.1"'), ([], "no stage is named")])
def test_an_unknown_stage_is_an_error_with_the_nearest_word(stages, told, load):
    with pytest.raises(RecipeError, match=told):
        reinit.edit(load("bert"), stages=stages)


class Scale(nn.Module):
    """A parameter that nothing draws."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.full((4,), 5.0))

    def forward(self, states):
        return states * self.scale


class Plain(nn.Module):
    """An embedding, then blocks, of plain torch."""

    def __init__(self, *parts):
        super().__init__()
        self.stem = nn.Embedding(8, 4)
        self.blocks = nn.ModuleList(nn.Sequential(*copy.deepcopy(parts)) for _ in range(2))

    def forward(self, ids):
        states = self.stem(ids)
        for block in self.blocks:
            states = block(states)
        return states


def by_hand(*parts):
    body = Plain(*parts)
    stages = find_stages(body, lambda: body(torch.arange(6)[None]))
    return Pretrained(body, body, stages, 4, None, 64, Origin("by hand", Path(), ""), "", (), False, CALLING)


def test_a_module_of_plain_torch_is_reset_with_the_statistics_of_its_batchnorm_kept_out_of_other_stages():
    pretrained = by_hand(nn.Linear(4, 4), nn.BatchNorm1d(6))
    body = pretrained.body
    for norm in (module for module in body.modules() if isinstance(module, nn.BatchNorm1d)):
        norm.running_mean.fill_(7.0)
    seed_everything(0)
    reinit.edit(pretrained, stages=["block.1"])
    first, second = (block[1] for block in body.blocks)
    assert first.running_mean.eq(7.0).all() and second.running_mean.eq(0.0).all()


def test_a_parameter_that_nobody_draws_is_an_error_that_names_it():
    with pytest.raises(ModelError, match=r"nothing says how blocks\.1\.1\.scale is drawn anew"):
        reinit.edit(by_hand(nn.Linear(4, 4), Scale()), stages=["block.1"])
