"""What a model reads of the samples of a sound: the samples, an extractor's spectrogram, or one of our own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tunesmith.data import spectra
from tunesmith.errors import ModelError

PER_SECOND = 50
"""Places of a second where the model does not tell: one each 20 ms, as of most models of sound."""


WINDOW = 400
"""Samples behind one frame of the extractors of spectrograms, which read no fewer."""


class Reading(Protocol):
    """From the samples of a sound to what a model reads of it, and from these to a batch."""

    @property
    def rate(self) -> int:
        """Samples a second."""

    @property
    def told(self) -> str:
        """What a person should know of it; "" for nothing."""

    def of(self, samples: np.ndarray) -> np.ndarray:
        """What is kept of a sound."""

    def batch(self, arrays: Sequence[np.ndarray], counts: np.ndarray) -> dict[str, Tensor]:
        """The tensors of sounds that had so many samples."""

    def lengths(self, counts: np.ndarray) -> np.ndarray:
        """What sounds of so many samples cost, in places."""

    def as_json(self) -> dict[str, Any] | None:
        """What a Run keeps to make it again."""


@dataclass(frozen=True)
class Waveform:
    """The samples themselves, for wav2vec 2.0, HuBERT, WavLM and their like.

    A model with an attention mask reads each sound at its own length. One without (wav2vec2-base, hubert-base), or one
    whose first layer normalises over the whole sound with what pads it, would give another answer for each padding: all
    its sounds are brought to one `width`, so that an answer does not depend on the batch."""

    extractor: Any
    layers: tuple[tuple[int, int], ...]
    """Kernel and stride of each convolution that makes places of samples."""
    masked: bool
    width: int
    """Samples to which every sound is padded; 0 = as far as its batch needs."""

    @property
    def rate(self) -> int:
        return int(self.extractor.sampling_rate)

    @property
    def told(self) -> str:
        if not self.width:
            return ""
        what = f"all sounds are padded to {self.width / self.rate:g} s (data.max_length)"
        return f"{what}: what this model gives depends on the padding"

    def of(self, samples: np.ndarray) -> np.ndarray:
        samples = _filled(samples, self._least())
        options = {"padding": "max_length", "max_length": self.width, "truncation": True} if self.width else {}
        made = self.extractor(samples, sampling_rate=self.rate, return_tensors="np", **options)
        values: np.ndarray = np.asarray(made["input_values"][0], np.float32)
        return values

    def batch(self, arrays: Sequence[np.ndarray], counts: np.ndarray) -> dict[str, Tensor]:
        width = max(len(array) for array in arrays)
        values = np.full((len(arrays), width), self.extractor.padding_value, np.float32)
        for row, array in enumerate(arrays):
            values[row, : len(array)] = array
        counts = np.clip(counts, self._least(), width)
        made = {"input_values": torch.from_numpy(values)}
        if self.masked:
            made["attention_mask"] = _mask(counts, width)
        if self.layers:
            made["places"] = _mask(self._places(counts), int(self._places(np.array(width))))
        return made

    def lengths(self, counts: np.ndarray) -> np.ndarray:
        counts = np.full_like(counts, self.width) if self.width else np.maximum(counts, self._least())
        places = self._places(counts) if self.layers else counts * PER_SECOND // self.rate
        found: np.ndarray = np.maximum(1, places)
        return found

    def as_json(self) -> None:
        """The extractor lies in the model's folder."""

    def _places(self, counts: np.ndarray) -> np.ndarray:
        """Hidden states of so many samples."""
        for kernel, stride in self.layers:
            counts = (counts - kernel) // stride + 1
        return counts

    def _least(self) -> int:
        """The fewest samples that make one hidden state."""
        least = 1
        for kernel, stride in reversed(self.layers):
            least = (least - 1) * stride + kernel
        return least


@dataclass(frozen=True)
class Extracted:
    """The spectrogram of a fixed size that a feature extractor makes: Whisper, the Audio Spectrogram Transformer."""

    extractor: Any
    name: str
    """The body's name of the tensor."""
    seconds: float
    """What it reads of a sound at most; 0 = it does not tell."""
    told: str = ""

    @classmethod
    def of_extractor(cls, extractor: Any) -> Extracted | None:
        """None where it gives the samples; ModelError where it gives something of another kind."""
        rate, name = int(extractor.sampling_rate), extractor.model_input_names[0]
        made = [
            np.asarray(extractor(np.zeros(count, np.float32), sampling_rate=rate, return_tensors="np")[name][0]).shape
            for count in (rate // 2, rate)
        ]
        if made[0] == made[1] and len(made[0]) == 2:
            hop = getattr(extractor, "hop_length", 160)  # AST's, which it does not say.
            frames = getattr(extractor, "nb_max_frames", getattr(extractor, "max_length", 0))
            return cls(extractor, name, frames * hop / rate)
        if len(made[0]) == 1:
            return None
        what = f"its feature extractor ({type(extractor).__name__}) makes spectrograms whose size follows the sound's"
        raise ModelError(what, remedy="use a model of raw samples (wav2vec 2.0, HuBERT, WavLM), AST or Whisper")

    @property
    def rate(self) -> int:
        return int(self.extractor.sampling_rate)

    def of(self, samples: np.ndarray) -> np.ndarray:
        samples = _filled(samples, WINDOW)
        made = self.extractor(samples, sampling_rate=self.rate, return_tensors="np")
        values: np.ndarray = np.asarray(made[self.name][0], np.float32)
        return values

    def batch(self, arrays: Sequence[np.ndarray], counts: np.ndarray) -> dict[str, Tensor]:
        return {self.name: torch.from_numpy(np.stack(arrays))}

    def lengths(self, counts: np.ndarray) -> np.ndarray:
        return np.full(len(counts), max(1, round(PER_SECOND * (self.seconds or 1))))

    def as_json(self) -> None:
        """The extractor lies in the model's folder."""


@dataclass(frozen=True)
class LogMel:
    """A log-mel spectrogram as an image of one channel, (1, mels, frames), for a network that states nothing:
    `(values - mean) / std`, and 0 after the sound's end."""

    rate: int
    mels: int
    frames: int
    mean: float
    std: float
    told: str = ""

    def of(self, samples: np.ndarray) -> np.ndarray:
        made = spectra.log_mel(samples, self.rate, self.mels)[None, :, : self.frames]
        whole = np.zeros((1, self.mels, self.frames), np.float32)
        whole[..., : made.shape[2]] = (made - self.mean) / self.std
        return whole

    def batch(self, arrays: Sequence[np.ndarray], counts: np.ndarray) -> dict[str, Tensor]:
        return {"x": torch.from_numpy(np.stack(arrays))}

    def lengths(self, counts: np.ndarray) -> np.ndarray:
        return np.full(len(counts), max(1, round(PER_SECOND * self.frames * spectra.HOP)))

    def as_json(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in ("rate", "mels", "frames", "mean", "std")}


def _filled(samples: np.ndarray, least: int) -> np.ndarray:
    """Samples with silence after them where there are fewer than the model can read."""
    return samples if len(samples) >= least else np.pad(samples, (0, least - len(samples)))


def _mask(counts: np.ndarray, width: int) -> Tensor:
    return torch.from_numpy((np.arange(width)[None] < counts[:, None]).astype(np.int64))
