"""Curves over an axis, by the logarithm unless told otherwise, drawn as a PNG."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from tunesmith.errors import MachineError, RecipeError

SIZE, SHARP = (1000, 600), 2
"""Of the picture, which is drawn so many times larger and then reduced: its lines and letters come out smooth."""
LEFT, TOP, RIGHT, BOTTOM = 90, 60, 970, 520
INK, GRID = "#222222", "#e4e4e4"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000")
"""Colours that people of any sight tell apart (Okabe & Ito 2008)."""


class Axes:
    """A picture whose abscissa runs between two `ends`, by the logarithm unless it is `linear`, and whose ordinate from
    `low` to `high`; what is higher is cut. Places are in pixels of the picture as it is saved, up to `right`."""

    def __init__(
        self, ends: tuple[float, float], low: float, high: float, right: int = RIGHT, *, linear: bool = False
    ) -> None:
        self.ends, self.low, self.high, self.right, self.linear = ends, low, high, right, linear
        self.image = Image.new("RGB", (SIZE[0] * SHARP, SIZE[1] * SHARP), "white")
        self.canvas = ImageDraw.Draw(self.image)
        self.font = ImageFont.load_default(15 * SHARP)

    def point(self, x: float, value: float) -> tuple[float, float]:
        """Where a number and its value lie."""
        start, end = self.ends
        share = (x - start) / (end - start) if self.linear else math.log(x / start) / math.log(end / start)
        height = min(1.0, (value - self.low) / (self.high - self.low))
        return LEFT + share * (self.right - LEFT), BOTTOM - height * (BOTTOM - TOP)

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: float = 1) -> None:
        places = [(x * SHARP, y * SHARP) for x, y in points]
        self.canvas.line(places, fill=colour, width=round(width * SHARP), joint="curve")

    def dashed(self, points: Sequence[tuple[float, float]], colour: str, width: float = 1.5, dash: float = 5) -> None:
        """A line of dashes, each as long as its gaps."""
        gone = 0.0
        for (x, y), (to_x, to_y) in itertools.pairwise(points):
            length = math.hypot(to_x - x, to_y - y)
            start = -(gone % (2 * dash))
            while start < length:
                ends = [min(max(start + part, 0.0), length) / max(length, 1e-9) for part in (0.0, dash)]
                if ends[1] > ends[0]:
                    self.line([(x + share * (to_x - x), y + share * (to_y - y)) for share in ends], colour, width)
                start += 2 * dash
            gone += length

    def dot(self, place: tuple[float, float], colour: str, radius: float = 2.5) -> None:
        x, y = place
        self.canvas.ellipse([(edge * SHARP) for edge in (x - radius, y - radius, x + radius, y + radius)], fill=colour)

    def text(self, place: tuple[float, float], words: str, colour: str, anchor: str) -> None:
        self.canvas.text((place[0] * SHARP, place[1] * SHARP), words, fill=colour, font=self.font, anchor=anchor)

    def frame(self, title: str, ordinate: str, abscissa: str, marks: Mapping[float, str]) -> None:
        """Frame, grid, ticks, labels and title; `marks` are the words below the abscissa."""
        for x, words in marks.items():
            place = self.point(x, self.low)[0]
            self.line([(place, TOP), (place, BOTTOM)], GRID)
            self.text((place, BOTTOM + 8), words, INK, "mt")
        for value in ticks(self.low, self.high):
            y = self.point(self.ends[0], value)[1]
            self.line([(LEFT, y), (self.right, y)], GRID)
            self.text((LEFT - 8, y), f"{value:g}", INK, "rm")
        self.line([(LEFT, TOP), (self.right, TOP), (self.right, BOTTOM), (LEFT, BOTTOM), (LEFT, TOP)], INK)
        self.text(((LEFT + self.right) / 2, 20), fitting(title, 110), INK, "mt")
        self.text(((LEFT + self.right) / 2, BOTTOM + 40), abscissa, INK, "mt")
        width, height = (round(edge) for edge in self.canvas.textbbox((0, 0), ordinate, font=self.font)[2:])
        label = Image.new("RGB", (width + 4, height + 4), "white")
        ImageDraw.Draw(label).text((2, 2), ordinate, fill=INK, font=self.font)
        turned = label.rotate(90, expand=True)
        self.image.paste(turned, (12 * SHARP, SHARP * (TOP + BOTTOM) // 2 - turned.height // 2))

    def save(self, path: Path) -> None:
        self.image.resize(SIZE, Image.Resampling.LANCZOS).save(path, format="PNG")


def require_folder(png: Path | None) -> None:
    """RecipeError where a picture is asked for in a folder that is not there."""
    if png is not None and not png.absolute().parent.is_dir():
        what, where = "there is no such folder", str(png.absolute().parent)
        raise RecipeError(what, where=where, remedy="make it, or change --png")


def write(draw: Callable[[Path], object], png: Path, tell: Callable[[str], None]) -> None:
    """Draw into a file and say so; MachineError where the disk does not take it."""
    try:
        draw(png)
    except OSError as error:
        what = f"could not be written: {error.strerror or error}"
        raise MachineError(what, where=str(png), remedy="choose another --png") from None
    tell(f"wrote {png}")


def ticks(low: float, high: float) -> list[float]:
    """Three to nine round numbers between the two.

    >>> ticks(0.31, 2.2)
    [0.5, 1.0, 1.5, 2.0]
    """
    power = 10.0 ** math.floor(math.log10(high - low))
    step = next(step for step in (0.2 * power, 0.5 * power, power, 2 * power) if (high - low) / step <= 8)
    return [round(place * step, 12) for place in range(math.ceil(low / step), math.floor(high / step) + 1)]


def pale(colour: str) -> str:
    """Half way to white."""
    return "#" + "".join(f"{(int(colour[place : place + 2], 16) + 255) // 2:02x}" for place in (1, 3, 5))


def fitting(words: str, most: int) -> str:
    """The words, cut to so many letters."""
    return words if len(words) <= most else f"{words[: most - 3]}..."
