"""Curves of the learning-rate range test as pictures: block letters for a terminal, and a PNG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tunesmith.delivery.drawing import BOTTOM, COLOURS, INK, LEFT, RIGHT, TOP, Axes, fitting, pale
from tunesmith.delivery.lr_curve import HIGHEST, LOWEST, Curve

DECADES = (round(math.log10(LOWEST)), round(math.log10(HIGHEST)))
COLUMNS, LINES = 8, 8
"""Of the terminal's picture: columns for each power of ten, and lines."""
EIGHTHS = " ▁▂▃▄▅▆▇█"
FEW = 3
"""More curves than these are shown without dots, and their legend stands beside them."""
BESIDE = 250
"""Pixels for the legend there."""


def blocks(curve: Curve) -> list[str]:
    """The smoothed loss as columns of block letters, cut where it climbs far above its start; an arrow marks the
    suggested rate."""
    low, high = _range(curve.smooth, curve.start)
    width = COLUMNS * (DECADES[1] - DECADES[0])
    columns: list[list[float]] = [[] for _ in range(width)]
    for rate, loss in zip(curve.rates, curve.smooth, strict=True):
        columns[_column(rate, width)].append(loss)
    heights = [0 if not some else _eighths(float(np.mean(some)), low, high) for some in columns]
    lines = []
    for line in range(LINES):
        bottom = 8 * (LINES - 1 - line)
        cells = "".join(EIGHTHS[min(8, max(0, height - bottom))] for height in heights)
        label = f"{high:.3g}" if line == 0 else f"{low:.3g}" if line == LINES - 1 else ""
        lines.append(f"  {label:>8} |{cells}".rstrip())
    powers = range(DECADES[0], DECADES[1] + 1)
    axis, names = (
        ("+" + "-" * (COLUMNS - 1)) * (len(powers) - 1) + "+",
        "".join(f"1e{p}".ljust(COLUMNS) for p in powers),
    )
    lines += [f"  {'loss':>8} {axis}", f"  {'rate':>8} {names}".rstrip()]
    if curve.suggested is not None:
        lines.append(f"  {'':>8}  {' ' * _column(curve.suggested, width)}^ {curve.suggested:.1e}")
    return lines


def draw(path: Path, title: str, curves: Sequence[Curve]) -> None:
    """Write the PNG: a curve a phase over one axis of rates, dots for single batches, a dashed line at what is
    suggested. Of several phases the loss is shown as a share of its start, because their losses may differ in kind."""
    several = len(curves) > 1 and all(curve.start > 0 for curve in curves)
    units = [curve.start if several else 1.0 for curve in curves]
    ranges = [
        [edge / unit for edge in _range(curve.smooth, curve.start)] for curve, unit in zip(curves, units, strict=True)
    ]
    low, high = min(edges[0] for edges in ranges), max(edges[1] for edges in ranges)
    axes = Axes((LOWEST, HIGHEST), low - 0.05 * (high - low), high, RIGHT if len(curves) <= FEW else RIGHT - BESIDE)
    axes.frame(
        f"learning-rate range test: {fitting(title, 83)}",
        "loss as a share of its start, smoothed" if several else "training loss, smoothed",
        "learning rate of the phase (rules multiply it)",
        {10.0**power: f"1e{power}" for power in range(DECADES[0], DECADES[1] + 1)},
    )
    colours = [*COLOURS, *map(pale, COLOURS)]
    for number, (curve, unit) in enumerate(zip(curves, units, strict=True)):
        _line(axes, curve, unit, colours[number % len(colours)], dots=len(curves) <= FEW)
    for number, curve in enumerate(curves):
        _name(axes, number, len(curves), curve, colours[number % len(colours)])
    axes.save(path)


def _line(axes: Axes, curve: Curve, unit: float, colour: str, *, dots: bool) -> None:
    """Dots for the batches, the smoothed loss as a line, the suggested rate as a dashed one."""
    for rate, loss in zip(curve.rates, curve.losses, strict=True):
        if dots and axes.low <= loss / unit <= axes.high:
            axes.dot(axes.point(rate, loss / unit), pale(colour))
    shown = [(rate, loss / unit) for rate, loss in zip(curve.rates, curve.smooth, strict=True)]
    last = next((place for place, (_, value) in enumerate(shown) if value > axes.high), len(shown))
    if points := [axes.point(rate, value) for rate, value in shown[: last + 1]]:
        axes.line(points, colour, 2.5)
    if curve.suggested is not None:
        x = axes.point(curve.suggested, axes.low)[0]
        axes.dashed([(x, TOP), (x, BOTTOM)], colour)


def _name(axes: Axes, number: int, of: int, curve: Curve, colour: str) -> None:
    """A line of the legend: at the lower left, under the curves' flat start, or beside the axes."""
    few = of <= FEW
    x, y = (LEFT + 15, BOTTOM - 20 - 22 * (of - 1 - number)) if few else (axes.right + 15, 70 + 22 * number)
    axes.line([(x, y), (x + 30, y)], colour, 2.5)
    found = "no rate" if curve.suggested is None else f"{curve.suggested:.1e}"
    axes.text((x + 40, y), f"{fitting(curve.phase, 16)}: {found}", INK, "lm")


def _range(smooth: Sequence[float], start: float) -> tuple[float, float]:
    """From the least smoothed loss to half as far above the start: what explodes is cut."""
    if not smooth:
        return 0.0, 1.0
    low = min(smooth)
    high = start + 0.5 * (start - low)
    return (low, high) if high - low > 0.05 * abs(start) else (low - 0.1 * abs(start), start + 0.1 * abs(start))


def _column(rate: float, width: int) -> int:
    share = (math.log10(rate) - DECADES[0]) / (DECADES[1] - DECADES[0])
    return min(width - 1, max(0, int(share * width + 1e-9)))


def _eighths(value: float, low: float, high: float) -> int:
    """The height of a column in eighths of a line: 1 for the least, all lines for what is cut."""
    return 1 + round(min(1.0, (value - low) / (high - low)) * (8 * LINES - 1))
