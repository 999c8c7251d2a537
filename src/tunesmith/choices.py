"""What is measured on train and valid before training: the head, the stages that move, and the rows of a pass."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from tunesmith.assemble import surgery
from tunesmith.assemble.job import Job, Tell
from tunesmith.data.augment import USUAL
from tunesmith.delivery import scores
from tunesmith.errors import RecipeError
from tunesmith.evaluation.intervals import rising
from tunesmith.evaluation.linear import score_features
from tunesmith.recipe.schema import Choice
from tunesmith.training import gradient_norms, measure, phases
from tunesmith.training.state import State

Folds = list[tuple[np.ndarray, np.ndarray]]
"""Pairs of places among some rows: those that train, and those that are asked."""
HeldOut = tuple[int, dict[int, np.ndarray]]
"""The attempt that did not collapse, and epoch -> outputs of the rows to be asked; NaN of those not asked yet."""
SURE = 0.9
"""The share of resamples in which augmentation must be better to be kept."""
LEAST_FOLDS = 2
"""After so many folds in which augmentation was no better, it is not tried on the others."""


def with_head(job: Job, tell: Tell) -> tuple[Job, dict[str, Any]]:
    """The recipe's head; else a kept one; else the best linear model on one pass of frozen features."""
    pretrained, how, candidates = job.pretrained, "as the recipe says", {}
    head = job.head
    if head is None and pretrained.labels:
        options = pretrained.head_choice.get("options")
        head = Choice(name="own") if options is None else Choice(name="pooled", options=options)
        how = "it was trained for these labels"
    if head is None:
        names = _candidates(job)
        if len(names) == 1:
            head = Choice(name="own") if names == ["own"] else Choice(name="pooled", options={"pooling": names[0]})
            how = "the only one that fits"
    if head is None:
        candidates = {name: value for name, value in _measured_heads(job).items() if name in names}
        top = max(candidates.values(), default=None)
        best = next((name for name in names if candidates.get(name) == top), "own")
        head = Choice(name="own") if best == "own" else Choice(name="pooled", options={"pooling": best})
        shown = ", ".join(f"{name} {value:.3f}" for name, value in candidates.items())
        how = f"best of {shown} ({job.select} of a linear model on frozen features)"
    if job.pooled and head.name == "own" and not pretrained.head_path:
        what = f"{job.recipe.objective.name} compares pooled features, and this model's own head has none"
        raise RecipeError(what, where=pretrained.origin.name, remedy="use objective = supervised, or another model")
    job = replace(job, head=head)
    if job.rows.task.name == "regression" and job.net().output_layer().bias is None:
        # Nothing could hold the mean when the unit is folded into the output layer: it must be learnt.
        job = replace(job, rows=replace(job.rows, target=replace(job.rows.target, mean=0.0)))
    name = head.name if head.name == "own" else f"{head.options.get('pooling', 'mean')} pooling"
    tell(f"head: {name}, {how}")
    return job, {"name": head.name, "options": head.options, "candidates": candidates, "how": how}


def _candidates(job: Job) -> list[str]:
    """The heads to choose among: the model's own, and poolings of texts. The own head of an image or sound model reads
    what its makers pooled, and its folder is what its library loads; the layer of any other net reads what there is."""
    pretrained = job.pretrained
    own = ["own"] * (pretrained.own_head and (not job.pooled or bool(pretrained.head_path)))
    return own if own and pretrained.modality != "text" else [*own, *pretrained.poolings]


def _measured_heads(job: Job) -> dict[str, float]:
    """Candidate -> validation score; by cross-validation where no row is set aside."""
    train, valid = (measure.spread(rows, measure.MOST_ROWS) for rows in (job.rows.split.train, job.rows.split.valid))
    rows = np.concatenate([train, valid])
    outputs, cache = job.rows.target.num_outputs, job.recipe.train.cache
    features = measure.frozen_features(job.pretrained, outputs, job.encoded, rows, job.machine, cache=cache)
    codes = job.rows.codes[rows]
    folds = [(np.arange(len(train)), np.arange(len(train), len(rows)))]
    if not len(valid):
        folds = job.rows.folds(rows)
    sign = 1 if rising(job.select) else -1

    def value(truth: np.ndarray, outputs: np.ndarray) -> float:
        return sign * scores.value_of_outputs(job, truth, outputs)

    found = {name: score_features(values, codes, folds, outputs, value) for name, values in features.items()}
    return {name: value for name, value in found.items() if not np.isnan(value)}


