"""The plan of an objective that does not reach the head: the strategy's phases without the head, then the head."""

from __future__ import annotations

import pytest

from tunesmith import plugins
from tunesmith.errors import RecipeError
from tunesmith.strategies.plan import Phase, Plan, Rule, assign, then_head

STAGES = ["stem", "block.0", "block.1", "head"]
ADDRESSES = {f"{stage}/{kind}": kind for stage in STAGES for kind in ("weight", "bias", "norm")}


def moving(phase):
    return {address for address, rule in assign(phase.rules, ADDRESSES).items() if rule.lr is not None}


@pytest.mark.parametrize("name", plugins.names("strategy"))
def test_every_strategy_that_moves_the_body_moves_it_as_before_and_then_the_head_alone(name):
    plan = plugins.get("strategy", name)(STAGES)
    body = [phase for phase in plan.phases if phase.moves != "head"]
    if not body:
        with pytest.raises(RecipeError, match="moves only the head"):
            then_head(plan, "contrastive")
        return
    if plan.edits:
        pytest.skip("its rules match what its edits add")
    made = then_head(plan, "contrastive")
    *tuned, head = made.phases
    assert [moving(phase) for phase in tuned] == [{a for a in moving(p) if not a.startswith("head/")} for p in body]
    assert moving(head) == {address for address in ADDRESSES if address.startswith("head/")}
    assert {phase.objective for phase in tuned} == {"contrastive"} and head.objective == "supervised"
    assert sum(phase.share for phase in tuned) == pytest.approx(0.5) and head.share == 0.5
    assert not made.carry


def test_phases_of_the_head_are_left_out_and_the_others_keep_their_shares():
    whole = (Rule("*", lr=1.0),)
    phases = (Phase("probe", whole, 0.5, "head"), Phase("top", whole, 0.1), Phase("all", whole, 0.4))
    made = then_head(Plan(phases), "contrastive")
    assert [phase.name for phase in made.phases] == ["top", "all", "head"]
    assert [phase.share for phase in made.phases] == pytest.approx([0.1, 0.4, 0.5])


def test_the_heaviest_phase_is_the_last_that_moves_more_than_the_head():
    whole = (Rule("*", lr=1.0),)
    top, all_of_it, head = Phase("top", whole), Phase("all", whole), Phase("head", whole, moves="head")
    assert Plan((top, all_of_it, head)).heaviest is all_of_it
    assert Plan((head,)).heaviest is head


def test_a_run_may_be_shortened_where_all_phases_minimise_one_thing():
    whole = (Rule("*", lr=1.0),)
    assert Plan((Phase("a", whole), Phase("b", whole))).shortens
    assert not then_head(Plan((Phase("a", whole),)), "contrastive").shortens
