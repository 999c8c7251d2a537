"""What a search found, written down and told: the leaderboard, the page, and the store of earlier searches."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence

from tunesmith.delivery.outcome import Outcome
from tunesmith.delivery.reporting.searched import write_search_page
from tunesmith.evaluation.intervals import rising
from tunesmith.files import write_json
from tunesmith.recipe import file as recipe_file
from tunesmith.run import Run
from tunesmith.study import earlier, leaderboard
from tunesmith.study.finalists import Final
from tunesmith.study.proposals import export, importance
from tunesmith.study.workbench import Workbench
from tunesmith.study.worker import Worker

Tell = Callable[[str], None]

JOURNAL = "trials/optuna.journal"
"""What optuna-dashboard opens."""


def write(worker: Worker, final: Final, run: Run, taken: Sequence[str], tell: Tell) -> Outcome:
    """Write the leaderboard, the page and Optuna's journal into the folder of the search, and keep what was best for
    later searches; `taken`: what was taken from earlier ones, in words."""
    led, bench, records = worker.study, worker.bench, worker.study.records.all()
    metric, rises = bench.job.select.removeprefix("memory:"), rising(bench.job.select)
    write_json(led.path / "leaderboard.json", leaderboard.entries(records, rises, final.winner.number))
    export(records, led.path / JOURNAL, worker.direction)
    recipe = recipe_file.dump(run.recipe)
    test = run.scores.get("test", {}).get(metric)
    found = leaderboard.outcome(
        records,
        name=led.path.name,
        model=run.recipe.model.name,
        metric=metric,
        rising=rises,
        seconds=led.used,
        began=led.began if not led.used_before else None,
        winner=final.winner.number,
        importance=importance(records, worker.direction),
        budget=led.budget,
        test=test,
        earlier=tuple(taken),
        recipe=recipe,
        command=f"tunesmith fit {shlex.quote(str(led.path / 'recipe.toml'))}",
    )
    language = led.recipe.deliver.report
    if language != "none":
        tell(f"page of the search: {write_search_page(found, led.path, language)}")
    earlier.remember(
        alike(bench),
        records,
        name=led.path.resolve().name,
        metric=metric,
        rising=rises,
        baseline=bench.measured.baselines.get("frozen_logistic", bench.measured.baselines.get("frozen_ridge")),
        tell=tell,
    )
    for line in leaderboard.lines(found):
        tell(line)
    return found


def alike(bench: Workbench) -> earlier.Alike:
    """By what later searches know whether their task is like this one."""
    rows, pretrained = bench.rows, bench.job.pretrained
    counts = [count for count in rows.target.counts if count] if rows.task.name != "regression" else []
    return earlier.Alike(
        task=rows.task.name,
        modality=rows.modality,
        rows=len(rows.split.train),
        classes=rows.target.num_outputs,
        smallest=min(counts, default=len(rows.split.train)),
        family=type(pretrained.body).__name__,
        parameters=sum(parameter.numel() for parameter in pretrained.body.parameters()),
    )
