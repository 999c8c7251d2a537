"""Labels that look wrong, ranked: `tunesmith check DATA --model MODEL --labels`."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith import plugins
from tunesmith.assemble.job import Job, Tell
from tunesmith.assemble.rows import Objects
from tunesmith.data.split import PARTS, make_folds
from tunesmith.delivery.beside import baselines_of
from tunesmith.delivery.estimate import opened
from tunesmith.delivery.row_texts import in_a_line
from tunesmith.errors import RecipeError
from tunesmith.evaluation.learnable import Learnable
from tunesmith.evaluation.linear import linear_outputs
from tunesmith.evaluation.suspects import Chances, out_of_fold, suspects
from tunesmith.files import write_text
from tunesmith.recipe.schema import Recipe
from tunesmith.training import measure

FOLDS = 5
SHOWN = 15
MOST_ROWS = 100_000
"""Rows that are looked at, evenly spaced."""


@dataclass(frozen=True)
class Suspect:
    """A row whose label looks wrong: its place, what it says, its label, the one that fits better, and by how much."""

    where: str
    part: str
    says: str
    label: str
    likely: str
    margin: float


@dataclass(frozen=True)
class LabelReport:
    """The suspects, the surest first."""

    recipe: Recipe
    looked_at: int
    suspects: tuple[Suspect, ...]
    how: str
    accuracy: float

    def __str__(self) -> str:
        few = [
            f"  {one.where} ({one.part}): {one.label!r}, more like {one.likely!r} (+{one.margin:.2f}): {one.says}"
            for one in self.suspects[:SHOWN]
        ]
        share = len(self.suspects) / max(1, self.looked_at)
        told = f"{len(self.suspects):,} of {self.looked_at:,} labels look wrong ({share:.1%}), the surest first"
        agree = f"{self.accuracy:.1%} of the labels: where they are often wrong, so is this list"
        trust = f"by {self.how}, which agree with {agree}"
        rest = [f"  ... {len(self.suspects) - SHOWN:,} more: -o FILE writes all"] if len(self.suspects) > SHOWN else []
        return "\n".join([told, trust, *few, *rest])

    def write(self, path: Path | str) -> None:
        """All suspects as CSV, or as the extension .tsv says."""
        path = Path(path)
        lines: list[list[Any]] = [["where", "part", "label", "likely", "margin", "says"]]
        lines += [[one.where, one.part, one.label, one.likely, f"{one.margin:.4f}", one.says] for one in self.suspects]
        text = io.StringIO()
        csv.writer(text, delimiter="\t" if path.suffix == ".tsv" else ",").writerows(lines)
        write_text(path, text.getvalue())


def label_report(recipe: Recipe, objects: Objects, tell: Tell) -> LabelReport:
    """Predict every row, of all parts, from models that learnt from others, and rank the labels that do not fit.

    The models: a linear one on what the untouched body gives, and the plain baseline of rows of this kind."""
    with opened(recipe, objects, tell) as job:
        if job.rows.task.name != "classification":
            what = f"labels are looked at for a classification, and this is a {job.rows.task.name}"
            raise RecipeError(what, where="check --labels", remedy="leave --labels out")
        split = job.rows.split
        rows = measure.spread(np.sort(np.concatenate([getattr(split, part) for part in PARTS])), MOST_ROWS)
        codes = job.rows.codes[rows]
        rows, codes = rows[codes >= 0], codes[codes >= 0]
        models = {"the plain baseline": _plain(job, rows, codes)}
        if not job.pretrained.origin.name.startswith("new:"):
            models["a linear model on frozen features"] = _frozen(job, rows, codes)
        folds = make_folds(job.rows.table.hashes[rows], codes, FOLDS)
        chances = out_of_fold(list(models.values()), folds, (len(rows), job.rows.target.num_outputs))
        found = suspects(chances, codes)
        part_of = {int(row): part for part in PARTS for row in getattr(split, part)}
        labels = job.rows.target.labels
        listed = tuple(
            Suspect(
                job.rows.table.where(int(rows[place])),
                part_of[int(rows[place])],
                in_a_line(job.rows.table, int(rows[place]), job.rows.inputs, job.rows.modality),
                labels[codes[place]],
                labels[likely],
                float(margin),
            )
            for place, likely, margin in zip(found.positions, found.likely, found.margins, strict=True)
        )
        return LabelReport(job.recipe, len(rows), listed, " and ".join(models), found.accuracy)


def _frozen(job: Job, rows: np.ndarray, codes: np.ndarray) -> Chances:
    """A linear model on the first pooling of the body, or on what the last layer of its own head reads."""
    outputs, cache = job.rows.target.num_outputs, job.recipe.train.cache
    found = measure.frozen_features(job.pretrained, outputs, job.encoded, rows, job.machine, cache=cache)
    features = found[next(iter(job.pretrained.poolings), "own")]
    features = features - features.mean(0)
    features = features / np.maximum(features.std(0), 1e-6)

    def chances(learnt: np.ndarray, held: np.ndarray) -> np.ndarray:
        made = linear_outputs(features[learnt], codes[learnt], features[held], outputs)
        return job.rows.task.probabilities(made)

    return chances


def _plain(job: Job, rows: np.ndarray, codes: np.ndarray) -> Chances:
    """The baseline that learns most without a pretrained model."""
    named = (plugins.get("baseline", name) for name in baselines_of(job.rows.task.baselines, job.rows.modality))
    learn = [each for each in named if getattr(each, "reads", "plain") == "plain"][-1]
    seen = job.encoder.plain(job.rows.table, job.rows.inputs, rows)
    categorical = getattr(job.encoder, "categorical", ())

    def some(places: np.ndarray) -> Any:
        return [seen[place] for place in places] if isinstance(seen, list) else seen[places]

    def chances(learnt: np.ndarray, held: np.ndarray) -> np.ndarray:
        made: np.ndarray = learn(Learnable(some(learnt), codes[learnt], some(held), job.rows.target, categorical))
        return made

    return chances
