"""What every worker of a search does: claim a trial, train it, keep what is good, until no further one is worth it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import psutil
from filelock import FileLock
from optuna.distributions import distribution_to_json

from tunesmith.assemble.job import Job
from tunesmith.delivery import folder
from tunesmith.errors import Interrupted, TunesmithError
from tunesmith.evaluation.intervals import rising
from tunesmith.evaluation.intervals import shown as shown_interval
from tunesmith.files import size
from tunesmith.study import costs, gain, winner
from tunesmith.study.earlier import Advice
from tunesmith.study.proposals import propose, prune
from tunesmith.study.record import Record
from tunesmith.study.space import Arm, whole
from tunesmith.study.study import Study
from tunesmith.study.trial import Trained, run_trial
from tunesmith.study.workbench import Workbench

Tell = Callable[[str], None]

OVERHEAD = 1.0
"""Seconds of a trial beside its steps and passes, before any has been timed."""
FINALS = 0.35
"""The share of the budget that finalists and the winner's last training may take."""
LAST_TRAININGS = 3.0
"""They take about so many trainings of the best trial."""
MOST_NOT_BEGUN = 2
"""An arm of which so many trials did not fit is left alone."""
WORTH_TELLING = 5.0
"""A trial of fewer seconds that is not the best is not told."""


