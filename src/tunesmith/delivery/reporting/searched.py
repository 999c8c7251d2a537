"""The page of a search: what is best and why, what it costs, what mattered, and what became of every trial."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from tunesmith.delivery.outcome import Outcome, Tried, choice, spent, states, told
from tunesmith.delivery.reporting.drawings import Bars, Intervals, Lines, Series
from tunesmith.delivery.reporting.layout import rendered, written
from tunesmith.delivery.reporting.parts import Figure, Section, Table, count, number
from tunesmith.delivery.reporting.results import drawn, is_known
from tunesmith.delivery.verdict import Figure as Number
from tunesmith.delivery.verdict import Verdict
from tunesmith.delivery.words import Words, duration
from tunesmith.evaluation.intervals import shown
from tunesmith.files import size

FILE = "search.html"
MOST_DRAWN = 12
"""Settings of the leaderboard's drawing."""
MOST_LINES = 60
"""Trials whose scores are drawn as they learn."""
MOST_BARS = 12
UNITS = {"row_seconds": 1e3, "bytes": 1e-6, "seconds": 1.0}
"""Cost -> what it is multiplied by to be drawn: milliseconds, MB, seconds."""


def search_page(outcome: Outcome, language: str = "en") -> str:
    """The page of a search as HTML; RecipeError for a language that there is not."""
    words = Words(language)
    values = {"model": outcome.model, "count": len(outcome.tried), "day": time.strftime("%Y-%m-%d")}
    return rendered(
        "search.html.jinja",
        words,
        [make(outcome, words) for make in (board, course, fronts, importance, arms, pruning, earlier, winner, recipe)],
        name=outcome.name,
        about=words("search.about", **values),
        first="section.outcome",
        verdict=_verdict(outcome, words),
    )


def write_search_page(outcome: Outcome, folder: Path, language: str = "en") -> Path:
    """Write the page into the folder of a search; where it lies. MachineError where the disk does not take it."""
    return written(folder / FILE, search_page(outcome, language))


def _verdict(outcome: Outcome, words: Words) -> Verdict:
    """What stands at the top: the sentences, and large the score, the time and the trials."""
    found = []
    if outcome.winner:
        score = outcome.test or outcome.winner.score
        spread = f"[{number(score['low'])}, {number(score['high'])}]" if is_known(score) else ""
        split = words("split.test" if outcome.test else "split.valid")
        name = words("search.score_of", metric=words.named("metric", outcome.metric), split=split)
        found.append(Number(name, number(score["value"]), spread))
    budget = "" if outcome.budget is None else words("search.of_budget", budget=duration(outcome.budget))
    found.append(Number(words("head.time"), duration(outcome.seconds), budget))
    found.append(Number(words("head.trials"), count(sum(outcome.states.values())), states(outcome.states, words)))
    return Verdict("alone" if outcome.winner else "unknown", tuple(told(outcome, words)), tuple(found))


def _headings(words: Words, *names: str) -> list[str]:
    return [words(f"head.{name}") for name in names]


def _called(tried: Tried) -> str:
    return f"{tried.number} {tried.arm}"


def _metric(outcome: Outcome, words: Words) -> str:
    return words.named("metric", outcome.metric)


def board(outcome: Outcome, words: Words) -> Section | None:
    """All settings that have a score, the best first, with a drawing of the first."""
    if outcome.winner is None:
        return None
    scored = [one for one in outcome.tried if one.score["value"] is not None]
    title = words("board.figure", metric=_metric(outcome, words))
    known = [one for one in scored if is_known(one.score)][:MOST_DRAWN]
    figures, tables = [], [_board(scored, words("board.table"), words, closed=len(scored) > MOST_DRAWN)]
    if known:
        rows = [drawn(_called(one), one.score, strong=one is outcome.winner) for one in known]
        figures = [Figure("board", title, words("board.about"), Intervals(rows), _board(known, title, words))]
    notes = [words("board.again")] if any(one.again for one in scored) else []
    return Section("leaderboard", notes, figures, tables)


def _board(rows: Sequence[Tried], caption: str, words: Words, *, closed: bool = False) -> Table:
    cells = [
        [
            str(one.number),
            one.arm,
            one.choices,
            shown(one.score),
            shown(one.first) if one.again else "–",
            words.named("state", one.state),
            duration(one.seconds),
            size(one.costs["bytes"]) if "bytes" in one.costs else "–",
            f"{1000 * one.costs['row_seconds']:.3g} ms" if "row_seconds" in one.costs else "–",
        ]
        for one in rows
    ]
    names = ("trial", "strategy", "set", "score", "first", "state", "time", "bytes", "row_time")
    return Table(caption, _headings(words, *names), cells, closed)


def course(outcome: Outcome, words: Words) -> Section | None:
    """The best score so far over the time."""
    if not outcome.curve:
        return None
    title, metric = words("course.figure"), _metric(outcome, words)
    points: list[tuple[float, float]] = []
    for seconds, score, _ in outcome.curve:
        points += [(seconds, points[-1][1])] if points else []
        points.append((seconds, score))
    points.append((max(outcome.seconds, points[-1][0]), points[-1][1]))
    rows = [[duration(seconds), str(trial), number(score)] for seconds, score, trial in outcome.curve]
    table = Table(title, _headings(words, "time", "trial", "score"), rows)
    drawing = Lines([Series(metric, points)], words("course.seconds"), metric)
    return Section("course", spent(outcome, words), [Figure("course", title, words("course.about"), drawing, table)])


