"""Sounds to tensors: each decoded, resampled and prepared once, memory-mapped, padded as its batch needs."""

from __future__ import annotations

import hashlib
import math
import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor

from tunesmith.data import media, sounds, spectra
from tunesmith.data.readings import Extracted, LogMel, Reading, Waveform
from tunesmith.data.sound_changes import Wave
from tunesmith.data.table import Table
from tunesmith.errors import DataError, RecipeError, nearest
from tunesmith.files import require_space

MOST_SECONDS = 30.0
"""What is longer is cut, unless the recipe says otherwise: attention over a minute of sound fills the memory."""
LEARNT_FROM = 1000
"""Rate, length, mean and spread are learnt from so many training sounds at most."""
STATED = ("rate", "mels", "mean", "std")
MOST_RATE = 16_000
"""A network without a rate of its own reads the training sounds' usual one, and no more than this."""
CHUNK = 64


@dataclass(frozen=True)
class SoundEncoder:
    """How a sound becomes a tensor: its first `seconds`, at the rate of what reads it."""

    reading: Reading
    seconds: float
    given: int | None = None
    """The rate of arrays, which do not tell it."""
    _summaries: weakref.WeakKeyDictionary[Table, np.ndarray] = field(
        default_factory=weakref.WeakKeyDictionary, compare=False, repr=False
    )
    """Table -> what `plain` gives of its rows: made while they are decoded, so that this happens once."""
    modality: ClassVar[Literal["sound"]] = "sound"

    @property
    def most(self) -> str:
        return f"{self.seconds:g} s"

    def blank(self, num_rows: int) -> dict[str, Tensor]:
        """So many sounds that say nothing, of a second, or as long as all are."""
        nothing = np.zeros(min(self.reading.rate, int(self.seconds * self.reading.rate)), np.float32)
        return self.reading.batch([self.reading.of(nothing)] * num_rows, np.full(num_rows, len(nothing)))

    def encode(self, table: Table, inputs: tuple[str, ...]) -> SoundRows:
        """Decode every sound; of a file that cannot be read the reason is kept."""
        return encode_sounds(table, inputs[0], self)

    def plain(self, table: Table, inputs: tuple[str, ...], rows: np.ndarray) -> np.ndarray:
        """Mean, spread and change of 20 mel bands, length, crossings of zero, energy: (rows, 63)."""
        if table not in self._summaries:
            self.encode(table, inputs)
        found: np.ndarray = self._summaries[table][rows]
        return found

    def as_json(self) -> dict[str, Any] | None:
        kept = self.reading.as_json()
        return (
            None if kept is None else {"modality": self.modality, "seconds": self.seconds, "given": self.given} | kept
        )

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> SoundEncoder:
        known = {key: item for key, item in value.items() if key not in ("modality", "seconds", "given")}
        return cls(LogMel(**known), value["seconds"], value["given"])


