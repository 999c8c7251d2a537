"""Nets for tables: options, stages, what each column adds, and weights that move to a net of other columns."""

from __future__ import annotations

import pytest
import torch

from tunesmith import plugins
from tunesmith.errors import RecipeError
from tunesmith.models.loaders import network
from tunesmith.models.nets import ft_transformer, mlp
from tunesmith.models.tabular import carry
from tunesmith.recipe import file
from tunesmith.recipe.check import check_recipe

SAMPLE = {"numbers": torch.zeros(2, 3), "categories": torch.tensor([[3, 2]] * 2)}
ROWS = {"numbers": torch.tensor([[0.1, -0.2, 0.3]] * 4), "categories": torch.tensor([[0, 0], [2, 2], [3, 2], [3, 1]])}
NETS = {"mlp": lambda sample=SAMPLE, **more: mlp(sample, 2, width=8, **more)}
NETS["ft_transformer"] = lambda sample=SAMPLE, **more: ft_transformer(sample, 2, width=8, heads=2, **more)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("kinds", [["numbers"], ["categories"], ["numbers", "categories"]])
def test_a_net_reads_numbers_categories_or_both(name, kinds):
    sample = {kind: SAMPLE[kind] for kind in kinds}
    made = network.of_module(NETS[name](sample), sample, ("a", "b", "c"), name=name, modality="table")
    assert made.calling.outputs(made.calling.run(made.module, {kind: ROWS[kind] for kind in kinds})).shape == (4, 3)


@pytest.mark.parametrize("name", NETS)
def test_every_layer_is_a_stage_and_the_columns_are_the_stem(name):
    made = network.of_module(NETS[name](), SAMPLE, ("a", "b"), name=name, modality="table")
    stages = {stage.name: stage.parameters for stage in made.stages}
    blocks = [stage for stage in stages if stage.startswith("block.")]
    assert blocks == [f"block.{number}" for number in range(2 if name == "mlp" else 3)]
    assert all(parameter.startswith("columns.") for parameter in stages["stem"])
    assert made.head_path == "output"


@pytest.mark.parametrize("name", NETS)
def test_every_column_counts_and_so_does_the_code(name):
    net = NETS[name]().eval()
    with torch.no_grad():
        before = net(**ROWS)
        for column in range(3):
            moved = ROWS["numbers"].clone()
            moved[:, column] += 1
            assert not torch.allclose(net(moved, ROWS["categories"]), before)
    assert not torch.allclose(before[1], before[2])


@pytest.mark.parametrize("name", NETS)
def test_codes_that_training_may_never_show_say_nothing_at_first(name):
    net = NETS[name]().eval()
    weight = net.columns.categories_weight
    assert (weight[[0, 1, 4, 5]] == 0).all() and (weight[[2, 3, 6]] != 0).all()


@pytest.mark.parametrize("name", NETS)
def test_weights_go_with_their_columns_into_another_net(name):
    """There: numbers 0 1 2, categories of 4 and 3 codes. Here: a new number, number 2, number 0; the second one."""
    sample = {"numbers": torch.zeros(2, 3), "categories": torch.tensor([[2]] * 2)}
    before, now = NETS[name]().eval(), NETS[name](sample).eval()
    new = now.columns.numbers_weight[0].clone()
    carry(before.state_dict(), now, {"numbers": [(2, 1), (0, 2)], "categories": [(4, 0), (5, 1), (6, 2)]})
    assert torch.equal(now.columns.numbers_weight[1], before.columns.numbers_weight[2])
    assert torch.equal(now.columns.numbers_weight[0], new)
    assert torch.equal(now.columns.categories_weight, before.columns.categories_weight[4:])
    assert torch.equal(now.output.weight, before.output.weight)


@pytest.mark.parametrize("name", ["mlp", "ft_transformer", "cnn"])
def test_the_options_of_a_net_have_types_and_defaults(name):
    from tunesmith.testing import laws

    laws.has_documented_options(plugins.get("net", name))


def test_impossible_options_are_told():
    for options in ({"layers": 0}, {"width": [8, 8]}, {"dropout": 1.0}, {"embedding": -1}):
        with pytest.raises(RecipeError, match=r"model\.options"):
            mlp(SAMPLE, 2, **options)
    with pytest.raises(RecipeError, match="heads divide"):
        ft_transformer(SAMPLE, 2, width=10, heads=4)
    with pytest.raises(RecipeError, match="new:cnn for images"):
        mlp({"x": torch.zeros(2, 3, 8, 8)}, 2)


def test_layers_and_widths_are_what_is_asked_for():
    net = mlp(SAMPLE, 2, layers=2, width=[8, 4], embedding=0, norm="layer", activation="tanh")
    assert net.output.in_features == 4 and len(net.blocks) == 1
    assert {"LayerNorm", "Tanh"} <= {type(module).__name__ for module in net.modules()}
    assert net.columns.numbers_weight.shape == (3, 1, 8)


def test_an_unknown_option_or_one_of_another_type_is_told_before_anything_is_read():
    for options, words in (({"widht": 3}, '"widht"'), ({"layers": "many"}, "many")):
        with pytest.raises(RecipeError, match=words):
            check_recipe(file.build({"data": "x.csv", "model": {"name": "new:mlp", "options": options}}))
    with pytest.raises(RecipeError, match='no net is called "mpl"'):
        check_recipe(file.build({"data": "x.csv", "model": {"name": "new:mpl"}}))
