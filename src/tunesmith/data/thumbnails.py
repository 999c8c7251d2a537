"""Thumbnails: small pictures, for people, of what rows hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from tunesmith.data.encoders.image import ImageEncoder, read_image
from tunesmith.data.shapes import shape


def thumbnail(value: Any, side: int) -> Image.Image | None:
    """A picture no taller or wider than `side` of an image file, bytes or an array; None where that is no picture."""
    if (size := shape(value)) is None:
        return None
    scale, channels = min(1.0, side / max(size[1:])), 1 if size[0] == 1 else 3
    height, width = (max(1, round(edge * scale)) for edge in size[1:])
    pixels, _ = read_image(value, ImageEncoder(height, width, (0.0,) * channels, (1.0,) * channels))
    if pixels is None:
        return None
    if pixels.dtype != np.uint8:
        pixels = (255 * (pixels - pixels.min()) / max(float(np.ptp(pixels)), 1e-9)).astype(np.uint8)
    return Image.fromarray(pixels[0] if channels == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
