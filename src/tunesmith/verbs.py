"""The verbs as Python functions of the same names and results: what the command line calls."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.assemble.loaded import Loaded, load_run
from tunesmith.assemble.rows import Objects, target_values
from tunesmith.data.columns import guess
from tunesmith.data.sources import open_source
from tunesmith.data.table import Table
from tunesmith.delivery import estimate, rows_out, scores
from tunesmith.errors import DataError, RecipeError
from tunesmith.evaluation import intervals
from tunesmith.evaluation.predict import Predictions
from tunesmith.files import write_json
from tunesmith.pipeline import run_recipe
from tunesmith.recipe import file as recipe_file
from tunesmith.recipe.schema import Recipe
from tunesmith.run import Run, open_run
from tunesmith.training import machine

Tell = Callable[[str], None]


def say(line: str) -> None:
    """One line to standard error, where it does not mix with predictions."""
    print(line, file=sys.stderr, flush=True)


def fit(
    data: Any = None,
    model: Any = None,
    *,
    target: str | Sequence[str] | None = None,
    task: str | None = None,
    strategy: str | None = None,
    valid: Any = None,
    test: Any = None,
    loss: Callable[..., Any] | None = None,
    metrics: Sequence[str | Callable[..., float]] | None = None,
    out: Path | str | None = None,
    seed: int | None = None,
    device: str | None = None,
    push: str | None = None,
    resume: Run | Path | str | None = None,
    settings: Sequence[str] = (),
    quiet: bool = False,
    tell: Tell = say,
) -> Run:
    """Fine-tune `model` on `data` and return the Run.

    `data` is a path, a recipe file, or an object in memory (DataFrame, dict of columns, (texts, labels), torch
    Dataset ...); `settings` are overrides such as `"train.lr=1e-4"`. `loss(outputs, targets) -> (rows,)` and
    `metrics` (`metric(truth, predictions) -> float`) may be functions of your own."""
    tell = _nothing if quiet else tell
    if resume is not None:
        run = resume if isinstance(resume, Run) else open_run(resume, finished=False)
        if run.finished:
            tell(f"{run.path} is complete: nothing to resume")
            return run
        recipe, objects = run.recipe, _objects(data, valid, test, loss, metrics)
        if recipe.data.source.startswith("memory:") and objects.data is None:
            what = "this run's data was an object in memory"
            raise RecipeError(what, where=str(run.path), remedy="tunesmith.fit(data, resume=RUN) with the same object")
        return run_recipe(recipe, objects, resume=run, tell=tell, quiet=quiet)
    recipe, objects = _recipe(
        data,
        model,
        valid,
        test,
        loss,
        metrics,
        settings,
        {
            "data.target": list(target) if isinstance(target, list | tuple) else target,
            "task": task,
            "strategy": strategy,
            "seed": seed,
            "train.device": device,
            "deliver.push": push,
        },
    )
    return run_recipe(recipe, objects, out=out, tell=tell, quiet=quiet)


def check(
    data: Any = None,
    model: Any = None,
    *,
    target: str | Sequence[str] | None = None,
    task: str | None = None,
    strategy: str | None = None,
    valid: Any = None,
    test: Any = None,
    seed: int | None = None,
    device: str | None = None,
    settings: Sequence[str] = (),
    tell: Tell = say,
) -> estimate.Estimate:
    """Hold recipe, data and model against each other without training: the resolved recipe, what would train, and
    what the run would cost in time, memory and disk."""
    recipe, objects = _recipe(
        data,
        model,
        valid,
        test,
        None,
        None,
        settings,
        {
            "data.target": list(target) if isinstance(target, list | tuple) else target,
            "task": task,
            "strategy": strategy,
            "seed": seed,
            "train.device": device,
        },
    )
    return estimate.estimate(recipe, objects, tell)


def load(run: Run | Path | str, *, device: str = "auto") -> Model:
    """The model of a Run, in memory: `load(RUN).predict(["a text"])`."""
    run = run if isinstance(run, Run) else open_run(run)
    return Model(load_run(run, machine.start(device, "fp32")))


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
        return self.predictions(rows).decoded

    def probabilities(self, rows: Any) -> np.ndarray:
        """(rows, labels); the values themselves for a regression."""
        return self.predictions(rows).probabilities

    def predictions(self, rows: Any) -> Predictions:
        """Ids, outputs and decoded values of each row."""
        return self.loaded.predict_table(self.table(rows))

    def table(self, rows: Any) -> Table:
        """The rows as an identified Table with the columns that the model reads."""
        inputs = self.loaded.inputs
        if isinstance(rows, list | tuple | np.ndarray) and len(rows) and isinstance(rows[0], str | tuple):
            columns = list(zip(*rows, strict=True)) if isinstance(rows[0], tuple) else [rows]
            if len(columns) != len(inputs):
                raise DataError(f"the model reads {len(inputs)} texts a row and got {len(columns)}")
            rows = dict(zip(inputs, map(list, columns), strict=True))
        tables = open_source(rows)
        table = tables.get("", tables.get("test", next(iter(tables.values()))))
        return _with_inputs(table, inputs)


def predict(
    run: Run | Path | str, data: Any, out: Path | str | None = None, *, proba: bool = False, device: str = "auto"
) -> Table:
    """Predict every row of `data`: its columns, `prediction`, and `probability_<label>` with `proba`; written to `out`
    (.csv, .tsv, .jsonl, .parquet; `-` is standard output) when given."""
    model = load(run, device=device)
    table = model.table(data)
    result = rows_out.with_predictions(table, model.loaded.predict_table(table), proba=proba)
    if out is not None:
        rows_out.write(result, str(out))
    return result


def evaluate(
    run: Run | Path | str, data: Any, *, out: Path | str | None = None, device: str = "auto", tell: Tell = say
) -> dict[str, Any]:
    """Score a Run on labelled rows: metric -> {value, low, high}; written beside the Run's own scores."""
    run = run if isinstance(run, Run) else open_run(run)
    model = load(run, device=device)
    table, target = model.table(data), model.loaded.target
    columns = tuple(name for name in target.columns if not name.startswith("separator="))
    guess(
        table,
        inputs=model.loaded.inputs,
        target=columns if len(columns) > 1 else columns[0],
        task=model.loaded.task.name,
    )
    codes = model.loaded.task.encode(target_values(table, columns), target)
    predictions = model.loaded.predict_table(table, codes)
    known = intervals.known_rows(codes)
    if not known.any():
        raise DataError(
            "no row has a label that the model knows", where=table.source, remedy=f"labels: {', '.join(target.labels)}"
        )
    if not known.all():
        tell(f"{(~known).sum()} of {len(known)} rows have no label that the model knows: they are left out")
    names = scores.metric_names(run.recipe)
    result = {
        "data": table.source,
        "rows": int(known.sum()),
        **intervals.score(predictions.take(np.flatnonzero(known)), names),
    }
    name = Path(table.source).stem if table.source else "data"
    path = Path(out) if out is not None else run.path / "evaluations" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, result)
    predictions.save(path.with_suffix(".parquet"))
    tell(f"wrote {path} and {path.with_suffix('.parquet')}")
    return result


