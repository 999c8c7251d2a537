"""Changes of a picture: cropped, mirrored, turned, of other colours, blurred, erased; and the lists of RandAugment."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps, ImageStat

Random = np.random.Generator
ASPECT = math.log(4 / 3)
"""A crop is at most so much wider or higher than the picture (Szegedy et al. 2015), and a rectangle that is erased
3.3 times wider than high, or the other way round (Zhong et al. 2020)."""
ERASED = (0.02, 0.2)
"""The share of the area that is erased."""


def fill(image: Image.Image) -> tuple[int, ...]:
    """The mean colour, for what lies outside a picture, or is erased."""
    return tuple(round(mean) for mean in ImageStat.Stat(image).mean)


def mapped(image: Image.Image, matrix: tuple[float, ...], centre: tuple[float, float]) -> Image.Image:
    """A picture of the same size whose point p shows `centre` + M (p - its middle), of `matrix` M, row by row."""
    a, b, d, e = matrix
    x, y = image.width / 2, image.height / 2
    numbers = (a, b, centre[0] - a * x - b * y, d, e, centre[1] - d * x - e * y)
    colour = fill(image)
    return image.transform(
        image.size,
        Image.Transform.AFFINE,
        numbers,
        Image.Resampling.BILINEAR,
        fillcolor=colour if len(colour) > 1 else colour[0],
    )


def placed(image: Image.Image, random: Random, *, crop: float, flip: float, rotate: float) -> Image.Image:
    """A part of the picture of at least `crop` of its area, brought to its size, mirrored with probability `flip`, and
    turned by at most `rotate` degrees: one resampling for all three."""
    area = random.uniform(crop, 1.0) if crop < 1 else 1.0
    aspect = math.exp(random.uniform(-ASPECT, ASPECT)) if crop < 1 else 1.0
    wide, high = min(1.0, math.sqrt(area * aspect)), min(1.0, math.sqrt(area / aspect))
    x, y = (random.uniform(side / 2, 1 - side / 2) if side < 1 else 0.5 for side in (wide, high))
    mirror = -1.0 if flip and random.random() < flip else 1.0
    angle = math.radians(random.uniform(-rotate, rotate)) if rotate else 0.0
    cos, sin = math.cos(angle), math.sin(angle)
    matrix = (cos * wide * mirror, -sin * high, sin * wide * mirror, cos * high)
    if matrix == (1.0, -0.0, 0.0, 1.0):
        return image
    return mapped(image, matrix, (x * image.width, y * image.height))


def coloured(image: Image.Image, random: Random, *, colour: float) -> Image.Image:
    """Brightness, contrast and, where there are colours, their saturation, each times 1 - `colour` to 1 + `colour`."""
    for name in ("brightness", "contrast", "color"):
        if name != "color" or image.mode == "RGB":
            image = ENHANCERS[name](image).enhance(random.uniform(1 - colour, 1 + colour))
    return image


def blurred(image: Image.Image, random: Random, *, blur: float) -> Image.Image:
    """A Gaussian blur whose standard deviation is at most `blur` of the shorter side."""
    return image.filter(ImageFilter.GaussianBlur(random.uniform(0, blur) * min(image.size)))


def erased(image: Image.Image, random: Random, *, erase: float) -> Image.Image:
    """With probability `erase` a rectangle of 2 to 20 % of the area takes the mean colour (Zhong et al. 2020)."""
    if random.random() >= erase:
        return image
    area, aspect = random.uniform(*ERASED), math.exp(random.uniform(-math.log(3.3), math.log(3.3)))
    width = min(image.width, max(1, round(math.sqrt(area * aspect) * image.width)))
    height = min(image.height, max(1, round(math.sqrt(area / aspect) * image.height)))
    left, top = (int(random.integers(room + 1)) for room in (image.width - width, image.height - height))
    image = image.copy()
    colour = fill(image)
    box = (left, top, left + width - 1, top + height - 1)
    ImageDraw.Draw(image).rectangle(box, fill=colour if len(colour) > 1 else colour[0])
    return image


ENHANCERS: dict[str, Callable[[Image.Image], ImageEnhance._Enhance]] = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "color": ImageEnhance.Color,
    "sharpness": ImageEnhance.Sharpness,
}
PLAIN = ("identity", "autocontrast", "equalize")
"""What has no strength."""
RAND = {"rotate": 30.0, "shear": 0.3, "translate": 0.45, "enhance": 0.9, "posterize": 4.0, "solarize": 256.0}
"""The most of each of RandAugment's changes (Cubuk et al. 2020): degrees, shares of the side, bits that are lost."""
TRIVIAL = {"rotate": 135.0, "shear": 0.99, "translate": 32 / 224, "enhance": 0.99, "posterize": 6.0, "solarize": 256.0}
"""Those of TrivialAugment, its wide space (Mueller & Hutter 2021)."""
NAMES = (*PLAIN, "rotate", "shear_x", "shear_y", "translate_x", "translate_y", *ENHANCERS, "posterize", "solarize")
"""The fourteen changes of both."""


def applied(image: Image.Image, name: str, level: float, sign: float, most: dict[str, float]) -> Image.Image:
    """One change by its name, at `level` (0 to 1) of its most; `sign` tells the direction where there are two."""
    if name == "identity":
        return image
    if name in ("autocontrast", "equalize"):
        return getattr(ImageOps, name)(image)  # type: ignore[no-any-return]
    if name in ENHANCERS:
        return ENHANCERS[name](image).enhance(1 + sign * level * most["enhance"])
    if name == "posterize":
        return ImageOps.posterize(image, 8 - round(level * most[name]))
    if name == "solarize":
        return ImageOps.solarize(image, round(256 - level * most[name]))
    strength, x, y = sign * level * most[name.partition("_")[0]], image.width / 2, image.height / 2
    if name == "rotate":
        cos, sin = math.cos(math.radians(strength)), math.sin(math.radians(strength))
        return mapped(image, (cos, -sin, sin, cos), (x, y))
    if name.startswith("shear"):
        return mapped(image, (1, strength, 0, 1) if name == "shear_x" else (1, 0, strength, 1), (x, y))
    moved = (x + strength * image.width, y) if name == "translate_x" else (x, y + strength * image.height)
    return mapped(image, (1, 0, 0, 1), moved)


def drawn(image: Image.Image, random: Random, most: dict[str, float], level: float | None) -> Image.Image:
    """One of the fourteen changes, at `level`, or at one of 31 that a lot decides."""
    name = NAMES[int(random.integers(len(NAMES)))]
    lot = int(random.integers(31)) / 30
    return applied(image, name, lot if level is None else level, 1.0 if random.random() < 0.5 else -1.0, most)
