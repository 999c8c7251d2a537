"""The page: the sections of a Run that have something to say, rendered into one HTML file that needs nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tunesmith.delivery.reporting.answers import answers
from tunesmith.delivery.reporting.calibration import calibration
from tunesmith.delivery.reporting.cost import cost, reproduce
from tunesmith.delivery.reporting.curves import curves, plan
from tunesmith.delivery.reporting.layout import rendered, written
from tunesmith.delivery.reporting.origins import data, forgetting
from tunesmith.delivery.reporting.parts import Section
from tunesmith.delivery.reporting.reading import Reading
from tunesmith.delivery.reporting.results import classes, results
from tunesmith.delivery.reporting.weaknesses import diagnosis, mistakes, slices
from tunesmith.delivery.verdict import Verdict, verdict
from tunesmith.delivery.words import Words
from tunesmith.run import Run

FILE = "report.html"
SECTIONS: tuple[Callable[[Reading], Section | None], ...] = (
    results,
    curves,
    answers,
    classes,
    calibration,
    slices,
    diagnosis,
    mistakes,
    data,
    forgetting,
    plan,
    cost,
    reproduce,
)
"""In the order of the page; one that has nothing to say of a Run is left out."""


def verdict_of(run: Run, language: str = "en") -> Verdict:
    """The verdict on a finished Run."""
    words = Words(language)
    return verdict(Reading(run, words).facts, words)


def page(run: Run, language: str = "en") -> str:
    """The report of a finished Run as HTML; RecipeError for a language that there is not."""
    words = Words(language)
    reading = Reading(run, words)
    scored = (run.path / "scores.json").stat().st_mtime
    return rendered(
        "page.html.jinja",
        words,
        [make(reading) for make in SECTIONS],
        recipe=reading.recipe,
        model=Path(reading.recipe.model.name).name,
        day=time.strftime("%Y-%m-%d", time.localtime(scored)),
        first="section.verdict",
        verdict=verdict(reading.facts, words),
    )


def write_page(run: Run, out: Path | None = None, language: str = "en") -> Path:
    """Write the report, by default into the Run; where it lies."""
    return written(run.path / FILE if out is None else out, page(run, language))
