"""Strategies: which stages move in which phase, at what multiple of the rate, and what their options do."""

from __future__ import annotations

import math

import pytest

from tunesmith import plugins
from tunesmith.errors import RecipeError
from tunesmith.strategies import depth
from tunesmith.strategies.plan import assign

NAMES = ["stem", "block.0", "block.1", "block.2", "neck", "head"]
PLAIN = ["stem", "block.0", "block.1", "head"]


def made(strategy, names=NAMES, **options):
    return plugins.get("strategy", strategy)(names, **options)


def rates(phase, names=NAMES, kinds=("weight",)):
    """Stage -> multiple of the rate (None = frozen), the same for all of these kinds."""
    found = assign(phase.rules, {f"{name}/{kind}": kind for name in names for kind in kinds})
    return {name: found[f"{name}/{kinds[0]}"].lr for name in names}


def moving(phase, names=NAMES):
    return [name for name, rate in rates(phase, names).items() if rate is not None]


@pytest.mark.parametrize(
    ("strategy", "options", "expected"),
    [
        ("full", {}, NAMES),
        ("head", {}, ["head"]),
        ("last", {}, ["block.1", "block.2", "neck", "head"]),
        ("last", {"stages": 1}, ["block.2", "neck", "head"]),
        ("last", {"stages": 3}, ["block.0", "block.1", "block.2", "neck", "head"]),
        ("discriminative", {}, NAMES),
        ("stages", {"train": ["block.0"]}, ["block.0", "head"]),
        ("stages", {"train": ["stem", "block.1", "head"]}, ["stem", "block.1", "head"]),
        ("stages", {"train": ["block.[01]"]}, ["block.0", "block.1", "head"]),
        ("stages", {"train": "auto", "count": 1}, NAMES),
    ],
)
def test_one_phase_moves_these_stages(strategy, options, expected):
    (phase,) = made(strategy, **options).phases
    assert moving(phase) == expected
    assert phase.moves == ("head" if strategy == "head" else "body")


def test_the_last_blocks_of_a_model_without_neck():
    (phase,) = made("last", PLAIN, stages=1).phases
    assert moving(phase, PLAIN) == ["block.1", "head"]


@pytest.mark.parametrize(("strategy", "option"), [("last", "stages"), ("lora", "last")])
@pytest.mark.parametrize(("number", "advice"), [(0, "the strategy head"), (4, "the strategy full")])
def test_more_blocks_than_there_are_or_none_is_an_error_that_counts_them(strategy, option, number, advice):
    with pytest.raises(RecipeError, match=rf'"strategy\.{option}" = {number}, but this model has 3 blocks') as caught:
        made(strategy, **{option: number})
    assert advice in str(caught.value)


def test_a_discriminative_rate_falls_from_the_head_down_by_the_decay():
    assert rates(made("discriminative", decay=0.5).phases[0]) == {
        "head": 1.0, "block.2": 0.5, "neck": 0.5, "block.1": 0.25, "block.0": 0.125, "stem": 0.0625
    }  # fmt: skip
    assert rates(made("discriminative").phases[0])["block.2"] == 0.9


@pytest.mark.parametrize("strategy", ["discriminative", "unfreeze"])
@pytest.mark.parametrize("decay", [0.0, 1.0, 2.6])
def test_a_decay_outside_0_and_1_is_an_error(strategy, decay):
    with pytest.raises(RecipeError, match=f'"strategy.decay" = {decay} is no decay'):
        made(strategy, decay=decay)


def test_a_stem_without_parameters_is_no_error_for_any_strategy():
    without = {f"{name}/weight": "weight" for name in NAMES if name != "stem"}
    for strategy in ("full", "head", "last", "discriminative", "unfreeze", "probe_then_full"):
        for phase in made(strategy).phases:
            assert assign(phase.rules, without)


def test_unfreezing_goes_down_unit_by_unit_and_each_stage_keeps_its_rate():
    plan = made("unfreeze", decay=0.5)
    assert [phase.name for phase in plan.phases] == ["head", "block2", "block1", "block0", "full"]
    assert [moving(phase) for phase in plan.phases] == [
        ["head"],
        ["block.2", "neck", "head"],
        ["block.1", "block.2", "neck", "head"],
        ["block.0", "block.1", "block.2", "neck", "head"],
        NAMES,
    ]
    assert [phase.moves for phase in plan.phases] == ["head", "body", "body", "body", "body"]
    for phase in plan.phases:
        found = rates(phase)
        assert all(found[name] in (None, rates(plan.phases[-1])[name]) for name in NAMES)
    assert rates(plan.phases[-1]) == rates(made("discriminative", decay=0.5).phases[0])
    assert plan.carry, "the optimizer goes on where a parameter goes on moving"


def test_unfreezing_may_take_several_units_a_phase_and_shares_the_length_out():
    plan = made("unfreeze", stages_per_phase=2, final=0.7)
    assert [phase.name for phase in plan.phases] == ["head", "block1", "full"]
    assert [phase.share for phase in plan.phases] == pytest.approx([0.15, 0.15, 0.7])
    plan = made("unfreeze", stages_per_phase=9)
    assert [phase.name for phase in plan.phases] == ["head", "full"]
    assert [phase.share for phase in made("unfreeze").phases] == pytest.approx([0.125] * 4 + [0.5])