def with_augment(
    job: Job, held_out: Callable[..., Iterator[HeldOut]], tell: Tell
) -> tuple[Job, dict[str, Any] | None, HeldOut | None]:
    """With `data.augment = "auto"`: the job is trained (`held_out`, the pipeline's) without the usual augmentation and
    with it, and keeps it only if rows that neither trained on accept it: the validation rows, or where these are too
    few to tell, folds of the training rows. Of a run that sets no row aside, what these were answered comes with it.
    It is given up where the first folds do not speak for it."""
    if job.recipe.data.augment != "auto" or job.augmented is None:
        return job, None, None
    name, split, plain = USUAL[job.rows.modality], job.rows.split, replace(job, augmented=None)
    if job.rows.few_judges:
        rows, folds = split.train, job.rows.folds(split.train)
        asked = rows
    else:
        rows, asked, count = np.concatenate([split.train, split.valid]), split.valid, len(split.train)
        folds = [(np.arange(count), np.arange(count, len(rows)))]
    times = f"up to {len(folds)} times each " if len(folds) > 1 else ""
    tell(f"data.augment = auto: trains {times}without and with {name}, to compare them on {len(asked)} held-out rows")
    ways = [
        held_out(tried, rows, folds, lambda line, how=how: tell(f"{how} {name}: {line}"))
        for how, tried in (("without", plain), ("with", job))
    ]
    sign = 1 if rising(job.select) else -1
    for fold, both in enumerate(_in_turn(*ways), 1):
        answered = np.all([~np.isnan(next(reversed(each.values()))).any(1) for _, each in both], axis=0)
        judges = asked[answered]
        best = [
            max(
                (outputs[answered] for outputs in each.values()),
                key=lambda outputs: sign * scores.value_of(job, judges, outputs),
            )
            for _, each in both
        ]
        without, with_it = (scores.value_of(job, judges, outputs) for outputs in best)
        if fold >= LEAST_FOLDS and sign * with_it <= sign * without:
            break
    share = scores.share_better(job, judges, *best)
    kept = bool(sign * with_it > sign * without and share >= SURE)
    tell(
        f"{name} {'is kept' if kept else 'is not kept'}: {job.select} {with_it:.3f} with it, {without:.3f} without "
        f"(better in {share:.0%} of resamples of {len(judges)} rows; {SURE:.0%} are asked)"
    )
    result = {"name": name, "kept": kept, "with": with_it, "without": without, "share_better": round(share, 4)}
    if not job.rows.cross_validated:
        return (job if kept else plain), result, None
    *_, known = both[kept], *ways[kept]
    return (job if kept else plain), result, known


def _in_turn(*ways: Iterator[HeldOut]) -> Iterator[tuple[HeldOut, ...]]:
    """What each way has answered so far, after each of its folds; one that began anew takes longer."""
    last: tuple[HeldOut, ...] = ()
    for both in itertools.zip_longest(*ways):
        last = tuple(new or old for new, old in itertools.zip_longest(both, last))
        yield last


def with_micro(job: Job, tell: Tell) -> tuple[Job, int]:
    """The recipe's micro-batch, else the most rows of a step that fit into memory at once."""
    batch = job.recipe.train.batch
    assert isinstance(batch, int)
    if job.micro is not None:
        return job, job.micro
    net = job.net()
    phase = job.plan.heaviest
    longest = job.steps(phase, job.feed(job.rows.split.train, micro=batch)).longest
    phases.open_phase(net, phase)
    micro = measure.fitting_micro(net, job.objective(phase), longest, batch, job.machine)
    micro = -job.machine.most(-micro)
    if micro < batch:
        tell(f"micro-batch: {micro} of the step's {batch} rows at once, to fit into memory")
    return replace(job, micro=micro), micro


def with_stages(job: Job, steps: Callable[..., Iterable[Any]], tell: Tell) -> tuple[Job, dict[str, Any] | None]:
    """The stages that a strategy's `train = "auto"` stands for: those whose gradients are largest beside their weights,
    under a head that was fitted for a few `steps` (the pipeline's) on the frozen body. The net is left as it was."""
    count = surgery.num_wanted(job.recipe)
    if count is None:
        return job, None
    net, feed, probe = job.net(), job.feed(job.rows.split.train), surgery.probe(job)
    untouched = {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}
    for _ in steps(probe, State(net), feed, probe.cadence(feed.steps_per_epoch), tell=lambda _line: None):
        pass
    feed.kept = None
    phases.open_phase(net, job.plan.phases[-1])
    phases.freeze_unreached(net, probe.objective(), feed.make(feed.rows[:2]))
    batches = [feed(step)[0] for step in range(surgery.BATCHES)]
    norms = gradient_norms.relative_norms(net, probe.objective(), batches, job.machine)
    net.load_state_dict(untouched)
    chosen = surgery.largest(norms, count)
    shown = ", ".join(f"{stage} {norm:.2g}" for stage, norm in norms.items())
    tell(f"stages that train: {', '.join(chosen)} (relative gradient norms: {shown})")
    return surgery.with_stages(job, chosen), {"train": chosen, "relative_gradient_norms": norms}
