"""k-fold cross-validation of a whole recipe: a Run for each fold, then the model that all rows train.

Each fold is an ordinary run of the recipe with `data.split = fold`, so that nothing of its test rows chooses anything;
its settings are those that were resolved for all rows. A fold that has its scores is done: its weights are removed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tunesmith.assemble.rows import Objects
from tunesmith.data.split import each_fold
from tunesmith.delivery import estimate, folder
from tunesmith.delivery.card import shown
from tunesmith.errors import Interrupted, TunesmithError
from tunesmith.evaluation.resampled import over_folds
from tunesmith.files import remove_folder, sweep
from tunesmith.pipeline import run_recipe
from tunesmith.recipe.schema import Choice, Recipe
from tunesmith.run import Run, is_run
from tunesmith.signals import terminable
from tunesmith.training.machine import is_first

Tell = Callable[[str], None]

KEPT = (
    "data.json",
    "environment.json",
    "events.jsonl",
    "ledger.json",
    "measured.json",
    "mistakes",
    "predictions",
    "recipe.toml",
    "report.html",
    "scores.json",
    "split.parquet",
)
"""What stays of a fold."""


def is_folded(recipe: Recipe) -> bool:
    """Whether a fit of this recipe runs its folds."""
    return recipe.data.split != "auto" and recipe.data.split.name == "kfold"


def fit_folds(
    recipe: Recipe, objects: Objects, *, out: Any = None, resume: Run | None = None, tell: Tell, quiet: bool
) -> Run:
    """Run every fold of the recipe, then the model that is delivered, whose test scores are the mean over the folds.
    With `resume`, folds that are done are kept, one that was begun goes on, and the others follow."""
    first = is_first()
    tell, run, doing = _once(tell if first else _nothing), resume, "before the first fold"
    with terminable():
        try:
            with estimate.opened(recipe, objects, tell) as job:
                run = folder.begin(job, out) if resume is None else folder.reopen(job, resume)
            tell(f"run folder: {run.path}")
            recipe = run.recipe
            recipes, folds = _recipes(recipe), []
            for number, one in enumerate(recipes, 1):
                doing = f"in fold {number} of {len(recipes)}"
                folds.append(_fitted(one, objects, Run(run.folds / str(number)), first, quiet))
                tell(f"fold {number} of {len(recipes)}: {_told(folds[-1], recipe.evaluate.select)}")
            judged = {"test": _judged(folds)}
        except (Interrupted, KeyboardInterrupt) as error:
            resumed = f"; continue with: tunesmith fit --resume {run.path}" if run is not None else ""
            raise Interrupted(f"interrupted {doing}{resumed}", getattr(error, "code", 130)) from None
        except (TunesmithError, OSError):
            if run is not None and first:
                folder.forget_if_empty(run, resumed=resume is not None)
            raise
    tell("now the model that is delivered, on the rows of all folds")
    return run_recipe(recipe, objects, resume=run, judged=judged, tell=tell, quiet=quiet)


def _recipes(recipe: Recipe) -> list[Recipe]:
    """The recipe of each fold."""
    assert recipe.data.split != "auto"
    found = []
    for options in each_fold(**recipe.data.split.options):
        data = recipe.data.model_copy(update={"split": Choice(name="fold", options=options)})
        deliver = recipe.deliver.model_copy(update={"push": None})
        found.append(recipe.model_copy(update={"data": data, "deliver": deliver}))
    return found


def _fitted(recipe: Recipe, objects: Objects, fold: Run, first: bool, quiet: bool) -> Run:
    """The Run of a fold, begun, continued or found as it is, without its weights."""
    if not (fold.path / "scores.json").is_file():
        begun = is_run(fold.path)
        out, resume = (None, fold) if begun else (fold.path, None)
        run_recipe(recipe, objects, out=out, resume=resume, tell=_nothing, quiet=quiet)
    if first:
        sweep(fold.path)
        for path in fold.path.iterdir():
            if path.name not in KEPT:
                remove_folder(path) if path.is_dir() else path.unlink()
    return fold


def _judged(folds: list[Run]) -> dict[str, Any]:
    """The test scores of all folds as one."""
    sizes = [fold.read("data.json")["split"] for fold in folds]
    ratio = sum(size["test"] for size in sizes) / sum(size["train"] for size in sizes)
    return dict(over_folds([fold.scores.get("test") for fold in folds], ratio))


def _told(fold: Run, metric: str) -> str:
    metric = metric.removeprefix("memory:")
    rows = fold.read("data.json")["split"]
    score = shown(fold.scores.get("test", {}).get(metric))
    return f"{metric} {score} on its {rows['test']} rows, trained on {rows['train']}"


def _once(tell: Tell) -> Tell:
    """Tells each line once, however often the rows are opened."""
    told = set[str]()

    def line(text: str) -> None:
        if text not in told:
            told.add(text)
            tell(text)

    return line


def _nothing(_line: str) -> None:
    """What the runs of folds tell: the same as the first."""
