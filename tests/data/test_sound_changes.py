"""Sounds changed at random: noise, speed, shift and masks, each as large as it says."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from tunesmith.data.augment import sounds
from tunesmith.data.augmented import AugmentedRows
from tunesmith.data.encoders.sound import SoundEncoder, encode_sounds
from tunesmith.data.media import packed_column
from tunesmith.data.readings import LogMel
from tunesmith.data.sound_changes import Wave, masked, noisy, shifted, stretched
from tunesmith.data.table import Table
from tunesmith.errors import RecipeError

RATE = 8000
TONE = Wave(np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype(np.float32), RATE)


def lots(times):
    return [np.random.Generator(np.random.PCG64(lot)) for lot in range(times)]


def test_noise_is_so_many_decibels_under_the_sound():
    for random in lots(20):
        noise = noisy(TONE, random, 10.0).samples - TONE.samples
        under = 10 * np.log10(np.mean(TONE.samples**2) / np.mean(noise**2))
        assert 9.5 <= under <= 30.5


def test_another_speed_is_another_length_and_pitch():
    lengths = []
    for random in lots(50):
        made = stretched(TONE, random, 0.2)
        lengths.append(len(made.samples) / RATE)
        pitch = np.abs(np.fft.rfft(made.samples)).argmax() * RATE / len(made.samples)
        assert pitch * lengths[-1] == pytest.approx(440, rel=0.01)
    assert 1 / 1.21 <= min(lengths) < 0.9 and 1.1 < max(lengths) <= 1 / 0.79


def test_a_shift_loses_one_end_and_leaves_silence_at_the_other():
    wave, found = Wave(np.arange(1, 1001, dtype=np.float32), RATE), []
    for random in lots(50):
        made = shifted(wave, random, 0.3).samples
        silent = int((made == 0).sum())
        found.append(silent if made[0] == 0 else -silent)
        kept = made[made != 0]
        assert len(made) == 1000 and (np.diff(kept) == 1).all()
        assert kept[0] == 1 if made[0] == 0 else kept[-1] == 1000
    assert -300 <= min(found) < -200 and 200 < max(found) <= 300


def test_two_stretches_of_time_and_two_bands_fall_silent():
    noise = Wave(np.random.default_rng(0).standard_normal(RATE).astype(np.float32), RATE)
    silent = [float((masked(noise, random, 0.2, 0.0).samples == 0).mean()) for random in lots(50)]
    assert min(silent) > 0.01 and 0.25 < max(silent) <= 0.4
    for random in lots(10):
        power = np.abs(np.fft.rfft(masked(noise, random, 0.0, 0.3).samples))
        quiet = power < 1e-2
        edges = np.flatnonzero(np.diff(quiet.astype(int)))
        assert quiet.any() and len(edges) <= 4, "one or two bands"
        mel = np.log1p(np.linspace(0, RATE / 2, len(power)) / 700)
        assert sum(np.diff(mel)[quiet[1:]]) / mel[-1] <= 0.61


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"noise": -1.0}, "noise = -1.0"),
        ({"speed": 1.0}, "speed = 1.0"),
        ({"noise": 0.0, "shift": 0.0, "speed": 0.0, "time_mask": 0.0, "frequency_mask": 0.0}, "nothing"),
    ],
)
def test_impossible_options_are_refused(options, words):
    with pytest.raises(RecipeError, match=words):
        sounds(**options)


def test_a_view_of_a_sound_is_read_again_and_depends_on_seed_row_and_view_alone():
    arrays = [np.random.default_rng(row).standard_normal(4000 + 500 * row).astype(np.float32) for row in range(4)]
    table = Table(pa.table({"sound": packed_column(arrays)}), origin=(("toy", 4),))
    rows = encode_sounds(table, "sound", SoundEncoder(LogMel(RATE, 16, 70, 0.0, 1.0), 0.7, RATE))
    same = rows.changed([2, 0], lambda _place, wave: wave)["x"]
    assert torch.equal(same, rows.batch([2, 0])["x"])
    augmented = AugmentedRows(rows, sounds(), seed=3)
    whole = augmented.batch(range(4), 1)["x"]
    assert torch.equal(augmented.batch([3, 1], 1)["x"], whole[[3, 1]])
    assert not torch.equal(augmented.batch(range(4), 2)["x"], whole)
    assert not torch.equal(whole, rows.batch(range(4))["x"])


def test_each_change_happens_to_every_second_view():
    off = {"noise": 0.0, "shift": 0.0, "speed": 0.0, "time_mask": 0.0, "frequency_mask": 0.0}
    for one in ({"noise": 20.0}, {"shift": 0.2}, {"speed": 0.2}, {"time_mask": 0.2}, {"frequency_mask": 0.2}):
        change = sounds(**off | one).change
        found = [change(TONE, random).samples for random in lots(400)]
        same = np.mean([len(made) == RATE and bool((made == TONE.samples).all()) for made in found])
        assert same == pytest.approx(0.5, abs=0.08), one
