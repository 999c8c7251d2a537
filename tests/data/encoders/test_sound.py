"""Sounds: whatever file it is, the samples of one channel at the model's rate, or why there are none."""

from __future__ import annotations

import builtins
import io
import struct

import numpy as np
import pyarrow as pa
import pytest
import soundfile
import torch

from tunesmith.data import media, sounds, spectra
from tunesmith.data.columns import modality_of
from tunesmith.data.encoders import sound
from tunesmith.data.encoders.sound import SoundEncoder
from tunesmith.data.readings import Extracted, LogMel, Waveform
from tunesmith.data.table import Table
from tunesmith.errors import DataError, MachineError, RecipeError

RATE = 4000
MEL = LogMel(RATE, 16, 48, -5.0, 2.0)


def wave(seconds=0.3, rate=RATE, frequency=440.0):
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def written(samples, rate=RATE, kind="WAV", **options):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, **options)
    return file.getvalue()


def table_of(values):
    values = pa.array(values, pa.large_binary()) if isinstance(values[0], bytes) else pa.array(values)
    return Table(pa.table({"sound": values}), origin=(("memory", len(values)),)).identified(("sound",))


def read(value, rate=RATE, seconds=30.0, given=None):
    return sounds.read(value, rate, seconds, given)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_a_sound_of_every_kind_is_read(kind, tmp_path):
    rate = 16000
    data = written(wave(0.5, rate), rate, kind)
    (tmp_path / "a").write_bytes(data)
    for value in (data, str(tmp_path / "a")):
        found = read(value, rate)
        assert abs(found.seconds - 0.5) < 0.08
        middle = found.samples[1000:6000]
        assert abs(np.abs(np.fft.rfft(middle)).argmax() * rate / len(middle) - 440) < 5


def test_channels_are_averaged_and_it_is_told():
    left, right = wave(), np.zeros_like(wave())
    found = read(written(np.stack([left, right], 1)))
    assert np.allclose(found.samples, left / 2, atol=1e-4)
    assert found.notes == ("have several channels, which are averaged",)


@pytest.mark.parametrize("rate", [8000, 11127, 44100, 1000])
def test_a_sound_of_any_rate_is_resampled_and_it_is_told(rate):
    found = read(written(wave(0.5, rate, 200.0), rate))
    assert len(found.samples) == pytest.approx(0.5 * RATE, abs=2)
    assert np.abs(np.fft.rfft(found.samples)).argmax() * 2 == pytest.approx(200, abs=2)
    assert found.notes == (f"of {rate} samples a second are resampled to {RATE}",)


def test_only_as_much_as_is_wanted_is_read():
    found = read(written(wave(2.0)), seconds=0.5)
    assert len(found.samples) == 0.5 * RATE
    assert found.seconds == 2.0


def rate_zero():
    data = bytearray(written(wave()))
    data[24:28] = struct.pack("<I", 0)
    return bytes(data)


def endless():
    data = bytearray(written(wave()))
    data[4:8] = data[40:44] = b"\xff" * 4
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"this is no sound" * 20, "cannot be decoded (Format not recognised)"),
        (written(wave())[:-800], "cut short: 1,600 of 2,400 bytes"),
        (written(wave(2.0, 16000), 16000, "FLAC")[:9000], "cannot be decoded (flac decoder lost sync)"),
        (written(wave())[:44], "cut short: 0 of 2,400 bytes"),
        (written(np.zeros(0)), "holds no samples"),
        (written(wave(0.02)), "20 ms long, and 25 ms are the least"),
        (written(np.zeros(RATE)), "silent"),
        (written(np.full(RATE, np.nan), subtype="FLOAT"), "no numbers (NaN or infinite)"),
        (rate_zero(), "cannot be decoded"),
        ("nowhere.wav", "there is no such file"),
        (None, "there is no such file"),
    ],
)
def test_what_is_no_sound_says_why(data, why, tmp_path):
    with pytest.raises(sounds.Unreadable) as error:
        read(data)
    assert why in str(error.value)


