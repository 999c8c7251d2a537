"""What a model card says beside the scores: intended use, limits, data, training; each line from what the run knows."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tunesmith.delivery.card_metadata import Published, judged
from tunesmith.evaluation.intervals import shown
from tunesmith.recipe.schema import Choice, Recipe
from tunesmith.run import Run
from tunesmith.tasks.task import Target

FEW_ROWS, FEW_OF_CLASS = 1000, 50
"""Under so many training rows, in all and of a class, it is said."""
MOST = 5
"""Classes, slices and the like that a line names."""
LANGUAGES = {"en": "English", "zh": "Chinese"}


def facts(run: Run, recipe: Recipe, target: Target, base: Published, language: str | None) -> dict[str, str]:
    """Heading -> what stands below it, of a run that has its scores."""
    lists = {
        "Intended use": _use(run, target, language),
        "Limits": _limits(run, recipe, target),
        "Data": _data(run),
        "Training": _training(run, recipe),
        "Licence": _license(base),
    }
    told = {heading: "\n".join(f"- {line}" for line in lines) for heading, lines in lists.items()}
    return {**{heading: text for heading, text in told.items() if text}, "Cite": _citation(run, recipe, base)}


def _use(run: Run, target: Target, language: str | None) -> Iterator[str]:
    data = run.read("data.json")
    kind = f"{LANGUAGES[language]} texts" if language else f"{data['modality']} rows".replace("text rows", "texts")
    answers = ", ".join(f"`{column}`" for column in target.columns if not column.startswith("separator="))
    yield f"To predict {answers} of {kind} like those it was tuned on."
    yield "For rows of another source, language or time its scores do not speak: judge it there first."


def _limits(run: Run, recipe: Recipe, target: Target) -> Iterator[str]:
    split, scores = judged(run.scores)
    parts, mine = run.read("data.json")["split"], run.scores.get(split, {})
    if parts["train"] < FEW_ROWS:
        yield f"It learned from {parts['train']} rows; more would likely change what it answers."
    if not scores:
        yield "No row was set aside: how good it is, nobody knows."
    elif parts[split] and parts[split] < FEW_ROWS:
        yield f"It was judged on {parts[split]} rows, so the intervals above are wide; believe them, not the middle."
    few = [(count, label) for label, count in zip(target.labels, target.counts, strict=False) if count < FEW_OF_CLASS]
    if few and len(target.labels) > 1:
        yield f"Few training rows have {_listed(f'`{label}` ({count})' for count, label in sorted(few))}."
    yield from _weakest(mine, recipe)
    yield from _against(mine)
    leaks = run.read("ledger.json").get("found", {}).get("leaks", 0)
    if leaks and recipe.data.clean.leaks == "keep":
        yield f"{leaks} rows are nearly the same in two parts of the data, so new rows will be answered somewhat worse."
    yield "Nothing was examined of how it treats groups of people, nor of rows made to mislead it."


def _weakest(scores: Mapping[str, Any], recipe: Recipe) -> Iterator[str]:
    """The class, the slices and the probabilities that are worst, as far as they were measured."""
    known = {label: values for label, values in scores.get("classes", {}).items() if _value(values.get("recall"))}
    if len(known) > 1:
        label = min(known, key=lambda label: known[label]["recall"]["value"])
        rows = known[label]["rows"]
        yield f"Found least often: `{label}`, recall {shown(known[label]['recall'])} on {rows} rows."
    worse = [found for found in scores.get("slices", []) if found.get("worse")]
    if worse:
        told = (f"{found['slice']} ({found['metric']} {shown(found['value_of'])})" for found in worse)
        yield f"Surely worse than elsewhere: {_listed(told)}."
    calibration = scores.get("calibration", {})
    if _value(calibration.get("ece")):
        yield f"Its probabilities are off by {shown(calibration['ece'])} on average (expected calibration error)."
    elif recipe.task == "auto" or recipe.task.name != "regression":
        yield "Whether its probabilities can be taken at their word was not measured."


def _against(scores: Mapping[str, Any]) -> Iterator[str]:
    """Baselines that it does not surely beat."""
    even = {name: found for name, found in scores.get("against", {}).items() if _value(found) and found["low"] <= 0}
    if even:
        told = (f"{name} (difference {shown(found)})" for name, found in even.items())
        yield f"Not surely better than {_listed(told)}."


def _data(run: Run) -> Iterator[str]:
    data, ledger = run.read("data.json"), run.read("ledger.json")
    sources = (f"{_unpathed(source['name'])} ({source['rows']:,} rows)" for source in data["source"])
    parts = ", ".join(f"{data['split'][part]:,} {part}" for part in ("train", "valid", "test"))
    yield f"{_listed(sources)}; split by `{data['split']['how']}`: {parts}."
    for entry in ledger["entries"]:
        of = f" of {entry['part']}" if entry.get("part") else ""
        went = f" to {entry['to']}" if entry.get("to") else ""
        yield f"{entry['rows']:,} rows{of} {entry['action']}{went} ({entry['step']})."
    found = {step: count for step, count in ledger.get("found", {}).items() if count}
    if found:
        yield f"Rows found to be odd: {', '.join(f'{step} {count:,}' for step, count in found.items())}."


def _training(run: Run, recipe: Recipe) -> Iterator[str]:
    train, environment = recipe.train, run.read("environment.json")
    steps = [event for event in map(json.loads, _lines(run)) if event["event"] == "step"]
    choices = {"strategy": recipe.strategy, "optimizer": train.optimizer, "schedule": train.schedule}
    told = [f"{name} `{_chosen(choice)}`" for name, choice in choices.items()]
    rate = train.lr if isinstance(train.lr, float | str) else ", ".join(f"{k} {v:.2g}" for k, v in train.lr.items())
    told += [f"rate {rate:.2g}" if isinstance(rate, float) else f"rate {rate}", f"batch {train.batch}"]
    yield f"{', '.join(told)}, seed {recipe.seed}."
    if steps:
        spent = sum(event["seconds"] for event in steps)
        yield f"At most {train.length}; {steps[-1]['step']:,} steps were made, in {spent:,.0f} seconds of training."
    where = f"{environment['device']}, {environment['processor']}, {environment['cores']} cores"
    yield f"On {where}, {environment['precision']}; Python {environment['python']}."
    yield f"With {', '.join(f'{name} {version}' for name, version in environment['packages'].items())}."


def _license(base: Published) -> Iterator[str]:
    if base.license:
        yield f"Of the base: `{base.license.get('license_name', base.license['license'])}`."
    elif base.is_pretrained:
        yield "The licence of the base is not known here: look it up before you publish."


def _citation(run: Run, recipe: Recipe, base: Published) -> str:
    version = run.read("environment.json")["packages"]["tunesmith"]
    made = f"{base.name}, fine-tuned with Tunesmith {version}"
    name = "".join(letter if letter.isalnum() else "-" for letter in recipe.name)
    year = time.gmtime((run.path / "data.json").stat().st_mtime).tm_year
    return (
        f"```bibtex\n@misc{{{name},\n  title = {{{recipe.name}}},\n  note = {{{made}}},\n  year = {{{year}}}\n}}\n```"
    )


def _lines(run: Run) -> list[str]:
    path = run.path / "events.jsonl"
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _chosen(choice: Choice) -> str:
    """A choice with its options."""
    options = ", ".join(f"{name} = {value}" for name, value in choice.options.items())
    return f"{choice.name} ({options})" if options else choice.name


def _unpathed(name: str) -> str:
    """A file's or folder's own name; where it lies is nobody's business."""
    return Path(name).name if Path(name).is_absolute() else name


def _value(interval: Any) -> bool:
    return isinstance(interval, dict) and isinstance(interval.get("value"), float | int)


def _listed(things: Any) -> str:
    """The first few, and how many more."""
    things = list(things)
    more = f" and {len(things) - MOST} more" if len(things) > MOST else ""
    return ", ".join(things[:MOST]) + more
