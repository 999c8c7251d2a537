"""The learning-rate range test of a plan: each phase on a net whose weights are put back, and what follows from it."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from tunesmith.assemble import regularization, surgery
from tunesmith.assemble.feeds import Feed
from tunesmith.assemble.job import Job, Tell
from tunesmith.assemble.kept import kept_rows
from tunesmith.assemble.rows import Objects
from tunesmith.delivery import drawing, lr_picture
from tunesmith.delivery.estimate import enter, opened
from tunesmith.delivery.lr_curve import HIGHEST, LOWEST, STEPS, Curve, exploded, rate_at, read_curve
from tunesmith.models.tunable import Tunable
from tunesmith.objectives.objective import reads
from tunesmith.recipe.schema import Recipe
from tunesmith.training import phases
from tunesmith.training.loop import Event, Pace, train_phase
from tunesmith.training.state import State

HEAD_STEPS = 100
"""Steps of AdamW on a frozen body that fit the head before a later phase is tested, at the rate that the recipe takes
where only a head moves."""


@dataclass(frozen=True)
class RangeTest:
    """A curve for each phase of the plan, and the setting that follows from them."""

    recipe: Recipe
    """With every "auto" that facts decide filled in."""
    curves: tuple[Curve, ...]

    @property
    def lr(self) -> float | dict[str, float] | None:
        """A value for `train.lr`; a phase whose curve suggests nothing keeps the rate that it has; None if all do."""
        if all(curve.suggested is None for curve in self.curves):
            return None
        rates = {curve.phase: curve.suggested or self.present(curve.phase) for curve in self.curves}
        return rates if len(rates) > 1 else next(iter(rates.values()))

    def present(self, phase: str) -> float:
        """The rate that the recipe has for a phase now."""
        lr = self.recipe.train.lr
        assert lr != "auto"
        return lr[phase] if isinstance(lr, dict) else lr

    def draw(self, path: Path | str) -> None:
        """Write the curves as a PNG of 1000 x 600."""
        lr_picture.draw(Path(path), f"{self.recipe.strategy.name} on {self.recipe.model.name}", self.curves)

    def __str__(self) -> str:
        lines = [line for curve in self.curves for line in (*_shown(curve), "")]
        for curve in self.curves:
            if curve.suggested is None:
                lines.append(f"phase {curve.phase} keeps its rate, {self.present(curve.phase):g}")
        if self.lr is None:
            return "\n".join([*lines, "no curve suggests a rate: train.lr stays as it is"])
        quote = "'" if isinstance(self.lr, dict) else ""
        return "\n".join([*lines, f"--set {quote}train.lr={_written(self.lr)}{quote}"])


def lr_range(
    recipe: Recipe, objects: Objects, measured: Callable[[Job], Job], tell: Tell, png: Path | None = None
) -> RangeTest:
    """Test every phase of the plan (Smith 2017) on a net that is thrown away, and write the picture to `png`.

    `measured` settles what a run measures before it trains. The first phase starts from the pretrained weights and the
    new head, as the run does. So does every later one, but for its head, which is fitted on the frozen body first if
    the phase reads it and moves more than it. RecipeError where `png` is in no folder, before anything is computed."""
    drawing.require_folder(png)
    with opened(recipe, objects, tell) as job:
        job = measured(job)
        net, feed, curves = job.net(), job.feed(job.rows.split.train), []
        for index, phase in enumerate(job.plan.phases):
            tell(f"phase {phase.name}: at most {STEPS} steps, at rates from {LOWEST:g} to {HIGHEST:g}")
            with untouched(net):
                if index and phase.moves != "head" and reads(job.minimised(phase).name) != "pairs":
                    tell(f"phase {phase.name}: its head is fitted first, {HEAD_STEPS} steps on the frozen body")
                    _fit_head(job, net, feed)
                curves.append(_test(job, net, feed, index, tell))
        found = RangeTest(job.recipe, tuple(curves))
        if png is not None and job.machine.first:
            drawing.write(found.draw, png, tell)
        return found


@contextlib.contextmanager
def untouched(net: Tunable) -> Iterator[None]:
    """Whatever the block does, every parameter and buffer is as before afterwards, bit for bit and in place: bodies are
    shared by the nets of a Job."""
    tensors = [*net.parameters(), *net.buffers()]
    kept = [tensor.detach().clone() for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, old in zip(tensors, kept, strict=True):
                tensor.copy_(old)


def _test(job: Job, net: Tunable, feed: Feed, index: int, tell: Tell) -> Curve:
    """Train a phase at a rate that rises, up to where its loss explodes."""
    pace = job.pace(index, job.cadence(feed.steps_per_epoch), feed.steps_per_epoch)
    rates: list[float] = []
    losses: list[float] = []
    for event in _steps(job, net, feed, index, replace(pace, last_step=STEPS, rate=rate_at), tell):
        if not math.isfinite(loss := float(event.loss)):
            break
        rates.append(event.rate)
        losses.append(loss)
        if exploded(losses):
            break
    return read_curve(job.plan.phases[index].name, rates, losses)


def _fit_head(job: Job, net: Tunable, feed: Feed) -> None:
    """Train the head alone, as for what is measured before a run (`surgery.probe`), but longer."""
    job = surgery.probe(job)
    train = job.recipe.train.model_copy(update={"length": f"{HEAD_STEPS} steps"})
    job = replace(job, recipe=job.recipe.model_copy(update={"train": train}))
    pace = job.pace(0, job.cadence(feed.steps_per_epoch), feed.steps_per_epoch)
    for _event in _steps(job, net, feed, 0, pace, lambda _line: None):
        pass


def _steps(job: Job, net: Tunable, feed: Feed, index: int, pace: Pace, tell: Tell) -> Iterator[Event]:
    """The steps of a phase from the net as it stands: its rules, optimizer, objective, penalty and batches, which enter
    behind its frozen stages where they would in a run of that length."""
    phase, feed.kept = job.plan.phases[index], None
    enter(job, net, feed, phase)
    state = State(net, job.optimizer(phases.groups(net, phase)), phase=index)
    regularization.begin(job, state)
    pace = replace(pace, penalty=regularization.penalty(job, state))
    feed.kept = kept_rows(job, state, feed, pace.last_step, tell, None)
    return train_phase(state, phase.name, job.steps(phase, feed), job.objective(phase), pace, job.machine)


def _shown(curve: Curve) -> list[str]:
    """The picture of a curve, and what it says."""
    stopped = "" if len(curve.rates) == STEPS else f"; it exploded after {len(curve.rates)} of {STEPS} steps"
    lines = [f"phase {curve.phase}: smoothed loss while the rate rises{stopped}", *lr_picture.blocks(curve)]
    if curve.suggested is None:
        return [*lines, f"  no rate to suggest: {curve.note}"]
    least = min(curve.smooth)
    where = f"{curve.rates[curve.smooth.index(least)]:.1e}"
    lines.append(
        f"  loss {curve.start:.3g} at the start, least {least:.3g} at {where}; steepest at {curve.steepest:.1e}"
    )
    rule = "where the loss falls fastest"
    if curve.tenth is not None and curve.tenth <= (curve.steepest or math.inf):
        rule = f"a tenth of {where}, where the loss is least"
    return [*lines, *([f"  {curve.note}"] if curve.note else []), f"  suggested: {curve.suggested:.1e}, {rule}"]


def _written(lr: float | dict[str, float]) -> str:
    """As TOML."""
    if not isinstance(lr, dict):
        return f"{lr:g}"
    named = {name if re.fullmatch(r"[\w-]+", name, re.ASCII) else f'"{name}"': rate for name, rate in lr.items()}
    return "{" + ", ".join(f"{name} = {rate:g}" for name, rate in named.items()) + "}"
