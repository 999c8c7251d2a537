"""Curves of the learning-rate range test as pictures: block letters for a terminal, and a PNG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tunesmith.delivery.lr_curve import HIGHEST, LOWEST, Curve

DECADES = (round(math.log10(LOWEST)), round(math.log10(HIGHEST)))
COLUMNS, LINES = 8, 8
"""Of the terminal's picture: columns for each power of ten, and lines."""
EIGHTHS = " ▁▂▃▄▅▆▇█"
SIZE, SHARP = (1000, 600), 2
"""Of the PNG, which is drawn so many times larger and then reduced: its lines and letters come out smooth."""
LEFT, TOP, RIGHT, BOTTOM = 90, 60, 970, 520
FEW = 3
"""More curves than these are shown without dots, and their legend stands beside them."""
BESIDE = 250
"""Pixels for the legend there."""
INK, GRID = "#222222", "#e4e4e4"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000")
"""Colours that people of any sight tell apart (Okabe & Ito 2008)."""


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
    image = Image.new("RGB", (SIZE[0] * SHARP, SIZE[1] * SHARP), "white")
    pen = _Pen(image, low - 0.05 * (high - low), high, len(curves))
    pen.axes(title, "loss as a share of its start, smoothed" if several else "training loss, smoothed")
    colours = [*COLOURS, *map(_pale, COLOURS)]
    for number, (curve, unit) in enumerate(zip(curves, units, strict=True)):
        pen.curve(curve, unit, colours[number % len(colours)])
    for number, curve in enumerate(curves):
        pen.name(number, curve, colours[number % len(colours)])
    image.resize(SIZE, Image.Resampling.LANCZOS).save(path, format="PNG")


class _Pen:
    """Draws on an image whose data runs over the decades of the rate, and from `low` to `high`."""

    def __init__(self, image: Image.Image, low: float, high: float, num_curves: int) -> None:
        self.image, self.low, self.high, self.num_curves = image, low, high, num_curves
        self.right = RIGHT if num_curves <= FEW else RIGHT - BESIDE
        self.canvas = ImageDraw.Draw(image)
        self.font = ImageFont.load_default(15 * SHARP)

    def point(self, rate: float, value: float) -> tuple[float, float]:
        """Where a rate and a value lie, in pixels of the large image."""
        share = (math.log10(rate) - DECADES[0]) / (DECADES[1] - DECADES[0])
        height = (value - self.low) / (self.high - self.low)
        return SHARP * (LEFT + share * (self.right - LEFT)), SHARP * (BOTTOM - min(1.0, height) * (BOTTOM - TOP))

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: float = 1) -> None:
        self.canvas.line(points, fill=colour, width=round(width * SHARP), joint="curve")

    def text(self, place: tuple[float, float], words: str, colour: str, anchor: str) -> None:
        self.canvas.text((place[0] * SHARP, place[1] * SHARP), words, fill=colour, font=self.font, anchor=anchor)

    def axes(self, title: str, ordinate: str) -> None:
        """Frame, grid, ticks, labels and title."""
        for power in range(DECADES[0], DECADES[1] + 1):
            x = self.point(10.0**power, self.low)[0] / SHARP
            self.line([(x * SHARP, TOP * SHARP), (x * SHARP, BOTTOM * SHARP)], GRID)
            self.text((x, BOTTOM + 8), f"1e{power}", INK, "mt")
        for value in _ticks(self.low, self.high):
            y = self.point(LOWEST, value)[1]
            self.line([(LEFT * SHARP, y), (self.right * SHARP, y)], GRID)
            self.text((LEFT - 8, y / SHARP), f"{value:g}", INK, "rm")
        corners = [(LEFT, TOP), (self.right, TOP), (self.right, BOTTOM), (LEFT, BOTTOM), (LEFT, TOP)]
        self.line([(x * SHARP, y * SHARP) for x, y in corners], INK)
        self.text(((LEFT + self.right) / 2, 20), _fitting(f"learning-rate range test: {title}", 90), INK, "mt")
        self.text(((LEFT + self.right) / 2, BOTTOM + 40), "learning rate of the phase (rules multiply it)", INK, "mt")
        width, height = (round(edge) for edge in self.canvas.textbbox((0, 0), ordinate, font=self.font)[2:])
        label = Image.new("RGB", (width + 4, height + 4), "white")
        ImageDraw.Draw(label).text((2, 2), ordinate, fill=INK, font=self.font)
        turned = label.rotate(90, expand=True)
        self.image.paste(turned, (12 * SHARP, SHARP * (TOP + BOTTOM) // 2 - turned.height // 2))

    def curve(self, curve: Curve, unit: float, colour: str) -> None:
        """Dots for the batches, the smoothed loss as a line, the suggested rate as a dashed one."""
        for rate, loss in zip(curve.rates, curve.losses, strict=True):
            if self.num_curves <= FEW and self.low <= loss / unit <= self.high:
                x, y = self.point(rate, loss / unit)
                self.canvas.ellipse([x - 5, y - 5, x + 5, y + 5], fill=_pale(colour))
        shown = [(rate, loss / unit) for rate, loss in zip(curve.rates, curve.smooth, strict=True)]
        last = next((place for place, (_, value) in enumerate(shown) if value > self.high), len(shown))
        if points := [self.point(rate, value) for rate, value in shown[: last + 1]]:
            self.line(points, colour, 2.5)
        if curve.suggested is not None:
            x = self.point(curve.suggested, self.low)[0]
            for top in range(TOP * SHARP, BOTTOM * SHARP, 20):
                self.line([(x, top), (x, min(top + 10, BOTTOM * SHARP))], colour, 1.5)

    def name(self, number: int, curve: Curve, colour: str) -> None:
        """A line of the legend: at the lower left, under the curves' flat start, or beside the axes."""
        few = self.num_curves <= FEW
        x, y = (
            (LEFT + 15, BOTTOM - 20 - 22 * (self.num_curves - 1 - number))
            if few
            else (self.right + 15, 70 + 22 * number)
        )
        self.line([(SHARP * x, SHARP * y), (SHARP * (x + 30), SHARP * y)], colour, 2.5)
        found = "no rate" if curve.suggested is None else f"{curve.suggested:.1e}"
        self.text((x + 40, y), f"{_fitting(curve.phase, 16)}: {found}", INK, "lm")


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


def _ticks(low: float, high: float) -> list[float]:
    """Three to nine round numbers between the two.

    >>> _ticks(0.31, 2.2)
    [0.5, 1.0, 1.5, 2.0]
    """
    power = 10.0 ** math.floor(math.log10(high - low))
    step = next(step for step in (0.2 * power, 0.5 * power, power, 2 * power) if (high - low) / step <= 8)
    return [round(place * step, 12) for place in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _pale(colour: str) -> str:
    """Half way to white."""
    return "#" + "".join(f"{(int(colour[place : place + 2], 16) + 255) // 2:02x}" for place in (1, 3, 5))


def _fitting(words: str, most: int) -> str:
    return words if len(words) <= most else f"{words[: most - 3]}..."
