"""The table of a plan: every parameter, what the optimizer is given of it, and no step taken."""

from __future__ import annotations

import re
from itertools import count

import pytest

import tunesmith
from tunesmith.assemble import job as jobs
from tunesmith.delivery import estimate
from tunesmith.delivery.plan_table import PhaseTable, Row
from tunesmith.strategies.plan import Phase, Plan, Rule
from tunesmith.testing import tiny_model, tiny_rows

FROZEN = Rule("*", lr=None)
TWO = Plan(
    (
        Phase("early", (Rule("head/*", lr=2.0), FROZEN), share=0.25, moves="head"),
        Phase(
            "late",
            (Rule("*", lr=3.0, decay=0.0, kind="norm"), Rule("block.1/*", lr=0.5, decay=0.1), FROZEN),
            share=0.75,
        ),
    )
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("models") / "bert", num_hidden_layers=4)


@pytest.fixture
def table(folder):
    """`table("train.lr=1e-2", ...)` is the PlanTable of a tiny run of 40 steps."""

    def build(*settings, strategy="full"):
        settings = ("train.length=40 steps", "train.batch=8", "model.head=pooled", "data.split=hash", *settings)
        return tunesmith.check(
            tiny_rows(60), folder, strategy=strategy, device="cpu", settings=settings, plan=True, tell=str
        )

    return build


@pytest.fixture
def two(monkeypatch, table):
    """The table of the plan above, whose rates differ by phase."""
    monkeypatch.setattr(jobs, "plan_of", lambda *_: TWO)
    return table("train.lr={early = 1e-2, late = 1e-3}")


def _expanded(text):
    """The addresses in a table: `block.{0..2}/layer.{1..3}` stands for three, number by number."""
    found = []
    for line in text.splitlines():
        address = line.split()[0] if line.startswith("  ") else ""
        if "/" not in address:
            continue
        ranges = [(int(a), int(b)) for a, b in re.findall(r"\{(\d+)\.\.(\d+)\}", address)]
        for place in range(ranges[0][1] - ranges[0][0] + 1 if ranges else 1):
            numbers = (str(first + place) for first, _ in ranges)
            found.append(re.sub(r"\{\d+\.\.\d+\}", lambda _, numbers=numbers: next(numbers), address))
    return found


@pytest.mark.parametrize("strategy", ["full", "probe_then_full", "discriminative", "lora"])
def test_each_parameter_is_shown_once_in_each_phase(table, monkeypatch, strategy):
    nets = []
    real = jobs.Job.net
    monkeypatch.setattr(jobs.Job, "net", lambda job: nets.append(real(job)) or nets[-1])
    found = table(strategy=strategy)
    parts = str(found).split("\nphase ")[1:]
    assert len(parts) == len(found.phases)
    for part, phase in zip(parts, found.phases, strict=True):
        assert sorted(_expanded(part)) == sorted(nets[0].address()) == sorted(row.address for row in phase.rows)


def test_stages_alike_share_lines(table):
    lines = str(table()).splitlines()
    assert sum("block.{0..3}/body.encoder.layer.{0..3}." in line for line in lines) == 16
    assert any(re.search(r"query\.weight +16 x 16 +4 x 256 ", line) for line in lines)


def test_a_stage_that_differs_stands_alone(two):
    late = str(two).split("\nphase ")[2]
    assert "block.0/body.encoder.layer.0." in late and "block.1/body.encoder.layer.1." in late
    assert "block.{2..3}/body.encoder.layer.{2..3}." in late


@pytest.mark.parametrize(
    ("addresses", "lines"),
    [
        (("block.0/x.1.w", "block.1/x.2.w", "block.2/x.3.w"), ["block.{0..2}/x.{1..3}.w"]),
        (("block.0/x.2.w", "block.1/x.4.w"), ["block.0/x.2.w", "block.1/x.4.w"]),
        (("block.0/x.1.w", "block.1/x.1.w", "block.2/x.2.w"), ["block.{0..1}/x.1.w", "block.2/x.2.w"]),
        (("block.0/x.w", "block.1/y.w"), ["block.0/x.w", "block.1/y.w"]),
        (("block.08/x.w", "block.09/x.w"), ["block.08/x.w", "block.09/x.w"]),
    ],
)
def test_a_range_stands_for_numbers_that_grow_by_one_together(addresses, lines):
    rows = tuple(Row(address, (2, 3), "weight", FROZEN, None, None) for address in addresses)
    shown = PhaseTable("full", "supervised", 0, 1, 0.1, rows).lines(1)
    assert [line.split()[0] for line in shown if "/" in line] == lines
    assert [address for line in lines for address in _expanded(f"  {line}")] == list(addresses)


