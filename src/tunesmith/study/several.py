"""Several Runs of one recipe, each begun, continued or found done, then the Run of the model that is delivered.

Each is an ordinary run, below the delivered one, whose settings are those that were resolved for that; one that has
its scores is done, and its weights are removed. So the folders are the whole state, and a resume reads them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tunesmith.assemble.rows import Objects
from tunesmith.delivery import estimate, folder
from tunesmith.errors import Interrupted, TunesmithError
from tunesmith.files import remove_folder, sweep
from tunesmith.pipeline import run_recipe
from tunesmith.recipe.schema import Recipe
from tunesmith.run import Run, is_run
from tunesmith.signals import terminable
from tunesmith.training import machine
from tunesmith.training.machine import is_first

Tell = Callable[[str], None]
Scores = dict[str, Any]

KEPT = (
    "data.json",
    "diagnosis.json",
    "drift.json",
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
"""What stays of each Run but the delivered one."""


@dataclass(frozen=True)
class One:
    """One of the Runs: what it is called, its folder below the delivered Run, and its recipe."""

    name: str
    folder: str
    recipe: Recipe


@dataclass(frozen=True)
class Several:
    """What a fit of several Runs does: the `runs` of a resolved recipe, what is `told` of one that is done, by a
    metric, and the delivered Run's `scores` with what the others add to them."""

    runs: Callable[[Recipe], Iterator[One]]
    told: Callable[[Run, str], str]
    scores: Callable[[list[Run], Scores], Scores]
    at_last: str


def fit_several(
    several: Several,
    recipe: Recipe,
    objects: Objects,
    *,
    out: Any = None,
    resume: Run | None = None,
    tell: Tell,
    quiet: bool,
) -> Run:
    """Run each of several, then the delivered model. With `resume`, Runs that are done are kept, one that was begun
    goes on, and the others follow."""
    tell = told_once(tell if is_first() else _nothing)
    # The ranks stay together over all runs: one that is ahead would join a group that the first is about to leave.
    with contextlib.closing(machine.start(recipe.train.device, recipe.train.precision)):
        run, found = _fit_others(several, recipe, objects, out=out, resume=resume, tell=tell, quiet=quiet)
        tell(several.at_last)

        def judged(scores: Scores) -> Scores:
            return several.scores(found, scores)

        return run_recipe(run.recipe, objects, resume=run, judged=judged, tell=tell, quiet=quiet)


def _fit_others(
    several: Several, recipe: Recipe, objects: Objects, *, out: Any, resume: Run | None, tell: Tell, quiet: bool
) -> tuple[Run, list[Run]]:
    """The delivered Run, begun, and the others, done."""
    first, run, doing = is_first(), resume, "before the first run"
    with terminable():
        try:
            with estimate.opened(recipe, objects, tell) as job:
                run = folder.begin(job, out) if resume is None else folder.reopen(job, resume)
            tell(f"run folder: {run.path}")
            recipe, found = run.recipe, list[Run]()
            for one in several.runs(recipe):
                doing = f"in {one.name}"
                found.append(_fitted(one.recipe, objects, Run(run.path / one.folder), first, quiet))
                tell(f"{one.name}: {several.told(found[-1], recipe.evaluate.select.removeprefix('memory:'))}")
        except (Interrupted, KeyboardInterrupt) as error:
            resumed = f"; continue with: tunesmith fit --resume {run.path}" if run is not None else ""
            raise Interrupted(f"interrupted {doing}{resumed}", getattr(error, "code", 130)) from None
        except (TunesmithError, OSError):
            if run is not None and first:
                folder.forget_if_empty(run, resumed=resume is not None)
            raise
    return run, found


def _fitted(recipe: Recipe, objects: Objects, run: Run, first: bool, quiet: bool) -> Run:
    """One Run, begun, continued or found as it is, without its weights; it is neither pushed nor followed."""
    if not (run.path / "scores.json").is_file():
        recipe = recipe.model_copy(
            update={"deliver": recipe.deliver.model_copy(update={"push": None, "observers": ()})}
        )
        out, resume = (None, run) if is_run(run.path) else (run.path, None)
        run_recipe(recipe, objects, out=out, resume=resume, tell=_nothing, quiet=quiet)
    if first:
        sweep(run.path)
        for path in run.path.iterdir():
            if path.name not in KEPT:
                remove_folder(path) if path.is_dir() else path.unlink()
    return run


def told_once(tell: Tell) -> Tell:
    """Tells each line once, however often the rows are opened."""
    told = set[str]()

    def line(text: str) -> None:
        if text not in told:
            told.add(text)
            tell(text)

    return line


def _nothing(_line: str) -> None:
    """What the runs tell: the same as the first."""