def test_an_empty_file_is_named_and_one_that_was_piped_is_read(tmp_path):
    (tmp_path / "empty.wav").write_bytes(b"")
    with pytest.raises(sounds.Unreadable, match="the file is empty"):
        read(str(tmp_path / "empty.wav"))
    assert len(read(endless()).samples) == len(wave())


def test_an_array_needs_its_rate_and_one_that_has_it_does_not():
    with pytest.raises(sounds.Unreadable, match=r"say it with --set 'model.expects=\{rate = 16000\}'"):
        read(media.packed(wave()))
    assert np.array_equal(read(media.packed(wave()), given=RATE).samples, wave())
    whole = (wave() * 32767).astype(np.int16)
    assert np.allclose(read({"array": whole, "sampling_rate": RATE}).samples, wave(), atol=1e-4)
    assert len(read({"array": wave(), "sampling_rate": 8000}).samples) == len(wave()) / 2


def test_sounds_are_known_by_their_columns():
    for values in (
        [written(wave())],
        [{"bytes": written(wave()), "path": None}],
        [{"array": wave().tolist(), "sampling_rate": RATE}],
        [media.packed(wave())],
    ):
        assert modality_of(table_of(values), ("sound",)) == "sound"


def test_a_row_that_cannot_be_read_is_kept_with_its_reason_and_reads_as_silence():
    encoded = SoundEncoder(MEL, 0.5).encode(table_of([written(wave()), b"nothing", written(wave(0.2))]), ("sound",))
    assert list(encoded.unreadable) == [1]
    batch = encoded.batch([0, 1, 2])["x"]
    assert batch.shape == (3, 1, 16, 48)
    assert batch[1].max() < batch[0].max()


def test_sounds_that_are_cut_are_counted():
    encoded = SoundEncoder(MEL, 0.5).encode(table_of([written(wave(s)) for s in (0.3, 0.8, 2.3)]), ("sound",))
    assert (encoded.num_cut, encoded.longest, encoded.encoder.most) == (2, 3, "0.5 s")


def test_each_file_is_decoded_once_also_for_the_baseline(monkeypatch):
    calls, real = [], sounds._decoded
    monkeypatch.setattr(sounds, "_decoded", lambda *args: calls.append(1) or real(*args))
    encoder, table = SoundEncoder(MEL, 0.5), table_of([written(wave(0.2 + i / 100)) for i in range(9)])
    encoded = encoder.encode(table, ("sound",))
    encoded.batch([1, 2])
    encoded.batch([1, 2])
    assert encoder.plain(table, ("sound",), np.arange(4)).shape == (4, 63)
    assert len(calls) == 9


def test_equal_sounds_have_one_key_and_others_another():
    values = [written(wave()), written(wave(), subtype="FLOAT"), written(wave(frequency=500.0))]
    first, again, other = (
        SoundEncoder(MEL, 0.5).encode(table_of([values[0], values[0], values[2]]), ("sound",)).keys(np.arange(3))
    )
    assert first == again != other


def waveform(masked=True, width=0):
    from transformers import Wav2Vec2FeatureExtractor

    extractor = Wav2Vec2FeatureExtractor(sampling_rate=RATE, return_attention_mask=masked)
    return Waveform(extractor, ((10, 5), (8, 4)), masked, width)


def test_samples_are_padded_as_far_as_their_batch_needs_with_masks_of_samples_and_of_states():
    encoded = SoundEncoder(waveform(), 30.0).encode(table_of([written(wave(s)) for s in (0.1, 0.2)]), ("sound",))
    batch = encoded.batch([0, 1])
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        "input_values": (2, 800),
        "attention_mask": (2, 800),
        "places": (2, 38),
    }
    assert batch["attention_mask"].sum(1).tolist() == [400, 800]
    assert batch["places"].sum(1).tolist() == encoded.lengths.tolist() == [18, 38]
    convolutions = torch.nn.Sequential(torch.nn.Conv1d(1, 1, 10, 5), torch.nn.Conv1d(1, 1, 8, 4))
    assert convolutions(batch["input_values"][:, None]).shape[2] == 38
    assert batch["input_values"][0, :400].mean().abs() < 1e-5
    assert batch["input_values"][0, :400].std() == pytest.approx(1, abs=1e-2)


