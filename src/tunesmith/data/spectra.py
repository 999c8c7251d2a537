"""What a sound is made of: log-mel spectrograms, and the few numbers a row that sum one up."""

from __future__ import annotations

import functools
import math

import numpy as np

WINDOW = 0.025
"""Seconds of sound behind one frame of a spectrogram, as is usual for speech."""
HOP = 0.010
"""Seconds from one frame to the next."""
FLOOR = 1e-6
"""Added to a band's power before the logarithm: what is below (-60 dB of a full-scale tone) counts as silence."""
PLAIN_BANDS = 20


def window(rate: int) -> int:
    """Samples behind one frame."""
    return math.ceil(WINDOW * rate)


def hop(rate: int) -> int:
    """Samples from one frame to the next."""
    return max(1, round(HOP * rate))


def num_frames(samples: int, rate: int) -> int:
    """Frames of so many samples: the last one is filled up with silence.

    >>> num_frames(16000, 16000)
    99
    """
    return 1 + max(0, math.ceil((samples - window(rate)) / hop(rate)))


def log_mel(samples: np.ndarray, rate: int, bands: int) -> np.ndarray:
    """The logarithm of the power in each mel band: (bands, frames), float32.

    A Hann window of 25 ms every 10 ms, and triangular filters that are evenly spaced on the mel scale of O'Shaughnessy
    (2595 log10(1 + f / 700)) up to half the rate."""
    length, step = window(rate), hop(rate)
    frames = num_frames(len(samples), rate)
    padded = np.zeros(length + (frames - 1) * step, np.float32)
    padded[: len(samples)] = samples
    cut = np.lib.stride_tricks.sliding_window_view(padded, length)[::step]
    size = _transform(rate)
    power = np.abs(np.fft.rfft(cut * np.hanning(length).astype(np.float32), size)) ** 2 / length
    found: np.ndarray = np.log(_filters(rate, bands, size) @ power.T + FLOOR).astype(np.float32)
    return found


def _transform(rate: int) -> int:
    """Points of the Fourier transform: a power of two."""
    return int(2 ** math.ceil(math.log2(window(rate))))


@functools.lru_cache(maxsize=8)
def _filters(rate: int, bands: int, size: int) -> np.ndarray:
    """Triangles on the mel scale: (bands, frequencies). One so narrow that it lies between two frequencies takes the
    nearest."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), bands + 2) / 2595) - 1)
    frequencies = np.linspace(0, rate / 2, size // 2 + 1)
    low, centre, high = (edges[start : bands + start, None] for start in range(3))
    filters = np.clip(np.minimum((frequencies - low) / (centre - low), (high - frequencies) / (high - centre)), 0, None)
    for band in np.flatnonzero(filters.sum(1) == 0):
        filters[band, np.abs(frequencies - edges[band + 1]).argmin()] = 1
    return filters.astype(np.float32)


def summary(samples: np.ndarray, rate: int) -> np.ndarray:
    """Mean, spread and mean change of each of 20 mel bands, seconds, crossings of zero, and energy: 63 numbers."""
    bands = log_mel(samples, rate, PLAIN_BANDS)
    change = np.abs(np.diff(bands, axis=1)).mean(1) if bands.shape[1] > 1 else np.zeros(PLAIN_BANDS)
    crossings = float(np.mean(np.signbit(samples[1:]) != np.signbit(samples[:-1])))
    energy = float(np.log(np.mean(np.square(samples, dtype=np.float64)) + FLOOR))
    return np.concatenate([bands.mean(1), bands.std(1), change, [len(samples) / rate, crossings, energy]])
