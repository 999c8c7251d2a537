"""The size of an image, as its header tells it."""

from __future__ import annotations

from typing import Any

from PIL import Image

from tunesmith.data import media

ORIENTATION = 0x0112
"""The EXIF tag that says how a camera was held."""
GREY = ("1", "L", "I", "F", "I;16", "I;16B", "I;16L")


def shape(value: Any) -> tuple[int, int, int] | None:
    """Channels, height and width of an image, from its header alone; None where it cannot be read."""
    try:
        source = media.opened(value)
        if hasattr(source, "shape"):
            shape = tuple(int(number) for number in source.shape)
            if len(shape) == 2:
                return (1, *shape)
            return shape if shape[0] <= 4 else (shape[2], *shape[:2])  # type: ignore[return-value]
        if isinstance(source, Image.Image):
            return (1 if source.mode in GREY else 3, source.height, source.width)
        with Image.open(source) as image:
            turned = image.getexif().get(ORIENTATION, 1) > 4
            size = (image.width, image.height) if turned else (image.height, image.width)
            return (1 if image.mode in GREY else 3, *size)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
