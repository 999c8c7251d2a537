"""Plans: every parameter has the first rule that matches it."""

from __future__ import annotations

import pytest

from tunesmith import plugins
from tunesmith.errors import RecipeError
from tunesmith.strategies.plan import Rule, assign

ADDRESSES = dict.fromkeys(
    ["stem/word.weight", "block.0/attention.weight", "block.1/attention.weight", "head/output.weight"], "weight"
)
STAGES = ["stem", "block.0", "block.1", "head"]


def test_the_first_rule_that_matches_wins():
    rules = (Rule("block.0/*", 0.5), Rule("block.*", 0.7), Rule("*", 1.0))
    assert [rule.lr for rule in assign(rules, ADDRESSES).values()] == [1.0, 0.5, 0.7, 1.0]


def test_a_parameter_without_a_rule_is_an_error_that_says_how_to_end():
    with pytest.raises(RecipeError, match=r'no rule covers the parameter "stem/word\.weight"') as caught:
        assign((Rule("block.*", 1.0), Rule("head/*", 1.0)), ADDRESSES)
    assert 'Rule("*"' in str(caught.value)


def test_a_rule_that_matches_nothing_is_an_error_that_names_the_nearest_stage():
    with pytest.raises(RecipeError, match=r'the rule "blok\.1/\*" matches no parameter') as caught:
        assign((Rule("blok.1/*", None), Rule("*", 1.0)), ADDRESSES)
    assert 'did you mean "block.' in str(caught.value)


def test_a_rule_that_others_hide_is_idle_too():
    with pytest.raises(RecipeError, match="matches no parameter"):
        assign((Rule("block.*", 1.0), Rule("block.1/*", None), Rule("*", 1.0)), ADDRESSES)


def test_a_last_rule_for_all_the_rest_may_be_idle():
    assert assign((Rule("stem/*", None), Rule("block.*", 0.1), Rule("head/*", 1.0), Rule("*", 1.0)), ADDRESSES)


@pytest.mark.parametrize(("strategy", "trains"), [("full", STAGES), ("head", ["head"])])
def test_a_strategy_trains_the_stages_it_names(strategy, trains):
    plan = plugins.get("strategy", strategy)(STAGES)
    assert sum(phase.share for phase in plan.phases) == 1
    for phase in plan.phases:
        found = assign(phase.rules, ADDRESSES)
        assert [address.partition("/")[0] for address, rule in found.items() if rule.lr] == trains