@dataclass
class Worker:
    """One process that runs trials of a study."""

    study: Study
    bench: Workbench
    arms: Sequence[Arm]
    tell: Tell
    delivery: float
    """Seconds to judge, report and save the winner."""
    exhausted: set[str] = field(default_factory=set)
    works: dict[str, costs.Work | None] = field(default_factory=dict)
    ended: str = ""
    """Why no further trial is begun."""
    num_run: int = 0
    """Trials that this worker ran."""
    advice: dict[str, Advice] = field(default_factory=dict)
    """Arm -> what was best of it in an earlier search."""

    @property
    def direction(self) -> Any:
        return "maximize" if rising(self.bench.job.select) else "minimize"

    def work(self) -> None:
        """Run trials until none is left that is worth it."""
        while (record := self.study.records.claim(self.next_trial)) is not None:
            self.run(record)
            self.num_run += 1
            self.study.note()

    def advise(self, found: Sequence[Advice]) -> None:
        """Begin the arms with what was best of them in earlier searches."""
        self.advice = {advice.arm: advice for advice in found}
        for advice in found:
            self.tell(advice.why)

    def best(self, records: Sequence[Record]) -> list[Record]:
        """The trials with a score, the best first."""
        sign = 1 if rising(self.bench.job.select) else -1
        scored = [record for record in records if record.role == "trial" and record.value is not None]
        if len(self.bench.splits) > 1:  # One that was ended has a score of fewer rows.
            scored = [record for record in scored if record.state == "done"] or scored
        return sorted(scored, key=lambda record: (-sign * record.value, record.number))  # type: ignore[operator]

    def until(self, records: Sequence[Record]) -> float:
        """The moment at which trials must end, for the finalists and the winner to have their time."""
        best = self.best(records)
        last = LAST_TRAININGS * best[0].seconds if best else 0.0
        return self.study.deadline - self.delivery - min(FINALS * self.study.budget, last)

    def next_trial(self, records: Sequence[Record]) -> Record | None:
        """The trial with the most expected gain a second, of those that fit into the time that is left."""
        if not self.study.leads and not self.study.searching:
            self.ended = "no more are wanted"
            return None
        search = self.bench_search
        trials = [record for record in records if record.role == "trial"]
        left = self.until(records) - time.time()
        if search.trials is not None and len(trials) >= search.trials:
            self.ended = f"all {search.trials} trials that were allowed are done"
            return None
        best = self.best(records)
        top = best[0].value if best else None
        baseline = self._baseline(top)
        options = []
        for arm in self.arms:
            mine = [record for record in trials if record.arm == arm.name]
            seconds = costs.corrected(self._reckoned(arm), arm.name, trials)
            not_begun = sum(record.state == "stopped" and not record.steps for record in mine)
            if arm.name in self.exhausted or not_begun >= MOST_NOT_BEGUN or (seconds > left and best):
                continue
            values = gain.scores_of(mine, arm.name)
            start = baseline if top is None else top
            expected = gain.expected_gain(values, start, baseline, arm.promise, rising(self.bench.job.select))
            # What failed or fell silent taught nothing, and is not tried for ever.
            expected /= 1 + sum(record.value is None for record in mine)
            options.append((expected / gain.likely_seconds(seconds, len(mine)), seconds, arm))
        for _, seconds, arm in sorted(options, key=lambda option: -option[0]):
            record = self._proposed(arm, trials, seconds)
            if record is not None:
                return record
            self.exhausted.add(arm.name)
        self.ended = "no further trial fits into the time" if left < 60 or options == [] else "everything was tried"
        return None

    @property
    def bench_search(self) -> Any:
        return self.study.recipe.search

    def _proposed(self, arm: Arm, trials: Sequence[Record], seconds: float) -> Record | None:
        """A trial of an arm, of the few ranges that so many trials as fit can tell anything of."""
        fitting = max(1, int(self.study.budget / (2 * gain.likely_seconds(seconds, gain.FEW))))
        arm = arm.within(fitting)
        distributions = arm.distributions()
        params = propose(
            trials,
            arm.name,
            distributions,
            arm.first() | (self.advice[arm.name].params if arm.name in self.advice else {}),
            direction=self.direction,
            seed=self.bench.recipe.seed,
            applies=arm.applies,
        )
        if params is None:
            return None
        settings = whole(arm, params, self.bench.recipe, self.bench.filled)
        own = self.bench.recipe.objective.name
        settings = {path: value for path, value in settings.items() if (path, value) != ("objective", own)}
        texts = {path: distribution_to_json(distributions[path]) for path in params}
        return Record(0, arm.name, params, settings, texts, seed=self.bench.recipe.seed)

    def run(self, record: Record) -> None:
        """Run a claimed trial, unless it turns out not to fit, and write down how it went."""
        try:
            job = self.bench.prepared(record.settings)
        except TunesmithError as error:
            self.study.records.put(replace(record, state="failed", why=str(error).splitlines()[0]))
            return
        assert job.head is not None
        head = {"name": job.head.name, **job.head.options} if job.head.options else job.head.name
        records = self.study.records.all()
        work = costs.work_of(job)
        reckoned = costs.reckoned(work, self.bench.measured.row_seconds, OVERHEAD)
        predicted = costs.corrected(reckoned, record.arm, records)
        record = replace(record, predicted=round(predicted, 3), settings={**record.settings, "model.head": head})
        record = replace(record, cost={"reckoned": reckoned, "trained": float(work.trained)})
        until = self.until(records)
        if (why := self._does_not_fit(job, predicted, until, bool(self.best(records)))) is not None:
            self.study.records.put(replace(record, state="stopped", why=why))
            return
        self.study.records.put(record)
        try:
            done = run_trial(self.bench, record, job, until=until, tell=self._pruned, beat=self._beat, keep=self._keep)
        except (Interrupted, KeyboardInterrupt) as error:
            if getattr(error, "code", 130) == 130:  # After another signal the trial is taken up again.
                self.study.records.put(replace(record, state="stopped", why="the search was ended"))
            raise
        self.study.records.put(done)
        self._told(done)

    def _does_not_fit(self, job: Job, seconds: float, until: float, others: bool) -> str | None:
        """Why a trial is not begun; the first of all is, whatever it takes."""
        left = until - time.time()
        if others and seconds > left:
            return f"not begun: it would take {seconds:.0f} s, and {max(0.0, left):.0f} s are left"
        search = self.bench_search
        held = sum(p.numel() * p.element_size() for p in job.pretrained.module.parameters())
        needed = held + 3 * 4 * costs.work_of(job).trained
        allowed = psutil.virtual_memory().available if search.memory is None else search.memory * 1e9
        if job.machine.device.type == "cpu" and needed > allowed:
            return f"not begun: it would need {size(needed)} of memory, and may have {size(allowed)}"
        disk = folder.needed_bytes(job)
        free = shutil.disk_usage(self.study.path).free
        if search.disk is not None:
            used = sum(f.stat().st_size for f in self.study.path.rglob("*") if f.is_file())
            free = min(free, int(search.disk * 1e9) - used)
        if disk > free:
            return f"not begun: it would need {size(disk)} on disk, and may have {size(max(0, free))}"
        return None

    def _pruned(self, record: Record) -> Record:
        """The record after a report: with what Optuna wants to know again, and pruned where others were better."""
        given_up, attrs = prune(self.study.records.all(), record, self.direction)
        record = replace(record, system_attrs=attrs)
        self.study.records.put(record)
        if not given_up:
            return record
        return replace(record, state="pruned", why=f"pruned after {record.reports[-1][0]} ninths of its length")

    def _beat(self, record: Record) -> None:
        self.study.records.beat(record)
        self.study.note()

    def _keep(self, trained: Trained) -> None:
        """Keep the weights of one that is among the best, and the best of all as a Run."""
        with FileLock(self.study.trials / ".best.lock"):
            records = [record for record in self.study.records.all() if record.number != trained.record.number]
            best = self.best([*records, trained.record])[: winner.KEPT]
            if trained.record.number in {record.number for record in best}:
                winner.keep_weights(trained, self.study.trials)
                winner.forget_weights(records, best, self.study.trials)
            if best and best[0].number == trained.record.number:
                winner.keep_best(trained, self.study.path, self.bench.job.select.removeprefix("memory:"))

    def _told(self, record: Record) -> None:
        best = self.best(self.study.records.all())
        is_best = bool(best) and best[0].number == record.number
        if not is_best and record.seconds < WORTH_TELLING:
            return
        score = "no score" if record.value is None else f"{self.bench.job.select} {shown_interval(vars(record))}"
        why = f", {record.why}" if record.why else ""
        mark = "  best so far" if is_best else ""
        self.tell(f"trial {record.number:>3}  {record.arm:<16} {score}  {record.seconds:.0f} s{why}{mark}")

    def _reckoned(self, arm: Arm) -> float:
        if arm.name not in self.works:
            try:
                self.works[arm.name] = costs.work_of(self.bench.sketched(arm.settings))
            except (TunesmithError, AssertionError, ValueError, AttributeError, KeyError):
                # A strategy that edits the network cannot be counted without it: as if everything moved.
                self.works[arm.name] = costs.work_of(self.bench.job)
        work = self.works[arm.name]
        assert work is not None
        return costs.reckoned(work, self.bench.measured.row_seconds, OVERHEAD)

    def _baseline(self, top: float | None) -> float:
        """The best baseline that learns from rows, from which an arm's promise counts."""
        known = list(self.bench.measured.baselines.values())
        if not known:
            return top if top is not None else 0.0
        return max(known) if rising(self.bench.job.select) else min(known)
