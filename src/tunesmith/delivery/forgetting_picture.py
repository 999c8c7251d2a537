"""The old score against the new one, a mark for each way of tuning, drawn as a PNG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from tunesmith.delivery.drawing import COLOURS, INK, TOP, Axes, pale, ticks

RIGHT = 700
"""Of the axes, in pixels: the names stand beside them."""
HEIGHT = 22
"""Of a line of the names."""


def draw(
    path: Path, title: str, words: tuple[str, str], before: float, found: Mapping[str, tuple[float, float]]
) -> None:
    """Write the PNG. `found`: name -> (new score, old score); `words` name the two scores, the new first; `before` is
    the old score before any tuning, a dashed line. Names are sorted by what is left of the old score."""
    news, olds = zip(*found.values(), strict=True)
    (left, right), (low, high) = _range(news), _range((*olds, before))
    axes = Axes((left, right), low, high, RIGHT, linear=True)
    axes.frame(title, words[1], words[0], {value: f"{value:g}" for value in ticks(left, right)})
    axes.dashed([axes.point(left, before), axes.point(right, before)], INK)
    axes.text((axes.point(left, before)[0] + 8, axes.point(left, before)[1] - 10), "before", INK, "lm")
    colours = [*COLOURS, *map(pale, COLOURS)]
    taken = [axes.point(*scores) for scores in found.values()]
    for number, name in enumerate(sorted(found, key=lambda name: (-found[name][1], -found[name][0])), 1):
        colour, y = colours[(number - 1) % len(colours)], TOP + 10 + HEIGHT * (number - 1)
        place = axes.point(*found[name])
        taken.append(_beside(place, taken))
        axes.line([place, taken[-1]], pale(INK))
        axes.text(taken[-1], str(number), INK, "mm")
        axes.text((RIGHT + 40, y), str(number), INK, "rm")
        axes.text((RIGHT + 65, y), f"{name}: {found[name][0]:.2f}, {found[name][1]:.2f}", INK, "lm")
        for mark in (place, (RIGHT + 52, y)):
            axes.dot(mark, colour, 6)
    axes.save(path)


def _beside(place: tuple[float, float], taken: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The nearest free place for the number of a mark."""
    around = [
        (place[0] + far * math.cos(turn * math.pi / 6), place[1] - far * math.sin(turn * math.pi / 6))
        for far in range(18, 200, 8)
        for turn in range(12)
    ]
    return next((spot for spot in around if all(math.dist(spot, other) > 17 for other in taken)), place)


def _range(values: tuple[float, ...]) -> tuple[float, float]:
    """From the least to the most, with a margin."""
    margin = 0.08 * (max(values) - min(values)) or 0.05
    return min(values) - margin, max(values) + margin
