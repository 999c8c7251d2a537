"""Sounds as they are read: a file, bytes or an array to the samples of one channel, at the rate that is wanted."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from tunesmith.data import media
from tunesmith.extras import need

LEAST_SECONDS = 0.025
"""What is shorter holds not even one frame of a spectrogram, nor of wav2vec 2.0."""
CUT_SHORT = re.compile(r"^data\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
"""What libsndfile says of a WAV file that ends before its header says."""
ENDLESS = 0x7FFFF000
"""A WAV file that was written to a pipe states about so many bytes or more: its end was not known."""


@dataclass(frozen=True)
class Sound:
    """Samples of one channel, and what there is to tell of them."""

    samples: np.ndarray
    seconds: float
    """Before a cut."""
    notes: tuple[str, ...] = ()


class Unreadable(Exception):
    """Why a sound cannot be read, in words."""


def libraries() -> None:
    """MachineError with the line to install where what reads sounds is absent."""
    need("soundfile", "reading sounds")
    need("soxr", "reading sounds")


def read(value: Any, rate: int, seconds: float, given: int | None) -> Sound:
    """At most so many seconds of a sound at `rate`; `given` is the rate of arrays, which do not tell it.

    Raises Unreadable with the reason."""
    try:
        return _read(value, rate, seconds, given)
    except FileNotFoundError:
        raise Unreadable("there is no such file") from None
    except (OSError, RuntimeError, ValueError, TypeError) as error:  # LibsndfileError is a RuntimeError.
        reason = (str(error) or type(error).__name__).splitlines()[0].rpartition(": ")[2].rstrip(".")
        raise Unreadable(f"it cannot be decoded ({reason})") from None


def seconds_and_rate(value: Any, given: int | None) -> tuple[float, int] | None:
    """Of a sound, from its header alone; None where it cannot be read."""
    try:
        source = media.opened(value)
        if isinstance(source, Mapping):
            return len(source["array"]) / source["sampling_rate"], int(source["sampling_rate"])
        if hasattr(source, "shape"):
            return (max(source.shape) / given, given) if given else None
        header = _soundfile().info(source)
        return header.frames / header.samplerate, int(header.samplerate)
    except (OSError, RuntimeError, ValueError, TypeError, ZeroDivisionError):
        return None


def _read(value: Any, rate: int, seconds: float, given: int | None) -> Sound:
    if value is None:
        raise FileNotFoundError
    source = media.opened(value)
    if isinstance(source, str):
        if not os.path.isfile(source):
            raise FileNotFoundError(source)
        if not os.path.getsize(source):
            raise Unreadable("the file is empty")
    if isinstance(source, Mapping):
        samples, own = np.asarray(source["array"]), int(source["sampling_rate"])
    elif hasattr(source, "shape"):
        if not given:
            raise Unreadable("an array does not tell its rate: say it with --set 'model.expects={rate = 16000}'")
        samples, own = np.asarray(source), given
    else:
        samples, own, length = _decoded(source, seconds)
        return _prepared(samples, own, length, rate)
    if samples.ndim == 2 and samples.shape[0] < samples.shape[1]:
        samples = samples.T
    if samples.dtype.kind in "iu":
        samples = samples.astype(np.float32) / np.iinfo(samples.dtype).max
    return _prepared(samples[: int(seconds * own)].astype(np.float32), own, len(samples) / max(1, own), rate)


def _decoded(source: Any, seconds: float) -> tuple[np.ndarray, int, float]:
    """The samples (num, channels) or (num,) of a file as far as they are wanted, its rate, and its whole length."""
    with _soundfile().SoundFile(source) as file:
        cut = CUT_SHORT.search(file.extra_info)
        if cut and int(cut[1]) < ENDLESS and int(cut[1]) > int(cut[2]):
            raise Unreadable(f"it is cut short: {int(cut[2]):,} of {int(cut[1]):,} bytes are there")
        wanted = min(file.frames, int(seconds * file.samplerate))
        samples = file.read(wanted, dtype="float32")
        if len(samples) < wanted and file.format != "MP3":  # The length of an MP3 file is an estimate.
            raise Unreadable(f"it is cut short: {len(samples):,} of {wanted:,} samples are there")
        return samples, file.samplerate, file.frames / max(1, file.samplerate)


def _prepared(samples: np.ndarray, own: int, seconds: float, rate: int) -> Sound:
    """One channel at the rate that is wanted, if the samples say something."""
    if own <= 0:
        raise Unreadable(f"it says that it has {own} samples a second")
    notes = []
    if samples.ndim > 1 and samples.shape[1] > 1:
        notes.append("have several channels, which are averaged")
    mono = samples.mean(1) if samples.ndim > 1 and samples.size else samples.reshape(-1)
    if not len(mono):
        raise Unreadable("it holds no samples")
    if not np.isfinite(mono).all():
        raise Unreadable("it holds samples that are no numbers (NaN or infinite)")
    if len(mono) / own < LEAST_SECONDS:
        raise Unreadable(f"it is {1000 * len(mono) / own:.0f} ms long, and {1000 * LEAST_SECONDS:.0f} ms are the least")
    if mono.min() == mono.max():
        raise Unreadable("it is silent: all its samples are the same")
    if own != rate:
        notes.append(f"of {own} samples a second are resampled to {rate}")
        mono = need("soxr", "resampling sounds").resample(mono, own, rate)
    return Sound(np.ascontiguousarray(mono, np.float32), seconds, tuple(notes))


def _soundfile() -> ModuleType:
    return need("soundfile", "reading sounds")