@dataclass(eq=False)
class SoundRows:
    """The sounds of a Table. `unreadable`: row number -> what is wrong with its file; such a row reads as silence."""

    table: Table
    column: str
    encoder: SoundEncoder
    lengths: np.ndarray
    """In places of 20 ms, or those of the model's hidden states; for a model that reads one length, that."""
    counts: np.ndarray
    """Samples of each row, after the cut, before it is padded."""
    longest: int = 0
    """Seconds of the longest sound, rounded up."""
    num_cut: int = 0
    unreadable: dict[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    _shapes: list[tuple[int, ...]] = field(default_factory=list)
    _offsets: np.ndarray | None = None
    _values: np.ndarray | None = None

    @property
    def seconds(self) -> float:
        """What the model reads of a sound at most."""
        return self.encoder.seconds

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """The tensors of the given row numbers."""
        return self.encoder.reading.batch([self._row(int(row)) for row in rows], self.counts[np.asarray(rows)])

    def changed(self, rows: Sequence[int] | np.ndarray, change: Callable[[int, Any], Any]) -> dict[str, Tensor]:
        """What `batch` gives of the sounds, read again, as `change(place, wave)` makes them; `place` is in `rows`."""
        reading, encoder = self.encoder.reading, self.encoder
        most = int(encoder.seconds * reading.rate)
        values = media.values_of(self.table, self.column, rows)

        def one(place: int) -> tuple[np.ndarray, int]:
            try:
                sound = sounds.read(values[place], reading.rate, encoder.seconds, encoder.given)
            except sounds.Unreadable as error:
                raise DataError(str(error), where=self.table.where(int(rows[place]))) from None
            samples = change(place, Wave(sound.samples, reading.rate)).samples[:most]
            return reading.of(samples), len(samples)

        with ThreadPoolExecutor(media.workers()) as pool:
            made = list(pool.map(one, range(len(values))))
        return reading.batch([array for array, _ in made], np.array([count for _, count in made]))

    def keys(self, rows: np.ndarray) -> list[bytes]:
        """A digest (16 bytes) of what the model reads of each row."""
        return [hashlib.blake2b(self._row(int(row)).tobytes(), digest_size=16).digest() for row in rows]

    def _row(self, row: int) -> np.ndarray:
        assert self._values is not None and self._offsets is not None
        return self._values[self._offsets[row] : self._offsets[row + 1]].reshape(self._shapes[row])


def encode_sounds(table: Table, column: str, encoder: SoundEncoder) -> SoundRows:
    """Decode, resample and prepare every sound once, several at a time, into a private memory-mapped file."""
    sounds.libraries()
    reading = encoder.reading
    nothing = np.zeros(int(min(1.0, encoder.seconds) * reading.rate), np.float32)
    rows = SoundRows(table, column, encoder, np.zeros(0, np.int64), np.full(table.num_rows, len(nothing)))
    folder = Path(tempfile.mkdtemp(prefix="tunesmith-sounds-"))
    weakref.finalize(rows, shutil.rmtree, folder, ignore_errors=True)
    told: Counter[str] = Counter()
    summaries = np.zeros((table.num_rows, len(spectra.summary(nothing, reading.rate))))
    sizes, longest, row = [0], 0.0, 0
    with open(folder / "values", "ab") as file:
        for chunk in _prepared(table, column, encoder):
            require_space(folder, sum(made[1].nbytes for made in chunk if not isinstance(made, str)), "the sounds")
            for made in chunk:
                if isinstance(made, str):
                    rows.unreadable[row] = made
                    array = reading.of(nothing)
                else:
                    sound, array, summaries[row] = made
                    rows.counts[row] = len(sound.samples)
                    rows.num_cut += sound.seconds > encoder.seconds
                    longest = max(longest, sound.seconds)
                    told.update(sound.notes)
                rows._shapes.append(array.shape)
                sizes.append(array.size)
                file.write(np.ascontiguousarray(array, np.float32).tobytes())
                row += 1
    rows.longest = math.ceil(longest)
    rows._offsets = np.cumsum(sizes)
    rows._values = np.memmap(folder / "values", np.float32, "r") if sum(sizes) else np.zeros(0, np.float32)
    rows.lengths = reading.lengths(rows.counts)
    rows.notes = tuple(f"{table.source}: {count} sounds {what}" for what, count in told.items())
    if note := reading.told:
        rows.notes += (note,)
    encoder._summaries[table] = summaries
    return rows


Prepared = tuple[sounds.Sound, np.ndarray, np.ndarray]
"""A sound, what the model reads of it, and its summary."""


def _prepared(table: Table, column: str, encoder: SoundEncoder) -> Iterator[list[Prepared | str]]:
    """The rows in order, some at a time: what is prepared, or why a sound cannot be read. Decoding, resampling and the
    spectra leave Python, so that threads share the cores."""
    reading = encoder.reading

    def one(value: Any) -> Prepared | str:
        try:
            sound = sounds.read(value, reading.rate, encoder.seconds, encoder.given)
        except sounds.Unreadable as error:
            return str(error)
        return sound, reading.of(sound.samples), spectra.summary(sound.samples, reading.rate)

    with ThreadPoolExecutor(media.workers()) as pool:
        for start in range(0, table.num_rows, CHUNK):
            values = media.values_of(table, column, range(start, min(start + CHUNK, table.num_rows)))
            yield list(pool.map(one, values))


def of_extractor(
    extractor: Any, config: Any, asked: Mapping[str, Any], seconds: float | None, train: tuple[Table, str] | None
) -> SoundEncoder:
    """The encoder of a feature extractor of the transformers library, and of the network's configuration.

    `seconds`: what the recipe says of the longest sound. Where all sounds must be of one length and the recipe does not
    say which, it is that of the longest in a column of `train`."""
    if unknown := [key for key in asked if key != "rate"]:
        what = f'"model.expects" has no effect on this model but for the rate of arrays: "{unknown[0]}"'
        raise RecipeError(what, where="recipe", remedy="leave it out")
    given = asked.get("rate")
    rate = int(extractor.sampling_rate)
    made = Extracted.of_extractor(extractor)
    if made is not None:
        most = made.seconds or MOST_SECONDS
        if seconds is not None and seconds > most:
            what = f"data.max_length = {seconds:g}, but the model reads {most:g} seconds at most"
            raise RecipeError(what, remedy="leave data.max_length out")
        return SoundEncoder(made, seconds or most, given)
    layers = tuple(zip(getattr(config, "conv_kernel", ()), getattr(config, "conv_stride", ()), strict=True))
    masked = bool(getattr(extractor, "return_attention_mask", False))
    free = masked and layers and getattr(config, "feat_extract_norm", "layer") != "group"
    if not free and seconds is None:
        assert train is not None
        seconds = _longest(*train, given)
    seconds = seconds or MOST_SECONDS
    return SoundEncoder(Waveform(extractor, layers, masked, 0 if free else int(seconds * rate)), seconds, given)


def learnt(
    table: Table, inputs: tuple[str, ...], rows: np.ndarray, asked: Mapping[str, Any], seconds: float | None
) -> SoundEncoder:
    """An encoder for a net that says nothing of its inputs: log-mel spectrograms at the training sounds' usual rate,
    with their mean and spread, or as `asked` (rate, mels, mean, std).

    They are as long as 95 % of the training sounds, and one longer sound in twenty is cut: a length that fits the
    longest of all makes most of each spectrogram padding."""
    if unknown := [key for key in asked if key not in STATED]:
        what = f'"model.expects" of sounds has no "{unknown[0]}"'
        raise RecipeError(what, where="recipe", remedy=nearest(unknown[0], STATED))
    sounds.libraries()
    train = table.take(rows)
    some = train.take(spread(len(rows)))
    given = asked.get("rate")
    rate = given or min(MOST_RATE, _usual_rate(some, inputs[0]))
    seconds = seconds or _longest(train, inputs[0], given, 0.95)
    frames = spectra.num_frames(int(seconds * rate), rate)
    blank = LogMel(rate, asked.get("mels", 64), frames, 0.0, 1.0)
    if {"mean", "std"} <= set(asked):
        moments = float(asked["mean"]), float(asked["std"])
    else:
        moments = _moments(some, inputs[0], SoundEncoder(blank, seconds, given))
    return SoundEncoder(replace(blank, mean=moments[0], std=moments[1]), seconds, given)


def spread(num_rows: int) -> np.ndarray:
    """At most `LEARNT_FROM` of so many rows, evenly spaced."""
    return np.linspace(0, num_rows - 1, min(num_rows, LEARNT_FROM)).astype(int)


def _moments(table: Table, column: str, encoder: SoundEncoder) -> tuple[float, float]:
    """Mean and spread of the sounds' own frames, without what pads them."""
    reading, found = encoder.reading, []
    for chunk in _prepared(table, column, encoder):
        for made in chunk:
            if not isinstance(made, str):
                found.append(made[1][..., : spectra.num_frames(len(made[0].samples), reading.rate)].reshape(-1))
    values = np.concatenate(found)
    return round(float(values.mean()), 6), round(max(float(values.std()), 1e-3), 6)


def _longest(table: Table, column: str, given: int | None, share: float = 1.0) -> float:
    """Seconds that this share of the sounds do not exceed, rounded up to a tenth, `MOST_SECONDS` at most; from the
    headers of the files."""
    known = [seconds for seconds, _ in _headers(table, column, given)]
    longest = float(np.quantile(known, share, method="inverted_cdf")) if known else MOST_SECONDS
    return min(MOST_SECONDS, math.ceil(10 * longest - 1e-6) / 10)


def _usual_rate(table: Table, column: str) -> int:
    rates = Counter(rate for _, rate in _headers(table, column, None) if rate > 0)
    if not rates:
        what = "none of its sounds says its rate"
        remedy = "look at the first files by hand; of arrays say it with --set 'model.expects={rate = 16000}'"
        raise DataError(what, where=table.source, remedy=remedy)
    return rates.most_common(1)[0][0]


def _headers(table: Table, column: str, given: int | None) -> list[tuple[float, int]]:
    """Seconds and rate of each sound whose header can be read."""
    sounds.libraries()
    found = []
    for start in range(0, table.num_rows, CHUNK):
        values = media.values_of(table, column, range(start, min(start + CHUNK, table.num_rows)))
        found += [known for value in values if (known := sounds.seconds_and_rate(value, given))]
    return found
