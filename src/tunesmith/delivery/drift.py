"""Drift: how far each stage of the body is from the pretrained one, and what became of a language model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tunesmith.assemble import opened
from tunesmith.assemble.job import Job
from tunesmith.assemble.loaded import Loaded
from tunesmith.errors import DataError, ModelError
from tunesmith.evaluation.intervals import shown
from tunesmith.evaluation.perplexity import perplexity
from tunesmith.evaluation.similarity import distance, linear_cka, stage_features
from tunesmith.models.edits import trim
from tunesmith.models.loaders import named
from tunesmith.models.loaders.language import LanguageModel, load_language_model
from tunesmith.models.stages import Stage
from tunesmith.models.tunable import Tunable
from tunesmith.recipe.check import TEXT
from tunesmith.run import is_run
from tunesmith.training.measure import spread

ROWS = 256
"""Rows whose features are compared, at most."""
FROM_SCRATCH = "from scratch: there is nothing that could have been forgotten"
SHIPPED = "general.txt"
"""The general text that comes along: sentences in English and Chinese, written for it."""


def of_stages(job: Job, tuned: Loaded) -> dict[str, Any]:
    """How far each stage is from the pretrained one, and how alike what both make of the same rows is; on the first
    rank alone. Stages below the first that moved are not run: their likeness is 1."""
    if not job.machine.first:
        return {}
    assert job.head is not None
    try:
        pretrained, _ = opened.opened(job.recipe, job.objects, job.rows, job.encoder)
    except ModelError as error:
        return {"stages": [], "skipped": f"the pretrained model is gone: {error}"}
    if "trim" in job.recipe.model.edits:
        # Blocks that were taken out have not moved: the rest is compared with the rest.
        trim.edit(pretrained, **job.recipe.model.edits["trim"])
    was = Tunable(pretrained, job.head.name, job.head.options, job.rows.target.num_outputs)
    start, end = (
        {name: tensor.cpu() for name, tensor in body.weights.items()} for body in (pretrained, tuned.pretrained)
    )
    moved = {stage.name: _moved(stage, start, end) for stage in pretrained.stages}
    judges = job.rows.split.valid if len(job.rows.split.valid) else job.rows.split.train
    rows = spread(judges, ROWS)
    features: list[dict[str, Tensor]] = []
    if any(moved.values()):
        alone = replace(tuned.machine, rank=0, world=1)
        alone.place(was)
        features = [stage_features(net, job.encoded, rows, alone) for net in (was, tuned.net)]
    stages: list[dict[str, Any]] = []
    for stage in pretrained.stages:
        same = not moved[stage.name] and all(not before["moves"] for before in stages)
        known = not same and all(stage.name in each for each in features)
        cka = 1.0 if same else linear_cka(*(each[stage.name] for each in features)) if known else None
        weights = ([each[name] for name in stage.parameters] for each in (start, end))
        far = distance(*weights) if moved[stage.name] else 0.0
        stages.append({"stage": stage.name, "cka": cka, "distance": far, "moves": moved[stage.name]})
    return {"stages": stages, "rows": len(rows)}


def in_words(found: Mapping[str, Any]) -> list[str]:
    """What drift.json says, for people.

    >>> in_words({"stages": [{"stage": "stem", "cka": 0.7, "distance": 0.02, "moves": True}], "rows": 100})
    ['drift: the body moved most in stem (CKA 0.70, weights by 2.00 %)']
    """
    lines = []
    if kept := found.get("kept"):
        lines.append(f"kept: the tuned weights at {kept['share']:g}, for {kept['asked']:.0%} of the old score")
        lines[-1] += f", chosen on {kept['chosen_on']}"
    if source := found.get("source"):
        values = " before, ".join(shown(source[name]) for name in ("before", "after"))
        lines.append(f"source task: {source['metric']} {values} after, on {source['rows']} rows of {source['data']}")
    if told := found.get("language"):
        values = f"{told['before']:.4g} before, {told['after']:.4g} after"
        lines.append(f"general text: {told['unit']} {values}, on {Path(told['text']).name}")
    moved = [stage for stage in found["stages"] if stage["moves"]]
    if moved:
        known = [stage for stage in moved if stage["cka"] is not None]
        most = min(known, key=lambda stage: stage["cka"]) if known else max(moved, key=lambda stage: stage["distance"])
        cka = "" if most["cka"] is None else f"CKA {most['cka']:.2f}, "
        lines.append(f"drift: the body moved most in {most['stage']} ({cka}weights by {100 * most['distance']:.2f} %)")
    elif "skipped" not in found:
        lines.append("drift: the body is as it was")
    elif found["skipped"] != FROM_SCRATCH:
        lines.append(f"drift: not measured: {found['skipped']}")
    return lines


def of_language(job: Job, tuned: Loaded) -> dict[str, Any]:
    """The perplexity of a language model before and after, its body under the head that it was pretrained with; on
    the first rank alone. Nothing where the model brings no such head, unless the recipe asks for it."""
    asked = job.recipe.evaluate.source_task
    if not job.machine.first or job.pretrained.modality != "text":
        return {}
    wanted = asked is not None and asked.endswith(TEXT)
    try:
        model = language_model(job)
    except ModelError:
        if wanted:
            raise
        return {}
    name = asked if wanted and asked is not None else SHIPPED
    sentences = texts(name)
    tuned.machine.place(model.module)
    before = perplexity(model, sentences, tuned.machine)
    model.put(tuned.pretrained)
    after = perplexity(model, sentences, tuned.machine)
    unit = "pseudo-perplexity" if model.masked else "perplexity"
    return {"language": {"text": name, "unit": unit, "before": before, "after": after}}


def language_model(job: Job) -> LanguageModel:
    """The checkpoint that the recipe begins with, with its language modelling head; ModelError where it has none."""
    model = job.recipe.model
    if "trim" in model.edits:
        raise ModelError("has fewer blocks than its language modelling head was trained on", where=model.name)
    if job.objects.model is not None or named.matches(model.name) or is_run(Path(model.name)):
        raise ModelError("has no language modelling head", where=model.name)
    return load_language_model(model.name, job.pretrained, revision=model.revision, trust=model.trust)


def texts(name: str) -> list[str]:
    """The lines of a text that are not empty; DataError where there are none."""
    path = resources.files("tunesmith.samples") / SHIPPED if name == SHIPPED else Path(name)
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read: {error}", where=name, remedy="give a text in UTF-8") from None
    if not any(lines):
        raise DataError("holds no text", where=name)
    return [line for line in lines if line]


def _moved(stage: Stage, start: dict[str, Tensor], end: dict[str, Tensor]) -> bool:
    """Whether any weight or statistic of a stage is another."""
    inside = tuple(f"{module}." for module in stage.modules)
    names = {*stage.parameters, *(name for name in start if name.startswith(inside))}
    return any(not torch.equal(start[name], end[name]) for name in names)
