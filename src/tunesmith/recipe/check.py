"""What a recipe says wrongly, found without data or model: names, options, settings without effect, all at once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tunesmith import plugins
from tunesmith.errors import Problem, RecipeError, nearest
from tunesmith.recipe.schema import Choice, Recipe

CHOICES = {
    "task": "task",
    "objective": "objective",
    "strategy": "strategy",
    "data.split": "split",
    "data.augment": "augment",
    "model.head": "head",
    "train.optimizer": "optimizer",
    "train.schedule": "schedule",
    "train.clip": "clip",
    "train.penalty": "penalty",
    "train.average": "average",
}
"""The kind of plug-in that each choice of the recipe names."""

BEHIND_AUTO = {"data.split": "hash"}
"""What "auto" mostly stands for, where several have the options that are written."""
TEXT = ".txt"
"""How the name of a general text ends, among what `evaluate.source_task` may name."""
LIMITS = ("dropped", "duplicates", "conflicts", "leaks", "cut")
"""What `data.limits` knows."""


def name_choices(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree of a recipe whose choices have names: options alone mean the default, or the only thing that has them.

    `--set train.optimizer.weight_decay=0` is about AdamW, and `--set task.positive=spam` about a classification."""
    for path, kind in CHOICES.items():
        *parents, last = path.split(".")
        part: Any = tree
        field: Any = Recipe
        for key in parents:
            part = part.get(key) if isinstance(part, dict) else None
            field = field.model_fields[key].annotation
        choice = part.get(last) if isinstance(part, dict) else None
        if not isinstance(choice, dict) or "name" in choice:
            continue
        default = field.model_fields[last].default
        having = [name for name in plugins.names(kind) if set(choice) <= set(_options(kind, name))]
        usual = default.name if isinstance(default, Choice) else BEHIND_AUTO.get(path)
        known = isinstance(default, Choice) or usual in having
        name = usual if known else having[0] if len(having) == 1 else None
        part[last] = choice if name is None else {"name": name, **choice}
    return tree


def check_recipe(recipe: Recipe, *, where: str = "recipe") -> None:
    """Raise one RecipeError that holds every problem found."""
    problems = [
        *(_choices(recipe, where) or _values(recipe, where)),
        *_metrics(recipe, where),
        *_threshold(recipe, where),
        *_temperature(recipe, where),
        *_forgetting(recipe, where),
        *_without_effect(recipe, where),
    ]
    if problems:
        raise RecipeError(problems)


def check_choice(kind: str, choice: Choice, path: str, where: str = "recipe") -> list[Problem]:
    """The problems of one choice: an unknown name, an unknown option, an option of the wrong type."""
    if choice.name.startswith("memory:"):
        return []
    if choice.name not in plugins.names(kind):
        remedy = nearest(choice.name, plugins.names(kind))
        return [Problem(f'"{path}": no {kind} is called "{choice.name}"', where, remedy)]
    known = _options(kind, choice.name)
    problems = []
    for key, value in choice.options.items():
        if key not in known:
            remedy = nearest(key, known) if known else f"{choice.name} has no options"
            problems.append(Problem(f'"{path}": {choice.name} has no option "{key}"', where, remedy))
            continue
        try:
            TypeAdapter(known[key].annotation).validate_python(value)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            problems.append(Problem(f'"{path}.{key}" = {value!r}: {reason}', where))
    return problems


def _options(kind: str, name: str) -> dict[str, Any]:
    """What a choice of this name may set; those of a task are what it learns its target with."""
    thing = plugins.get(kind, name)
    return dict(plugins.options(getattr(thing, "learn", thing)))