def test_probing_comes_before_full_tuning_for_its_share():
    probe, full = made("probe_then_full", probe=0.25).phases
    assert (probe.name, probe.share, probe.moves, moving(probe)) == ("probe", 0.25, "head", ["head"])
    assert (full.name, full.share, full.moves, moving(full)) == ("full", 0.75, "body", NAMES)
    assert made("probe_then_full").phases[0].share == 0.3


@pytest.mark.parametrize(
    ("strategy", "option"), [("probe_then_full", "probe"), ("unfreeze", "final")]
)  # fmt: skip
@pytest.mark.parametrize("share", [0.0, 1.0, -0.5])
def test_a_share_is_between_0_and_1(strategy, option, share):
    with pytest.raises(RecipeError, match=rf'"strategy\.{option}" = {share} is no share'):
        made(strategy, **{option: share})


def test_a_phase_that_never_unfreezes_is_an_error():
    with pytest.raises(RecipeError, match='stages_per_phase" = 0'):
        made("unfreeze", stages_per_phase=0)


def test_a_stage_that_the_model_does_not_have_is_answered_with_the_nearest_and_all_are_told():
    with pytest.raises(RecipeError, match=r'no stage "blok\.1"') as caught:
        made("stages", train=["blok.1", "stam", "block.0"])
    assert 'did you mean "block.' in str(caught.value) and 'did you mean "stem"' in str(caught.value)
    assert "block.0" not in str(caught.value.problems[1])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"train": []}, "is empty"),
        ({"train": ["stem"], "count": 1}, "has no effect"),
        ({"count": 0}, "this model has 5 stages"),
        ({"count": 6}, "this model has 5 stages"),
    ],
)
def test_options_of_stages_that_say_nothing_are_errors(options, told):
    with pytest.raises(RecipeError, match=told):
        made("stages", **options)


def test_biases_move_and_those_of_norms_too():
    addresses = {
        "stem/word.weight": "weight",
        "block.0/dense.weight": "weight",
        "block.0/dense.bias": "bias",
        "block.0/LayerNorm.bias": "norm",
        "block.0/LayerNorm.weight": "norm",
        "head/output.weight": "weight",
    }
    (phase,) = made("biases").phases
    found = assign(phase.rules, addresses)
    assert [address for address, rule in found.items() if rule.lr] == [
        "block.0/dense.bias", "block.0/LayerNorm.bias", "head/output.weight"
    ]  # fmt: skip
    assert phase.moves == "vectors"
    (phase,) = made("norms").phases
    found = assign(phase.rules, addresses)
    assert [address for address, rule in found.items() if rule.lr] == [
        "block.0/LayerNorm.bias", "block.0/LayerNorm.weight", "head/output.weight"
    ]  # fmt: skip
    assert phase.moves == "vectors"


@pytest.mark.parametrize(
    ("strategy", "told"), [("biases", r'parameters like "\*bias"'), ("norms", "of the kind norm")]
)  # fmt: skip
def test_a_model_without_what_a_strategy_moves_is_an_error(strategy, told):
    (phase,) = made(strategy).phases
    with pytest.raises(RecipeError, match=told):
        assign(phase.rules, {"block.0/dense.weight": "weight", "head/output.weight": "weight"})


def test_adapters_move_with_the_head_and_nothing_else():
    plan = made("lora", rank=4, dropout=0.1)
    (phase,) = plan.phases
    kinds = ("weight", "bias", "norm", "adapter")
    found = assign(phase.rules, {f"{name}/{kind}": kind for name in NAMES for kind in kinds})
    moved = [address for address, rule in found.items() if rule.lr]
    assert moved == [*(f"{name}/adapter" for name in NAMES[:-1]), *(f"head/{kind}" for kind in kinds)]
    (edit,) = plan.edits
    assert edit.name == "lora"
    assert edit.options == {
        "method": "lora", "rank": 4, "alpha": None, "dropout": 0.1, "stages": ["block.2", "neck", "block.1", "block.0"]
    }  # fmt: skip
    assert made("lora", last=1).edits[0].options["stages"] == ["block.2", "neck"]


@pytest.mark.parametrize(
    ("method", "moves", "decay"),
    [
        ("lora", "adapters", 1.0),
        ("rslora", "adapters", 1.0),
        ("dora", "adapters", 1.0),
        ("oft", "adapters", 1.0),
        ("ia3", "vectors", 0.0),
        ("vera", "vectors", 0.0),
    ],
)
def test_vectors_do_not_decay_and_have_the_rate_of_vectors(method, moves, decay):
    (phase,) = made("lora", method=method).phases
    (rule,) = [rule for rule in phase.rules if rule.kind == "adapter"]
    assert (phase.moves, rule.decay) == (moves, decay)


def test_shares_add_up_for_any_depth():
    for blocks in (1, 6, 12, 24):
        names = ["stem", *(f"block.{number}" for number in range(blocks)), "head"]
        for strategy in plugins.names("strategy"):
            options = {"stages": 1} if strategy == "last" else {}
            assert math.isclose(sum(phase.share for phase in made(strategy, names, **options).phases), 1.0)


def test_depth_counts_the_neck_with_the_top_block():
    assert depth.units(NAMES) == [("block.2", "neck"), ("block.1",), ("block.0",), ("stem",)]
    assert depth.units(["stem", "neck", "head"]) == [("stem", "neck")]
