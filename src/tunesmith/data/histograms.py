"""What an image holds that needs no model: a thumbnail with its colours counted, and its edges by their direction."""

from __future__ import annotations

import numpy as np

THUMBNAIL, EDGES = 16, 64
"""Sides of the images, in pixels, that are described."""
CELLS, DIRECTIONS = 8, 9


def colours(pixels: np.ndarray) -> np.ndarray:
    """Pixels (channels, height, width) of 0 to 1 as they are, then a histogram of 8 steps of each channel."""
    counts = [np.histogram(channel, bins=8, range=(0, 1))[0] / channel.size for channel in pixels]
    return np.concatenate([pixels.reshape(-1), *counts])


def edges(pixels: np.ndarray) -> np.ndarray:
    """How strong edges of each of 9 directions are in each of 8 x 8 parts of (channels, 64, 64): (576,).

    The histogram of oriented gradients (Dalal & Triggs 2005), each part brought to length 1 by itself."""
    down, right = np.gradient(pixels.mean(0))
    direction = (np.arctan2(down, right) % np.pi) / np.pi * DIRECTIONS
    rows, columns = np.indices(down.shape) * CELLS // EDGES
    place = (rows * CELLS + columns) * DIRECTIONS + np.minimum(direction.astype(int), DIRECTIONS - 1)
    size = CELLS * CELLS * DIRECTIONS
    found = np.bincount(place.reshape(-1), np.hypot(down, right).reshape(-1), size).reshape(-1, DIRECTIONS)
    return np.asarray(found / np.sqrt((found**2).sum(1, keepdims=True) + 0.01)).reshape(-1)