def _choices(recipe: Recipe, where: str) -> list[Problem]:
    problems = []
    for path, kind in CHOICES.items():
        value: Any = recipe
        for part in path.split("."):
            value = getattr(value, part)
        if isinstance(value, Choice):
            problems.extend(check_choice(kind, value, path, where))
    library, _, net = recipe.model.name.partition(":")
    if library == "new":
        path = "model.options" if net in plugins.names("net") else "model.name"
        problems.extend(check_choice("net", Choice(name=net, options=recipe.model.options), path, where))
    for name, options in recipe.model.edits.items():
        choice = Choice.model_validate({"name": name, "options": options})
        problems.extend(check_choice("edit", choice, f"model.edits.{name}", where))
    for choice in recipe.deliver.observers:
        problems.extend(check_choice("observer", choice, "deliver.observers", where))
    return problems


def _values(recipe: Recipe, where: str) -> list[Problem]:
    """What the schedule says of its options' values: it is pure, and can be asked before anything is read."""
    choice = recipe.train.schedule
    schedule = plugins.get("schedule", choice.name)
    try:
        schedule(0, 1, *[[]] * takes_scores(schedule), **choice.options)
    except RecipeError as error:
        return [replace(problem, where=where) for problem in error.problems]
    return []


def takes_scores(schedule: Callable[..., float]) -> bool:
    """Whether a schedule reads the scores so far, its third parameter."""
    kinds = [parameter.kind for parameter in inspect.signature(schedule).parameters.values()]
    return kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD) == 3


def _metrics(recipe: Recipe, where: str) -> list[Problem]:
    wanted = [] if recipe.evaluate.metrics == "auto" else list(recipe.evaluate.metrics)
    selected = [] if recipe.evaluate.select == "auto" else [recipe.evaluate.select]
    known = plugins.names("metric")
    return [
        Problem(f'"evaluate.{key}": no metric is called "{name}"', where, nearest(name, known))
        for key, names in (("metrics", wanted), ("select", selected))
        for name in names
        if name not in known and not name.startswith("memory:")
    ]


def _threshold(recipe: Recipe, where: str) -> list[Problem]:
    """A threshold is about labels, and one that is chosen is about a metric of what is decided."""
    threshold, name = recipe.evaluate.threshold, recipe.evaluate.select
    if threshold is None:
        return []
    if recipe.task != "auto" and recipe.task.name == "regression":
        return [Problem('"evaluate.threshold" has no effect on a regression', where, "leave it out")]
    if threshold != "auto" or name not in plugins.names("metric"):
        return []
    if hasattr(plugins.get("metric", name), "of_counts"):
        return []
    able = [metric for metric in plugins.names("metric") if hasattr(plugins.get("metric", metric), "of_counts")]
    what = f'"evaluate.threshold" = auto: no threshold changes "{name}", by which it would be chosen'
    return [Problem(what, where, f"set evaluate.select to one of {', '.join(able)}, or leave the threshold out")]


def _temperature(recipe: Recipe, where: str) -> list[Problem]:
    if recipe.evaluate.temperature in ("auto", 1) or recipe.task == "auto" or recipe.task.name != "regression":
        return []
    return [Problem('"evaluate.temperature" has no effect on a regression', where, "leave it out")]


def _forgetting(recipe: Recipe, where: str) -> list[Problem]:
    """What keeps an old score needs one, and weights that move and that nothing else mixes."""
    source, keep = recipe.evaluate.source_task, recipe.evaluate.keep
    problems = []
    if source is not None and recipe.model.name.startswith("new:"):
        what = '"evaluate.source_task" asks what the model could do before, and it is not pretrained'
        problems.append(Problem(what, where, "leave it out, or give the Run that could do it as model.name"))
    if source is not None and "trim" in recipe.model.edits:
        what = '"model.edits.trim" takes out blocks on which the head for "evaluate.source_task" stands'
        problems.append(Problem(what, where, "leave one of the two out"))
    if keep is None:
        return problems
    if source is None:
        what, remedy = '"evaluate.keep" keeps the score of an old task', "set evaluate.source_task to its labelled rows"
        problems.append(Problem(what, where, remedy))
    elif source.endswith(TEXT):
        remedy = "set evaluate.source_task to labelled rows, or leave keep out"
        problems.append(Problem('"evaluate.keep" keeps the score of labelled rows, not of a text', where, remedy))
    if recipe.strategy.name == "head":
        what = '"evaluate.keep" has no effect on the strategy head, which leaves the body as it is'
        problems.append(Problem(what, where, "leave it out"))
    if recipe.train.average is not None and recipe.train.average.name == "wise_ft":
        what = '"evaluate.keep" and "train.average" = wise_ft both mix the tuned weights with the pretrained'
        problems.append(Problem(what, where, "leave one of the two out"))
    return problems