def test_without_a_mask_all_sounds_are_of_one_length():
    encoded = SoundEncoder(waveform(False, 1600), 0.4).encode(
        table_of([written(wave(s)) for s in (0.1, 0.2, 0.9)]), ("sound",)
    )
    batch = encoded.batch([0])
    assert batch["input_values"].shape == (1, 1600) and "attention_mask" not in batch
    assert batch["places"].sum() == 18
    assert encoded.lengths.tolist() == [78, 78, 78]
    assert any("padded to 0.4 s" in note for note in encoded.notes)


def test_a_sound_shorter_than_the_model_can_read_is_filled_up():
    reading = Waveform(waveform().extractor, ((200, 100), (8, 4)), True, 0)
    encoded = SoundEncoder(reading, 30.0).encode(table_of([written(wave(0.03))]), ("sound",))
    batch = encoded.batch([0])
    assert batch["input_values"].shape == batch["attention_mask"].shape == (1, 900)
    assert batch["places"].tolist() == [[1]]


def test_an_extractor_of_one_size_says_how_long_it_reads():
    from transformers import ASTFeatureExtractor, WhisperFeatureExtractor

    assert Extracted.of_extractor(ASTFeatureExtractor(num_mel_bins=16)).seconds == pytest.approx(10.24)
    assert Extracted.of_extractor(WhisperFeatureExtractor()).seconds == 30
    assert Extracted.of_extractor(waveform().extractor) is None


def test_a_log_mel_spectrogram_has_its_peak_at_the_tone():
    for frequency in (300.0, 1000.0, 1700.0):
        bands = spectra.log_mel(wave(0.5, frequency=frequency), RATE, 20).mean(1)
        centres = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 2000 / 700), 22)[1:-1] / 2595) - 1)
        assert abs(centres[bands.argmax()] - frequency) < 120


def test_what_a_network_without_inputs_of_its_own_reads_is_learnt_from_the_training_rows():
    values = [written(wave(0.2)) for _ in range(19)] + [written(wave(3.0, 8000), 8000), written(wave(9.0))]
    made = sound.learnt(table_of(values), ("sound",), np.arange(20), {}, None)
    assert (made.reading.rate, made.reading.frames, made.seconds) == (RATE, 19, 0.2)
    batch = made.encode(table_of(values[:19]), ("sound",)).batch(range(19))["x"]
    assert abs(float(batch.mean())) < 0.5 and 0.3 < float(batch.std()) < 3
    assert SoundEncoder.from_json(made.as_json()) == made
    asked = sound.learnt(table_of(values), ("sound",), np.arange(20), {"rate": 2000, "mels": 8, "mean": 0, "std": 1}, 1)
    assert (asked.reading.rate, asked.reading.mels, asked.seconds) == (2000, 8, 1)


def test_what_cannot_be_learnt_is_said():
    with pytest.raises(RecipeError, match='did you mean "mels"'):
        sound.learnt(table_of([written(wave())]), ("sound",), np.arange(1), {"mel": 3}, None)
    with pytest.raises(DataError, match="none of its sounds says its rate"):
        sound.learnt(table_of([b"nothing"]), ("sound",), np.arange(1), {}, None)


def test_without_the_libraries_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def absent(name, *args, **options):
        if name.startswith("soundfile"):
            raise ImportError("No module named 'soundfile'")
        return real(name, *args, **options)

    monkeypatch.delitem(__import__("sys").modules, "soundfile")
    monkeypatch.setattr("importlib.import_module", lambda name: absent(name))
    with pytest.raises(MachineError, match="reading sounds needs the package soundfile") as error:
        SoundEncoder(MEL, 0.5).encode(table_of([written(wave())]), ("sound",))
    assert 'pip install "tunesmith[sound]"' in str(error.value)
