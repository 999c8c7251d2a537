"""The report's sections on scores: beside the baselines, by metric, by class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tunesmith.delivery.card import num_folds
from tunesmith.delivery.drawing import fitting
from tunesmith.delivery.reporting.drawings import Interval, Intervals
from tunesmith.delivery.reporting.parts import Figure, Section, Table, count
from tunesmith.delivery.reporting.reading import Reading
from tunesmith.evaluation.intervals import shown

MOST_DRAWN = 20
"""Intervals of one drawing."""


def is_known(interval: Any) -> bool:
    """Whether something is an interval whose value and ends are known."""
    return isinstance(interval, Mapping) and None not in (interval.get(key) for key in ("value", "low", "high"))


def drawn(name: str, interval: Mapping[str, Any], *, strong: bool = False) -> Interval:
    """An interval as it is drawn."""
    return Interval(
        fitting(name, 34), shown(dict(interval)), interval["value"], interval["low"], interval["high"], strong
    )


def metrics_of(scores: Mapping[str, Any]) -> list[str]:
    """The names of the metrics, of all that stands in the scores of a part."""
    return [name for name, value in scores.items() if isinstance(value, Mapping) and "value" in value]


def results(reading: Reading) -> Section | None:
    """The deciding metric beside the baselines, the paired differences, and every metric of each part."""
    scores, words = reading.facts.scores, reading.words
    parts = {part: scores[part] for part in ("test", "valid") if part in scores}
    if not parts:
        return None
    figures = [figure for figure in (_beside(reading), _against(reading)) if figure]
    tables = [_metrics(reading, part, values) for part, values in parts.items()]
    folds = num_folds(dict(scores))
    notes = [words("results.folds" if folds else "results.bootstrap")]
    if "test" in scores and not folds:
        notes.append(words("results.chose"))
    return Section("results", notes, figures, tables)


def _named(reading: Reading, values: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Who is scored -> metric -> interval: the model, without its threshold, the baselines."""
    words = reading.words
    found = {words("model"): values}
    if default := values.get("default_threshold"):
        found[words("model.no_threshold")] = default
    return found | {words.named("baseline", name): scores for name, scores in values.get("baselines", {}).items()}


def _beside(reading: Reading) -> Figure | None:
    words, metric = reading.words, words_of_metric(reading)
    named = _named(reading, reading.judged)
    rows = {name: values[reading.metric] for name, values in named.items() if is_known(values.get(reading.metric))}
    if not rows:
        return None
    drawing = Intervals([drawn(name, value, strong=name == words("model")) for name, value in rows.items()])
    table = Table(
        words("results.beside", metric=metric),
        [words("head.who"), *_ends(reading)],
        [[name, *(f"{value[key]:.4g}" for key in ("value", "low", "high"))] for name, value in rows.items()],
    )
    about = words("results.beside_about", metric=metric, split=words.named("split", reading.facts.split))
    return Figure("beside", words("results.beside", metric=metric), about, drawing, table)


def _ends(reading: Reading) -> list[str]:
    return [reading.words(f"head.{name}") for name in ("value", "low", "high")]


def _against(reading: Reading) -> Figure | None:
    """The paired differences to each baseline."""
    words = reading.words
    known = {
        words.named("baseline", name): value
        for name, value in (reading.judged.get("against") or {}).items()
        if is_known(value)
    }
    if not known:
        return None
    title = words("results.against", metric=words_of_metric(reading))
    rows = [
        [name, *(f"{value[key]:.4g}" for key in ("value", "low", "high")), _percent(value.get("share_better"))]
        for name, value in known.items()
    ]
    table = Table(title, [words("head.baseline"), *_ends(reading), words("head.share_better")], rows)
    drawing = Intervals([drawn(name, value, strong=value["low"] > 0) for name, value in known.items()], zero=0.0)
    return Figure("against", title, words("results.against_about"), drawing, table)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


def words_of_metric(reading: Reading) -> str:
    """The deciding metric in the report's language."""
    return reading.words.named("metric", reading.metric)


def _metrics(reading: Reading, part: str, values: Mapping[str, Any]) -> Table:
    """Every metric of a part: of the model and of each baseline."""
    words, named = reading.words, _named(reading, values)
    rows = [
        [words.named("metric", metric), *(shown(_interval(scores.get(metric))) for scores in named.values())]
        for metric in metrics_of(values)
    ]
    caption = words("results.metrics", split=words.named("split", part))
    return Table(caption, [words("head.metric"), *named], rows, closed=part != reading.facts.split)


def _interval(value: Any) -> dict[str, Any] | None:
    return dict(value) if isinstance(value, Mapping) else None


def classes(reading: Reading) -> Section | None:
    """Precision, recall and F1 of each class, the lowest F1 first; where there are many, the lowest are drawn."""
    words, known = reading.words, reading.judged.get("classes") or {}
    if not known:
        return None
    names = [name for name in next(iter(known.values())) if name != "rows"]
    order = sorted(known, key=lambda label: _value(known[label].get("f1")))
    rows = [[label, count(known[label]["rows"]), *(shown(known[label].get(name)) for name in names)] for label in order]
    headings = [words("head.class"), words("head.rows"), *(words.named("metric", name) for name in names)]
    caption = words("classes.table")
    worst = [(label, known[label]["f1"]) for label in order if is_known(known[label].get("f1"))][:MOST_DRAWN]
    figures, table = [], Table(caption, headings, rows)
    if worst:
        drawing = Intervals([drawn(label, value) for label, value in worst])
        figures = [Figure("by-class", words("classes.figure"), words("classes.about"), drawing, table)]
    few = _few([known[label]["rows"] for label in known])
    notes = [words("classes.few", count=few)] if few else []
    return Section("classes", notes, figures, [] if figures else [table])


def _few(rows: Iterable[int]) -> int:
    """Classes of fewer than ten rows: nothing can be told of them."""
    return sum(1 for num_rows in rows if num_rows < 10)


def _value(interval: Mapping[str, Any] | None) -> float:
    return float("inf") if not interval or interval["value"] is None else float(interval["value"])