def fronts(outcome: Outcome, words: Words) -> Section | None:
    """Scores over each cost, with the settings to which none is both cheaper and as good."""
    figures = [_front(outcome, cost, words) for cost in outcome.fronts]
    return Section("fronts", [words("fronts.about")], figures) if figures else None


def _front(outcome: Outcome, cost: str, words: Words) -> Figure:
    front, title, metric = outcome.fronts[cost], words.named("front", cost), _metric(outcome, words)
    others = [one for one in outcome.tried if cost in one.costs and one.first["value"] is not None]
    groups = (("fronts.all", others, False), ("fronts.front", front, True), ("fronts.winner", outcome.tried[:1], False))
    series = [
        Series(words(key), [(one.costs[cost] * UNITS[cost], one.first["value"]) for one in some], (), True, (), joined)
        for key, some, joined in groups
        if all(cost in one.costs for one in some)
    ]
    rows = [[str(one.number), one.arm, number(one.costs[cost] * UNITS[cost]), shown(one.first)] for one in front]
    table = Table(title, [*_headings(words, "trial", "strategy"), words.named("unit", cost), metric], rows)
    drawing = Lines(series, words.named("unit", cost), metric, log=True)
    return Figure(f"front-{cost}", title, words("fronts.figure_about"), drawing, table)


def importance(outcome: Outcome, words: Words) -> Section | None:
    """Which choices explain the differences between the trials."""
    if not outcome.importance:
        return None
    order = sorted(outcome.importance.items(), key=lambda item: -item[1])
    rows = [(path, f"{share:.0%}", share) for path, share in order]
    title = words("importance.figure")
    table = Table(title, _headings(words, "setting", "share"), [[path, text] for path, text, _ in rows])
    figure = Figure("importance", title, words("importance.about"), Bars(rows[:MOST_BARS]), table)
    return Section("importance", [], [figure])


def arms(outcome: Outcome, words: Words) -> Section | None:
    """Each strategy with its best."""
    if not outcome.arms:
        return None
    rows = [
        [
            arm.name,
            count(sum(arm.states.values())),
            states(arm.states, words),
            shown(arm.best.first) if arm.best else "–",
            duration(arm.seconds),
            arm.best.choices if arm.best else "",
        ]
        for arm in outcome.arms
    ]
    names = ("strategy", "trials", "ended", "best", "time", "set")
    return Section("arms", [], tables=[Table(words("arms.table"), _headings(words, *names), rows)])


def pruning(outcome: Outcome, words: Words) -> Section | None:
    """Scores while the trials learnt, and why some did not go to their end."""
    learnt = [one for one in outcome.tried if one.reports and one.state != "failed"][:MOST_LINES]
    figures = [_learning(outcome, learnt, words)] if learnt else []
    rows = [
        [words.named("state", one.state), count(len(one.numbers)), one.why, ", ".join(map(str, one.numbers))]
        for one in outcome.ended
    ]
    table = Table(words("pruning.table"), _headings(words, "state", "times", "why", "trials"), rows)
    return Section("pruning", [], figures, [table] if rows else []) if figures or rows else None


def _learning(outcome: Outcome, learnt: Sequence[Tried], words: Words) -> Figure:
    title, metric = words("pruning.figure"), _metric(outcome, words)
    rest = [one for one in learnt if one is not outcome.winner]
    groups = (
        ("pruning.whole", [one for one in rest if one.state == "done"]),
        ("pruning.cut", [one for one in rest if one.state != "done"]),
        ("fronts.winner", [one for one in learnt if one is outcome.winner]),
    )
    series = [
        Series(words(key), some[0].reports, more=[one.reports for one in some[1:]], marks=len(some) == 1)
        for key, some in groups
        if some
    ]
    ninths = range(1, 10)
    rows = [[_called(one), *(number(dict(one.reports).get(ninth)) for ninth in ninths)] for one in learnt]
    table = Table(title, [words("head.trial"), *(f"{ninth}/9" for ninth in ninths)], rows)
    drawing = Lines(series, words("pruning.ninths"), metric, whole=True)
    return Figure("learning", title, words("pruning.about", count=len(learnt)), drawing, table)


def earlier(outcome: Outcome, words: Words) -> Section | None:
    """What was taken from earlier searches."""
    return Section("earlier", list(outcome.earlier)) if outcome.earlier else None


def winner(outcome: Outcome, words: Words) -> Section | None:
    """What the winner changes in the recipe that was asked for, and how it is trained alone."""
    if outcome.winner is None:
        return None
    rows = [[path, choice(value)] for path, value in outcome.winner.settings.items()]
    tables = [Table(words("winner.table"), _headings(words, "setting", "is"), rows)] if rows else []
    notes = [words("winner.command")] if outcome.command else []
    return Section("winner", notes, tables=tables, code=outcome.command)


def recipe(outcome: Outcome, words: Words) -> Section | None:
    """The winner's recipe, whole."""
    return Section("recipe", [words("recipe.about")], code=outcome.recipe) if outcome.recipe else None
