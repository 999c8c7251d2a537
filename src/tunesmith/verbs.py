"""The verbs as Python functions of the same names and results: what the command line calls."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from torch import nn

from tunesmith import choices
from tunesmith.assemble.job import Job
from tunesmith.assemble.loaded import Loaded, load_run, some
from tunesmith.assemble.rows import target_values, unseen_labels
from tunesmith.data.profile import missing_rows
from tunesmith.delivery import (
    compared,
    data_report,
    estimate,
    label_report,
    lr_range,
    plan_table,
    probabilities,
    rows_out,
    scores,
)
from tunesmith.delivery.comparison import Comparison
from tunesmith.delivery.reporting import page
from tunesmith.errors import DataError, RecipeError
from tunesmith.evaluation import intervals
from tunesmith.evaluation.predict import Predictions
from tunesmith.evaluation.slices import Judged, score_slices
from tunesmith.files import no_space, write_json
from tunesmith.given import is_recipe, objects_of, path_of, recipe_of, resumed
from tunesmith.pipeline import run_recipe, steps
from tunesmith.recipe.check import check_recipe
from tunesmith.recipe.schema import Recipe, Search
from tunesmith.run import Run, open_run
from tunesmith.study import learning_curve
from tunesmith.study import workers as workers_of_search
from tunesmith.study.folds import FOLDS, is_folded
from tunesmith.study.searching import run_search
from tunesmith.study.seeds import SEEDS, is_seeded
from tunesmith.study.several import fit_several
from tunesmith.training import machine

Tell = Callable[[str], None]
Metric = str | Callable[..., float]


def say(line: str) -> None:
    """One line to standard error, where it does not mix with predictions."""
    print(line, file=sys.stderr, flush=True)


def fit(
    data: Any = None,
    model: Run | Path | str | nn.Module | None = None,
    *,
    target: str | Sequence[str] | None = None,
    task: str | None = None,
    strategy: str | None = None,
    valid: Any = None,
    test: Any = None,
    loss: Callable[..., Any] | None = None,
    metrics: Sequence[Metric] | None = None,
    source_task: Any = None,
    keep: float | None = None,
    out: Path | str | None = None,
    seed: int | None = None,
    seeds: int | None = None,
    device: str | None = None,
    push: str | None = None,
    resume: Run | Path | str | None = None,
    settings: Sequence[str] = (),
    quiet: bool = False,
    tell: Tell = say,
) -> Run:
    """Fine-tune `model` on `data` and return the Run.

    `data`, `valid` and `test` are paths or objects in memory (DataFrame, dict of columns, (texts, labels), torch
    Dataset ...), `data` also a recipe file; `model` is a name, a folder, a Run, or a network of your own, of torch
    or Keras (it is copied); `settings` are overrides such as `"train.lr=1e-4"`. `loss(outputs, targets)
    -> (rows,)` and `metrics` (`metric(truth, predictions) -> float`, more is better) may be functions of your own.
    `source_task` are labelled rows of what the model could do before, and `keep` is the share of that score to be kept.
    With `seeds` = 5 the recipe is run with four further seeds, and the scores say how much they differ by.
    `resume` continues a Run that was interrupted; objects in memory must be handed over again."""
    tell = _nothing if quiet else tell
    objects = objects_of(data, valid, test, model, loss, metrics, source_task=source_task)
    fields: dict[str, Any] = {"model": model, "target": target, "task": task, "strategy": strategy, "keep": keep}
    fields |= {"seed": seed, "seeds": seeds, "device": device, "push": push}
    if resume is not None:
        run = resume if isinstance(resume, Run) else open_run(resume, finished=False)
        ignored = {
            "DATA": path_of(data),
            "--source-task": path_of(source_task),
            "--out": out,
            "--set": settings or None,
        }
        ignored |= fields | {"model": None if objects.model is not None else model}
        recipe = resumed(run, objects, ignored)
        if run.finished:
            tell(f"{run.path} is complete: nothing to resume")
            return run
        return _fitted(recipe)(recipe, objects, resume=run, tell=tell, quiet=quiet)
    fields |= {"data": data, "valid": valid, "test": test, "source_task": source_task, "loss": loss, "metrics": metrics}
    recipe = recipe_of(objects, fields, settings)
    if recipe.search != Search():
        what, remedy = '"search" has no effect on a fit', "use tunesmith search, or leave [search] out"
        raise RecipeError(what, where="recipe", remedy=remedy)
    return _fitted(recipe)(recipe, objects, out=out, tell=tell, quiet=quiet)


def search(
    data: Any = None,
    model: Run | Path | str | nn.Module | None = None,
    *,
    budget: str | None = None,
    trials: int | None = None,
    tune: Sequence[str] | None = None,
    workers: int | str | None = None,
    earlier: bool | None = None,
    target: str | Sequence[str] | None = None,
    task: str | None = None,
    strategy: str | None = None,
    valid: Any = None,
    test: Any = None,
    metrics: Sequence[Metric] | None = None,
    out: Path | str | None = None,
    seed: int | None = None,
    device: str | None = None,
    resume: Path | str | None = None,
    join: Path | str | None = None,
    since: float | None = None,
    settings: Sequence[str] = (),
    quiet: bool = False,
    tell: Tell = say,
) -> Run | None:
    """Find the best model that `budget` ("20m") allows and return its Run; beside it lie `trials/`, `leaderboard.json`
    and `search.html`, which say what was tried and why this one won.

    The arguments of `fit` mean what they mean there; what they fix is not searched. `tune`: which of "parameters",
    "architecture" and "training" are searched; the ranges may be given as `search.space` of a recipe. `workers`:
    processes that run trials, or "ray:8". `earlier`: begin with what was best on tasks alike. `resume` continues a
    search that was stopped, and `join` runs trials of one that another process leads (then None is returned). The time
    counts from `since` (`time.time()`), by default from the call. Ctrl-C ends a search with the best so far."""
    tell = _nothing if quiet else tell
    fields: dict[str, Any] = {"model": model, "target": target, "task": task, "strategy": strategy, "device": device}
    fields |= {"budget": budget, "trials": trials, "tune": tune, "workers": workers, "earlier": earlier, "seed": seed}
    fields |= {"data": data, "valid": valid, "test": test, "metrics": metrics}
    if resume is not None or join is not None:
        given = [name for name, value in {**fields, "out": out, "set": settings or None}.items() if value is not None]
        if given and not (resume is not None and data is not None):
            what = f"{given[0]} has no effect: the search has its own recipe"
            raise RecipeError(what, where="search", remedy="leave it out")
    if join is not None:
        workers_of_search.join(join, tell)
        return None
    objects = objects_of(data, valid, test, model, None, metrics)
    recipe = None if resume is not None else recipe_of(objects, fields, settings)
    return run_search(recipe, objects, out=out, resume=resume, since=since, tell=tell, quiet=quiet)


def _fitted(recipe: Recipe) -> Callable[..., Run]:
    """How a recipe becomes a Run: by one run of the pipeline, or by several."""
    check_recipe(recipe)
    several = FOLDS if is_folded(recipe) else SEEDS if is_seeded(recipe) else None
    return run_recipe if several is None else functools.partial(fit_several, several)


def check(
    data: Any = None,
    model: Run | Path | str | nn.Module | None = None,
    *,
    target: str | Sequence[str] | None = None,
    task: str | None = None,
    strategy: str | None = None,
    valid: Any = None,
    test: Any = None,
    seed: int | None = None,
    device: str | None = None,
    plan: bool = False,
    lr: bool = False,
    labels: bool = False,
    curve: bool = False,
    png: Path | str | None = None,
    settings: Sequence[str] = (),
    tell: Tell = say,
) -> Any:
    """Hold recipe, data and model against each other without training, and return what can be printed.

    Without a model a `DataReport`: what is in the data, what is wrong with it, and what to do. With one an `Estimate`:
    the resolved recipe, what would train, and what the run would cost in time, memory and disk. With
    `plan` a `PlanTable`: what each phase does to each parameter. With `labels` a `LabelReport`: rows whose label looks
    wrong, the surest first. With `lr` a `RangeTest`: the learning rates that a range test suggests. With `curve` a
    `LearningCurve`: what the recipe scores with fewer rows, and what more would bring. Both are drawn to the file
    `png` if one is given."""
    answers = {"--plan": plan, "--lr": lr, "--labels": labels, "--curve": curve}
    if sum(answers.values()) > 1:
        raise RecipeError(f"{', '.join(answers)} are answers apart", where="check", remedy="ask for one at a time")
    if png is not None and not (lr or curve):
        what = "--png has no effect without --lr or --curve"
        raise RecipeError(what, where="check", remedy="add one of them, or leave --png out")
    objects = objects_of(data, valid, test, model, None, None)
    fields = {
        "data": data,
        "model": model,
        "target": target,
        "task": task,
        "strategy": strategy,
        "valid": valid,
        "test": test,
        "seed": seed,
        "device": device,
    }
    if model is None and not is_recipe(data):
        if asked := [name for name, value in {**answers, "--strategy": strategy}.items() if value]:
            raise RecipeError(f"{asked[0]} is about a model", where="check", remedy="add --model")
        return data_report.data_report(recipe_of(objects, fields | {"model": "none"}, settings), objects)
    recipe = recipe_of(objects, fields, settings)
    if plan:
        return plan_table.plan_table(recipe, objects, tell)
    if labels:
        return label_report.label_report(recipe, objects, tell)
    where = None if png is None else Path(png)
    if curve:
        return learning_curve.learning_curve(recipe, objects, tell, where)
    if lr:
        return lr_range.lr_range(recipe, objects, lambda job: _measured(job, tell), tell, where)
    return estimate.estimate(recipe, objects, tell)


def _measured(job: Job, tell: Tell) -> Job:
    """What a fit measures before it trains: the head, the rows of a pass, the stages that move."""
    job, _ = choices.with_head(job, tell)
    job, _ = choices.with_micro(job, tell)
    return choices.with_stages(job, steps, tell)[0]


def load(run: Run | Path | str, *, device: str = "auto", model: nn.Module | None = None) -> Model:
    """The model of a Run, in memory: `load(RUN).predict(["a text"])`. `model`: the network that the Run was made from,
    where that was one in memory."""
    run = run if isinstance(run, Run) else open_run(run)
    return Model(load_run(run, machine.start(device, "fp32"), model))


@dataclass(frozen=True)
class Model:
    """A finished Run's net, loaded once."""

    loaded: Loaded

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of the probabilities."""
        return self.loaded.target.labels

    def predict(self, rows: Any) -> list[Any]:
        """The label (or labels, or value) of each row: texts, pairs of texts, or any source that `fit` takes."""
        return self.predictions(rows).decoded if some(rows) else []

    def probabilities(self, rows: Any) -> np.ndarray:
        """(rows, labels); the values themselves for a regression."""
        return self.predictions(rows).probabilities if some(rows) else np.empty((0, len(self.labels)))

    def predictions(self, rows: Any) -> Predictions:
        """Ids, outputs and decoded values of each row."""
        return self.loaded.predict_table(self.loaded.table(rows))


def predict(
    run: Run | Path | str,
    data: Any,
    out: Path | str | None = None,
    *,
    proba: bool = False,
    coverage: float | None = None,
    device: str = "auto",
    model: nn.Module | None = None,
    tell: Tell = say,
) -> pa.Table:
    """Predict every row of `data`: its columns, `prediction`, and `probability_<label>` with `proba`; written to `out`
    (.csv, .tsv, .jsonl, .parquet; `-` is standard output) when given. With `coverage` also `prediction_set`, the labels
    that hold the true one in this share of rows like the valid ones, or of a regression `prediction_low` and
    `prediction_high`."""
    if out is not None:
        rows_out.check_name(str(out))
    loaded = load(run, device=device, model=model)
    most = None if coverage is None else probabilities.limit_of(loaded.loaded, coverage)
    table = loaded.loaded.table(data)
    for note in table.notes:
        tell(note)
    inputs = loaded.loaded.inputs
    if loaded.loaded.encoder.modality == "text" and (empty := len(missing_rows(table, inputs))):
        tell(f"{table.source}: without {' or '.join(inputs)}, read as an empty text: {empty} of its rows")
    predictions = loaded.loaded.predict_table(table)
    result = rows_out.with_predictions(table, predictions, proba=proba, most=most, tell=tell)
    if out is not None:
        rows_out.write(result, str(out))
    return result


def evaluate(
    run: Run | Path | str,
    data: Any,
    *,
    metrics: Sequence[Callable[..., float]] = (),
    slices: Sequence[str] | None = None,
    out: Path | str | None = None,
    device: str = "auto",
    model: nn.Module | None = None,
    tell: Tell = say,
) -> dict[str, Any]:
    """Score a Run on labelled rows: metric -> {value, low, high}; written to `out`, a .json file, by default inside the
    Run, with the predictions beside it. `metrics` are functions of your own, as for `fit`; `slices` are columns whose
    values are held against the rest, in place of those of the recipe."""
    if out is not None and Path(out).suffix != ".json":
        raise RecipeError("scores are written as .json", where=str(out), remedy=str(Path(out).with_suffix(".json")))
    run = run if isinstance(run, Run) else open_run(run)
    loaded = load(run, device=device, model=model).loaded
    table, target, task = loaded.table(data), loaded.target, loaded.task
    values = target_values(table, tuple(name for name in target.columns if not name.startswith("separator=")))
    codes, encoded = task.encode(values, target), loaded.encode(table)
    by: Any = run.recipe.evaluate.slices if slices is None else slices
    for column in slices or ():
        table.column(column)
    predictions = loaded.predict_table(table, codes, encoded)
    known = intervals.known_rows(codes)
    if not known.any():
        kinds = "numbers" if task.name == "regression" else f"labels: {', '.join(target.labels)}"
        raise DataError(f"no row has a {target.columns[0]} that the model knows", where=table.source, remedy=kinds)
    if unseen := unseen_labels(task, target, values):
        tell(f"labels that the model never saw, on which it can only be wrong: {', '.join(unseen[:5])}")
    if not known.all():
        tell(f"{(~known).sum()} of {len(known)} rows have no label that the model knows: they are left out")
    names = scores.metric_names(run.recipe)
    asked = () if run.recipe.evaluate.metrics == "auto" else run.recipe.evaluate.metrics
    given = {metric.__name__ for metric in metrics}
    if absent := [name for name in asked if name.startswith("memory:") and name.removeprefix("memory:") not in given]:
        names = names or [task.select]
        tell(f"without {', '.join(absent)}, a function in memory: evaluate(RUN, DATA, metrics=[...]) takes it")
    known_ones = predictions.take(np.flatnonzero(known))
    scored = scores.scored(known_ones, names, run.recipe.evaluate.select, metrics)
    scored |= probabilities.figures(run, "", known_ones)
    judged = Judged(table, np.arange(len(known)), loaded.inputs, loaded.encoder.modality, encoded.lengths, by)
    scored["slices"] = score_slices(predictions, run.recipe.evaluate.select, judged)
    result = {"data": table.source, "rows": int(known.sum()), **scored}
    name = Path(data).stem if path_of(data) and str(data) != "-" else table.source
    path = Path(out) if out is not None else run.path / "evaluations" / f"{name or 'data'}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, result)
        predictions.save(path.with_suffix(".parquet"))
    except OSError as error:
        raise no_space(path, error) from None
    tell(f"wrote {path} and {path.with_suffix('.parquet')}")
    return result


def compare(
    *runs: Run | Path | str | Any,
    data: Any = None,
    split: str = "test",
    metric: Metric | None = None,
    out: Path | str | None = None,
    device: str = "auto",
) -> Comparison:
    """Hold each of several Runs against the first on the same rows: the difference with its interval, a verdict, the
    rows won and lost; what is returned can be printed.

    The rows are those of `split` ("test" or "valid") that each Run kept, or all of `data`, labelled rows that the Runs
    answer now. In place of a Run, a predictions file of another tool or rows in memory: `id` (or the columns that the
    Run reads), `prediction`, `probability_<label>`. `metric`: a name, or a function of your own; by default what the
    first Run was chosen by. `out` gets the rows on which not all say the same."""
    if out is not None:
        rows_out.check_name(str(out))
    found = compared.compared(runs, data, split=split, metric=metric, device=device)
    if out is not None:
        found.write(out)
    return found


def report(run: Run | Path | str, out: Path | str | None = None, *, lang: str = "en", tell: Tell = say) -> Path:
    """Write what a Run is worth, and why, as one HTML page that needs nothing else, and return its path: by default
    `report.html` in the Run; `lang` is `en` or `zh`."""
    if out is not None and Path(out).suffix not in (".html", ".htm"):
        raise RecipeError("a report is written as .html", where=str(out), remedy=str(Path(out).with_suffix(".html")))
    run = run if isinstance(run, Run) else open_run(run)
    path = page.write_page(run, None if out is None else Path(out), lang)
    tell(f"wrote {path}")
    return path


def _nothing(_line: str) -> None:
    """Quiet."""