def _without_effect(recipe: Recipe, where: str) -> list[Problem]:
    train, problems = recipe.train, []
    if train.every.evaluate == "never" and isinstance(train.patience, int) and train.patience > 0:
        remedy = "set train.patience = 0, or let it evaluate"
        problems.append(Problem('"train.patience" has no effect when train.every.evaluate = "never"', where, remedy))
    if train.batch != "auto" and train.micro != "auto" and train.batch != "all" and train.micro > train.batch:
        problems.append(Problem(f'"train.micro" = {train.micro} is more than "train.batch" = {train.batch}', where))
    if train.optimizer.name == "lbfgs" and train.clip not in ("auto", 0):
        remedy = "leave train.clip out"
        problems.append(Problem('"train.clip" would mislead the line search of lbfgs', where, remedy))
    if train.schedule.name == "constant" and train.schedule.options.get("floor") is not None:
        problems.append(Problem('"train.schedule.floor" has no effect on a constant rate', where))
    if recipe.data.sampler == "balanced" and recipe.objective.name == "contrastive":
        problems.append(Problem('"data.sampler" has no effect on contrastive: pairs are drawn by label', where))
    problems += _averages_without_effect(recipe, where)
    observers = [choice.name for choice in recipe.deliver.observers]
    problems += [
        Problem(f'"deliver.observers" names {name} twice', where, "once is enough")
        for name in sorted({name for name in observers if observers.count(name) > 1})
    ]
    problems += [
        Problem(f'"data.limits": nothing is called "{name}"', where, nearest(name, LIMITS))
        for name in recipe.data.limits
        if name not in LIMITS
    ]
    if (
        recipe.data.split != "auto"
        and recipe.data.split.name in ("hash", "column")
        and recipe.data.valid
        and recipe.data.test
    ):
        remedy = "leave data.split out: the files are the split"
        problems.append(Problem('"data.split" has no effect beside data.valid and data.test', where, remedy))
    named = [f'"data.{name}"' for name in ("valid", "test") if getattr(recipe.data, name) is not None]
    if named and recipe.data.split != "auto" and recipe.data.split.name in ("kfold", "fold"):
        what = (
            f"{' and '.join(named)} beside data.split = {recipe.data.split.name}, whose rows all come from data.source"
        )
        problems.append(Problem(what, where, "leave data.split out, or the files: evaluate RUN FILE scores them later"))
    if recipe.evaluate.seeds > 1 and recipe.data.split != "auto" and recipe.data.split.name == "kfold":
        what = '"evaluate.seeds" beside data.split = kfold: its folds already train the recipe several times'
        problems.append(Problem(what, where, "leave one out; or give the folds `repeats`, which draws them again"))
    if recipe.task != "auto" and recipe.task.name == "regression" and "class_weights" in recipe.objective.options:
        problems.append(Problem('"objective.class_weights" has no effect on a regression', where))
    return problems


def _averages_without_effect(recipe: Recipe, where: str) -> list[Problem]:
    """What an average needs and the recipe forbids."""
    train, average = recipe.train, recipe.train.average
    if average is None:
        return []
    problems = []
    evaluations = average.name == "soup" or average.options.get("every") == "evaluation"
    if train.every.evaluate == "never" and evaluations:
        remedy = "let it evaluate"
        problems.append(Problem(f'"train.average" = {average.name} averages what was evaluated', where, remedy))
    if train.optimizer.name == "schedule_free" and average.name in ("ema", "swa"):
        what = f'"train.average" = {average.name} has no effect beside schedule_free, which averages by itself'
        problems.append(Problem(what, where, "leave one of the two out"))
    return problems