def test_rates_rules_and_decay_are_those_that_the_optimizer_gets(two):
    early, late = two.phases
    assert (early.start, early.end, late.end, two.steps) == (0, 10, 40, 40)
    assert {row.rate for row in early.rows if row.address.startswith("head/")} == {2e-2}
    assert {row.rate for row in early.rows if not row.address.startswith("head/")} == {None}
    rows = {row.address: row for row in late.rows}
    query = rows["block.1/body.encoder.layer.1.attention.self.query.weight"]
    assert (query.shape, query.kind, query.rule, query.number) == ((16, 16), "weight", TWO.phases[1].rules[1], 256)
    assert (query.rate, query.decay) == (5e-4, 0.1)
    bias = rows["block.1/body.encoder.layer.1.attention.self.query.bias"]
    assert (bias.kind, bias.rate, bias.decay) == ("bias", 5e-4, 0.0)
    norm = rows["block.3/body.encoder.layer.3.output.LayerNorm.weight"]
    assert (norm.kind, norm.rate, norm.decay) == ("norm", 3e-3, 0.0)
    assert rows["block.0/body.encoder.layer.0.attention.self.query.weight"].rate is None
    text = str(two)
    assert "phase late: steps 11 to 40 of 40 (75%), supervised, highest rate 0.001" in text
    assert re.search(r"query\.weight +16 x 16 +256  weight +block\.1/\* +0\.0005 +0\.1\n", text)
    assert re.search(r"\* of kind norm +0\.003 +0\n", text)


def test_counts_close_each_phase(two):
    early, late = two.phases
    assert early.trainable == sum(row.number for row in early.rows if row.address.startswith("head/")) > 0
    whole = early.trainable + early.frozen
    assert late.trainable + late.frozen == whole
    assert f"  trainable {early.trainable:,}; frozen {early.frozen:,}\n" in str(two)
    assert "not reach" not in str(two), "what a rule freezes is not lost"


def test_what_the_loss_does_not_reach_is_told(table):
    full = table()
    pooler = [row for row in full.phases[0].rows if row.address.startswith("neck/")]
    assert pooler and not any(row.reached for row in pooler)
    lost = sum(row.number for row in pooler)
    assert full.phases[0].frozen == lost
    assert f"frozen {lost:,}, of which the loss does not reach {lost:,}" in str(full)
    assert re.search(r"neck/\S+ .* not reached by the loss\n", str(full))


def test_edits_come_first_with_what_they_added(table):
    found = table('model.edits.reinit={stages = ["block.3"]}', strategy="lora")
    lines = str(found).splitlines()
    assert lines[2].startswith("edit 1: reinit (stages = ['block.3']), from the recipe")
    assert lines[3].startswith("edit 2: lora (method = lora, ") and lines[3].endswith("from the strategy")
    adapters = sum(row.number for row in found.phases[0].rows if row.kind == "adapter")
    assert found.added == adapters > 0
    assert lines[4] == f"  they added {adapters:,} numbers"
    assert "edits: none" in str(table())


def test_a_schedule_that_runs_through_all_phases_gives_each_its_own_highest_rate(table):
    found = table("train.lr=1e-2", "train.warmup=never", strategy="unfreeze")
    rates = [phase.rate for phase in found.phases]
    assert rates[0] == 1e-2
    assert rates == sorted(rates, reverse=True) and len(set(rates)) == len(rates)


def test_stages_that_fit_measures_are_told(table):
    assert "stages: fit measures which 3 move" in str(table("strategy={name = 'stages', count = 3}", strategy=None))


def test_the_plan_is_shown_without_a_step_or_a_timing(tunesmith_says, folder, monkeypatch):
    calls = count()
    for name in ("train_phase", "outputs_of", "_training_cost", "_judging_cost"):
        monkeypatch.setattr(estimate, name, lambda *_, **__: next(calls))
    said = tunesmith_says("check", "--plan", "--model", folder)
    assert said.startswith("plan: full on ") and "head/heads.label.output.weight" in said
    assert next(calls) == 0


@pytest.fixture
def tunesmith_says(tmp_path, capsys):
    """`tunesmith_says("check", "--plan", ...)` is what the command line prints for a small file."""
    import csv

    from tunesmith.cli import _run

    columns = tiny_rows(60)
    with open(tmp_path / "rows.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([list(columns), *zip(*columns.values(), strict=True)])

    def run(verb, *arguments):
        assert _run([verb, str(tmp_path / "rows.csv"), *map(str, arguments), "--device", "cpu"]) == 0
        return capsys.readouterr().out

    return run