def _recipe(
    data: Any,
    model: Any,
    valid: Any,
    test: Any,
    loss: Any,
    metrics: Any,
    settings: Sequence[str],
    fields: dict[str, Any],
) -> tuple[Recipe, Objects]:
    """The recipe of a call: a recipe file or the arguments, then the overrides."""
    objects = _objects(data, valid, test, loss, metrics)
    tree: dict[str, Any] = {}
    where, lines = "recipe", {}
    if isinstance(data, str | Path) and Path(data).suffix in recipe_file.SUFFIXES:
        where = str(data)
        tree, lines = recipe_file.read_tree(Path(data))
    elif data is not None:
        tree = {"data": {"source": str(data) if objects.data is None else _digest(data)}}
    fields = fields | {
        "model.name": None if model is None else str(model),
        "data.valid": None if valid is None else str(valid) if objects.valid is None else _digest(valid),
        "data.test": None if test is None else str(test) if objects.test is None else _digest(test),
        "evaluate.metrics": None
        if metrics is None
        else [m if isinstance(m, str) else f"memory:{m.__name__}" for m in metrics],
    }
    for path, value in fields.items():
        if value is not None:
            recipe_file.put(tree, path, value)
    return recipe_file.build(recipe_file.override(tree, settings), where=where, lines=lines), objects


def _objects(data: Any, valid: Any, test: Any, loss: Any, metrics: Any) -> Objects:
    def in_memory(thing: Any) -> Any:
        return None if thing is None or isinstance(thing, str | Path) else thing

    own = tuple(metric for metric in metrics or () if not isinstance(metric, str))
    return Objects(in_memory(data), in_memory(valid), in_memory(test), loss, own)


def _digest(thing: Any) -> str:
    """A name for an object in memory that tells it from another: its type and size; the rows are in data.json."""
    text = f"{type(thing).__name__} {len(thing) if hasattr(thing, '__len__') else ''}"
    return f"memory:{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _with_inputs(table: Table, inputs: tuple[str, ...]) -> Table:
    missing = [name for name in inputs if name not in table.column_names]
    if missing:
        raise DataError(
            f'the model reads the column "{missing[0]}", which is not there',
            where=table.source,
            remedy=f"columns: {', '.join(table.column_names)}",
        )
    return table.identified(inputs)


def _nothing(_line: str) -> None:
    """Quiet."""
