"""Changes of a sound's samples: noise, other speed, shifted in time, and times and bands that fall silent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tunesmith.extras import need

MASKS = 2
"""So many stretches of time, and as many bands, fall silent (Park et al. 2019: LibriSpeech double)."""
QUIETEST = 20.0
"""Decibels between the loudest and the quietest noise."""


@dataclass(frozen=True)
class Wave:
    """Samples, of so many a second."""

    samples: np.ndarray
    rate: int


def noisy(wave: Wave, random: np.random.Generator, decibels: float) -> Wave:
    """White noise, `decibels` to `decibels` + 20 under the sound."""
    under = random.uniform(decibels, decibels + QUIETEST)
    power = float(np.mean(np.square(wave.samples, dtype=np.float64))) * 10 ** (-under / 10)
    noise = random.standard_normal(len(wave.samples)).astype(np.float32)
    return Wave(wave.samples + np.float32(np.sqrt(power)) * noise, wave.rate)


def stretched(wave: Wave, random: np.random.Generator, speed: float) -> Wave:
    """1 - `speed` to 1 + `speed` times as fast, by resampling: the pitch moves too (Ko et al. 2015)."""
    factor = random.uniform(1 - speed, 1 + speed)
    samples = need("soxr", "changing the speed of sounds").resample(wave.samples, round(1000 * factor), 1000)
    return Wave(np.ascontiguousarray(samples, np.float32), wave.rate)


def shifted(wave: Wave, random: np.random.Generator, shift: float) -> Wave:
    """Earlier or later by at most `shift` of its length; what is left empty is silent, and what falls out is lost."""
    by = round(random.uniform(-shift, shift) * len(wave.samples))
    moved = np.zeros_like(wave.samples)
    if by >= 0:
        moved[by:] = wave.samples[: len(moved) - by]
    else:
        moved[:by] = wave.samples[-by:]
    return Wave(moved, wave.rate)


def masked(wave: Wave, random: np.random.Generator, time: float, frequency: float) -> Wave:
    """SpecAugment (Park et al. 2019) on the samples, for whatever reads them: twice a stretch of at most `time` of the
    length falls silent, and twice a band of at most `frequency` of the mel scale."""
    samples = wave.samples.copy()
    if frequency:
        spectrum = np.fft.rfft(samples)
        mel = np.log1p(np.linspace(0, wave.rate / 2, len(spectrum)) / 700)
        for _ in range(MASKS):
            width = random.uniform(0, frequency)
            low = random.uniform(0, 1 - width)
            spectrum[(mel >= low * mel[-1]) & (mel < (low + width) * mel[-1])] = 0
        samples = np.fft.irfft(spectrum, len(samples)).astype(np.float32)
    for _ in range(MASKS if time else 0):
        width = round(random.uniform(0, time) * len(samples))
        start = int(random.integers(len(samples) - width + 1))
        samples[start : start + width] = 0
    return Wave(samples, wave.rate)
