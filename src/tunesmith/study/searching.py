"""A search from its first trial to the Run of its winner, within its budget: the one page that shows the order."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.assemble.opened import with_places
from tunesmith.assemble.rows import Objects
from tunesmith.delivery import folder
from tunesmith.errors import DataError, Interrupted
from tunesmith.evaluation.predict import outputs_of
from tunesmith.files import remove_folder, sweep
from tunesmith.recipe.check import check_recipe
from tunesmith.recipe.schema import Recipe
from tunesmith.run import STUDY, Run
from tunesmith.signals import Terminated, terminable
from tunesmith.study import earlier, finalists, findings, study, winner, workers
from tunesmith.study.arms import arms_of, backbones
from tunesmith.study.asked_space import asked_space
from tunesmith.study.finalists import Final
from tunesmith.study.record import Record
from tunesmith.study.several import told_once
from tunesmith.study.study import Study
from tunesmith.study.workbench import Workbench, open_workbench
from tunesmith.study.worker import Worker
from tunesmith.training import machine

Tell = Callable[[str], None]

REPORT_SECONDS, TIMES = 5.0, 3.0
"""The winner is judged, reported and saved in so many seconds, and so many times what the baselines took on valid: they
are learnt again for each part, and compared with it."""
AFTER_SIGNAL = 60.0
"""Seconds that a search stopped by Ctrl-C may still take to judge and save its best."""


def run_search(
    recipe: Recipe | None,
    objects: Objects,
    *,
    out: Path | str | None = None,
    resume: Path | str | None = None,
    since: float | None = None,
    tell: Tell,
    quiet: bool,
) -> Run:
    """Search as the recipe says, or as that of `resume`, and return the Run of the winner; time counts from `since`.

    Ctrl-C ends the search with the best so far; a search that was killed is continued with `resume`."""
    began, tell = time.time() if since is None else since, told_once(tell)
    led = None
    if resume is not None:
        led = study.reopen(resume, began)
        recipe = led.recipe
    assert recipe is not None
    check_recipe(recipe)
    asked_space(recipe)
    with contextlib.closing(machine.start(recipe.train.device, recipe.train.precision)) as place, terminable():
        try:
            bench = open_workbench(recipe, objects, place, tell, led.measured if led else None)
            arms = arms_of(recipe, bench.situations(backbones(recipe)))
            led = led or study.begin(with_places(recipe, objects), out, bench.job.recipe.name, began)
            led.settle(folder.fingerprint(bench.job)["rows"], asdict(bench.measured))
            tell(f"search folder: {led.path} (budget {recipe.search.budget}, {led.used:.0f} s of it are used)")
            worker = Worker(led, bench, arms, tell, _delivery(bench))
            if recipe.search.earlier:
                worker.advise(earlier.advice(findings.alike(bench), [arm.name for arm in arms], tell))
            interrupted = _search(worker, tell)
            final = _final(worker, interrupted, tell)
            run = _deliver(worker, final, interrupted, tell, quiet)
        except KeyboardInterrupt as error:
            raise Interrupted(_how_to_go_on(led), getattr(error, "code", 130)) from None
    if interrupted:
        raise Interrupted(f"ended early, as asked; the best model so far is the Run {run.path}", 130)
    return run


def _how_to_go_on(led: Study | None) -> str:
    """What is told of a search that was stopped."""
    if led is None:
        return "interrupted before the first trial"
    best = f"; the best so far can be used: {led.path / 'best'}" if (led.path / "best").is_dir() else ""
    return f"interrupted; continue with: tunesmith search --resume {led.path}{best}"


def _search(worker: Worker, tell: Tell) -> bool:
    """Run trials, here and in other workers, until no further one is worth it; whether a person ended it."""
    with workers.beside(worker.study, worker.bench.objects, tell):
        try:
            worker.work()
        except (Interrupted, KeyboardInterrupt) as error:
            code = getattr(error, "code", 130)
            if code != 130 or not worker.best(worker.study.records.all()):
                raise (KeyboardInterrupt if code == 130 else Terminated) from None
            worker.ended = "ended by Ctrl-C"
    tell(f"no more trials: {worker.ended}")
    return worker.ended == "ended by Ctrl-C"


def _final(worker: Worker, interrupted: bool, tell: Tell) -> Final:
    """Who wins: the best trials, asked about rows that did not choose them, as far as the time goes."""
    records = worker.study.records
    best = [r for r in worker.best(records.all()) if winner.has_weights(r, worker.study.trials)]
    if not best:
        failed = next((record.why for record in records.all() if record.why), "no trial came to a score")
        raise DataError(f"the search found no model: {failed}", where=str(worker.study.path))
    if interrupted:
        return Final(best[0], (), np.empty(0, np.int64), {}, "the best on the valid rows when the search was ended")
    refit = best[0].seconds if worker.bench.may_refit else 0.0
    final = finalists.hold(worker.bench, best, worker.study.deadline - worker.delivery - refit, tell)
    for judged in final.judged:
        records.add(judged)
    tell(f"winner: trial {final.winner.number}, {final.winner.arm}: {final.why}")
    return final


def _deliver(worker: Worker, final: Final, interrupted: bool, tell: Tell, quiet: bool) -> Run:
    """The Run of the winner: trained on all rows if that is earned and there is time, else as the trial left it."""
    led, bench, record = worker.study, worker.bench, final.winner
    led.note(state="delivering", winner=record.number, why=final.why)
    _clear(led.path)
    left = led.deadline - worker.delivery - time.time()
    why_not = _not_refit(worker, record, interrupted, left)
    if why_not is None:
        run = _refit(worker, final, tell, quiet)
    else:
        tell(f"the winner stays as its trial left it: {why_not}")
        run = winner.deliver(bench, record, led.path, tell)
    findings.write(worker, final, run, [advice.why for advice in worker.advice.values()], tell)
    led.note(state="done")
    if (led.path / "best").is_dir():
        remove_folder(led.path / "best")
    winner.forget_weights(led.records.all(), [], led.trials)
    return run


def _not_refit(worker: Worker, record: Record, interrupted: bool, left: float) -> str | None:
    """Why the winner is not trained once more on all rows; None where it is."""
    bench = worker.bench
    if interrupted:
        return "the search was ended"
    if not bench.may_refit:
        return "its valid rows were set aside by you"
    if not (bench.measured.more_rows or bench.whole.cross_validated):
        return "more rows do not help here"
    if record.seconds * 1.3 > left:
        return f"no time to train it once more on all rows ({record.seconds:.0f} s, {max(0.0, left):.0f} s are left)"
    if bench.recipe_with(record.settings).train.average is not None:
        return "what it averages is chosen on valid rows"
    return None


def _refit(worker: Worker, final: Final, tell: Tell, quiet: bool) -> Run:
    """Train the winner on all rows for as long as was best on rows held out, which give its valid scores."""
    bench, record, trials = worker.bench, final.winner, worker.study.trials
    job = bench.prepared(record.settings)
    if final.answers:
        epoch, rows, outputs = finalists.best_epoch(final, job), final.rows, final.answers
        answers = {epoch: outputs[epoch]}
    else:
        epoch, rows = max(1, round(winner.epochs_of(record, trials))), bench.rows.split.valid
        net = winner.net_of(job, record, trials)
        answers = {epoch: outputs_of(net, job.encoded, rows, replace(job.machine, precision="fp32"))}
    tell(f"the winner trains once more, on all {len(bench.all_rows.split.train)} rows, for {epoch} epochs")
    settings: dict[str, Any] = {**record.settings, "train.length": f"{epoch} epochs"}
    known = (0, winner.answered(bench, rows, answers))
    return winner.deliver_refit(bench, settings, known, worker.study.path, tell, quiet)


def _delivery(bench: Workbench) -> float:
    """Seconds to judge the winner beside its baselines, save it and write its report."""
    split = bench.rows.split
    rows = len(split.test) + 2 * len(split.valid)
    return REPORT_SECONDS + TIMES * bench.measured.baseline_seconds + 1.5 * rows * bench.measured.row_seconds


def _clear(place: Path) -> None:
    """Remove what an earlier delivery, that was killed, left of a Run."""
    sweep(place)
    for path in place.iterdir():
        if path.name not in STUDY:
            remove_folder(path) if path.is_dir() else path.unlink()
