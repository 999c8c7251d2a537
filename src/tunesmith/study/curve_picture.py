"""A learning curve as a picture: block letters for a terminal, and a PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tunesmith.delivery.drawing import COLOURS, INK, Axes, pale
from tunesmith.evaluation.power_law import Outlook

Point = tuple[int, float, float, float]
"""Rows, score, and the ends of its interval."""
LINES, WIDTH = 6, 10
"""Of the terminal's picture: its lines, and the letters of a column."""
EIGHTHS = " ▁▂▃▄▅▆▇█"


def blocks(metric: str, points: Sequence[Point], outlook: Outlook) -> list[str]:
    """A column for each size; a paler one for what twice the rows would likely bring."""
    values = [value for _, value, _, _ in points]
    shown = [*values, *([] if outlook.value is None else [outlook.value])]
    low, high = min(shown), max(shown)
    unit = (high - low) / (8 * LINES - 8) or 1.0
    heights = [8 + round((value - low) / unit) for value in shown]
    lines = []
    for line in range(LINES):
        bottom = 8 * (LINES - 1 - line)
        cells = [EIGHTHS[min(8, max(0, height - bottom))] for height in heights]
        if outlook.value is not None:
            cells[-1] = "░" if heights[-1] - bottom >= 4 else " "
        label = f"{high:.3g}" if line == 0 else f"{low:.3g}" if line == LINES - 1 else ""
        drawn = "".join(cell * (WIDTH - 2) + "  " for cell in cells)
        lines.append(f"  {label:>10} | {drawn}".rstrip())
    sizes = [rows for rows, *_ in points] + [outlook.rows] * (outlook.value is not None)
    lines.append(f"  {metric[:10]:>10} +{'-' * (WIDTH * len(sizes))}")
    lines.append(f"  {'rows':>10}   {''.join(f'{rows:,}'.center(WIDTH - 2) + '  ' for rows in sizes)}".rstrip())
    return lines


def draw(path: Path, title: str, metric: str, points: Sequence[Point], outlook: Outlook) -> None:
    """Write the PNG: scores with their intervals over the rows, and dashed what twice the rows would likely bring."""
    ends = [end for _, _, low, high in points for end in (low, high)]
    sizes = [rows for rows, *_ in points]
    ahead = outlook.value
    last = points[-1][1]
    if ahead is not None:
        ends += [ahead, last + outlook.low, last + outlook.high]
    low, high = min(ends), max(ends)
    margin = 0.08 * (high - low) or 0.1
    axes = Axes((sizes[0] / 1.3, sizes[-1] * 2.6), low - margin, high + margin)
    marks = {float(rows): f"{rows:,}" for rows in (*sizes, *[outlook.rows] * (ahead is not None))}
    axes.frame(f"learning curve: {title}", f"valid {metric}", "training rows", marks)
    for rows, _, low, high in points:
        _whisker(axes, rows, low, high, COLOURS[0])
    axes.line([axes.point(rows, value) for rows, value, _, _ in points], COLOURS[0], 2.5)
    for rows, value, _, _ in points:
        axes.dot(axes.point(rows, value), COLOURS[0], 5)
        axes.text((axes.point(rows, value)[0] + 10, axes.point(rows, value)[1] + 12), f"{value:.3f}", INK, "lm")
    if ahead is not None:
        _whisker(axes, outlook.rows, last + outlook.low, last + outlook.high, pale(COLOURS[1]))
        axes.dashed([axes.point(sizes[-1], last), axes.point(outlook.rows, ahead)], COLOURS[1], 2)
        axes.dot(axes.point(outlook.rows, ahead), COLOURS[1], 5)
        axes.text(
            (axes.point(outlook.rows, ahead)[0] + 10, axes.point(outlook.rows, ahead)[1]), f"{ahead:.3f}", INK, "lm"
        )
    axes.save(path)


def _whisker(axes: Axes, rows: int, low: float, high: float, colour: str) -> None:
    """The interval of a score."""
    (x, bottom), (_, top) = axes.point(rows, low), axes.point(rows, high)
    axes.line([(x, bottom), (x, top)], colour, 1.5)
    for y in (bottom, top):
        axes.line([(x - 5, y), (x + 5, y)], colour, 1.5)
