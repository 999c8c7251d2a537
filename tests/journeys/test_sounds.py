"""Sounds from files to answers: fitted, checked, predicted, evaluated, loaded again, resumed."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import soundfile
import soxr
import torch
from safetensors.torch import load_file

import tunesmith
from tunesmith import pipeline
from tunesmith.errors import DataError, Interrupted, RecipeError

SHORT = ("train.length=2 epochs", "train.lr=1e-2", 'evaluate.metrics=["accuracy"]')
FAMILIES = ("wav2vec2", "hubert", "ast", "whisper")


@pytest.fixture(scope="module")
def run(tones, tmp_path_factory):
    """A Run of a new network on the tones."""
    out = tmp_path_factory.mktemp("runs") / "tones"
    return tunesmith.fit(
        tones, "new:cnn", out=out, device="cpu", quiet=True, settings=[*SHORT, *SMALL, "data.split=hash"]
    )


SMALL = ("model.options={layers = 2, channels = 8, dense = 16}", "train.length=20 epochs", "train.lr=3e-3")


def told_by(*arguments, **options):
    lines = []
    tunesmith.fit(*arguments, device="cpu", tell=lines.append, **options)
    return "\n".join(lines)


def test_a_new_network_learns_to_tell_high_from_low(run, tones):
    assert run.scores["test"]["accuracy"]["value"] > 0.9
    assert run.scores["test"]["baselines"]["plain_logistic"]["accuracy"]["value"] > 0.9
    assert run.recipe.data.max_length == 0.5
    assert json.loads((run.path / "network.json").read_text())["encoder"]["rate"] == 4000


def test_a_list_of_files_is_predicted_from_the_current_folder(run, tones, monkeypatch):
    monkeypatch.chdir(tones)
    assert tunesmith.load(run).predict(["low/07.wav", "high/07.wav"]) == ["low", "high"]


def test_a_table_of_files_is_predicted_and_evaluated(run, tones, tmp_path):
    rows = [{"sound": str(path), "label": path.parent.name} for path in sorted(tones.rglob("0*.wav"))]
    with open(tmp_path / "rows.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["sound", "label"])
        writer.writeheader()
        writer.writerows(rows)
    found = tunesmith.predict(run, tmp_path / "rows.csv", tell=lambda _line: None)
    assert found.column("prediction").to_pylist() == [row["label"] for row in rows]
    scored = tunesmith.evaluate(run, tmp_path / "rows.csv", out=tmp_path / "scores.json", tell=lambda _line: None)
    assert scored["accuracy"]["value"] == 1


def test_a_file_that_cannot_be_read_is_not_predicted(run, tones, tmp_path):
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(DataError, match=r"1 of 2 files cannot be read\n.*text.wav: it cannot be decoded"):
        tunesmith.load(run).predict([str(tones / "low" / "01.wav"), str(tmp_path / "text.wav")])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_folder_of_a_model_gives_the_same_outside_of_tunesmith(sound_model, tones, tmp_path, family):
    from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

    settings = [*SHORT, "train.length=4 steps", "model.head=own"]
    run = tunesmith.fit(
        tones, str(sound_model(family)), out=tmp_path / "run", device="cpu", quiet=True, settings=settings
    )
    files = [str(tones / "low" / "03.wav"), str(tones / "high" / "44.wav")]
    ours = tunesmith.load(run).predictions(files).outputs
    extract = AutoFeatureExtractor.from_pretrained(run.model)
    model = AutoModelForAudioClassification.from_pretrained(run.model).eval()
    width = int(run.recipe.data.max_length * extract.sampling_rate)
    more = {"padding": "max_length", "max_length": width, "truncation": True} if family == "hubert" else {}
    theirs = []
    for file in files:
        samples, rate = soundfile.read(file, dtype="float32")
        samples = soxr.resample(samples, rate, extract.sampling_rate)
        inputs = extract(samples, sampling_rate=extract.sampling_rate, return_tensors="pt", **more)
        with torch.no_grad():
            theirs.append(model(**inputs).logits[0].numpy())
    assert np.allclose(ours, theirs, atol=1e-5)
    assert sorted(model.config.id2label.values()) == ["high", "low"]


def test_a_head_for_the_same_labels_is_kept(sound_model, tones, tmp_path):
    settings = [*SHORT, "train.length=2 steps", "model.head=own"]
    first = tunesmith.fit(tones, str(sound_model("wav2vec2")), out=tmp_path / "a", device="cpu", quiet=True,
                          settings=settings)  # fmt: skip
    told = told_by(tones, first, out=tmp_path / "b", settings=settings)
    assert "nothing newly made" in told


@pytest.mark.parametrize("strategy", ["head", "last", "unfreeze", "lora", "full"])
def test_every_strategy_tunes_a_model_of_sounds(sound_model, tones, tmp_path, strategy):
    told = told_by(tones, str(sound_model("wav2vec2")), strategy=strategy, out=tmp_path / "run", settings=SHORT)
    assert "saved:" in told
    assert ("frozen stages run once a row" in told) == (strategy in ("head", "last", "unfreeze")), told


@pytest.mark.parametrize(("family", "strategy"), [("wav2vec2", "last"), ("hubert", "last"), ("whisper", "head")])
def test_with_and_without_the_cache_the_scores_are_the_same(sound_model, tones, tmp_path, family, strategy):
    found = []
    for cache in ("auto", "off"):
        run = tunesmith.fit(tones, str(sound_model(family)), strategy=strategy, out=tmp_path / cache, device="cpu",
                            quiet=True, settings=[*SHORT, f"train.cache={cache}", "model.head=own"])  # fmt: skip
        paths = [str(path) for path in sorted(tones.rglob("0*.wav"))]
        found.append(tunesmith.load(run).predictions(paths).outputs)
    assert np.allclose(*found, atol=2e-3)


def test_few_sounds_are_cross_validated(tones, tmp_path, tone):
    for number in range(12):
        tone(tmp_path / "few" / "low" / f"{number}.wav", 200 + number)
        tone(tmp_path / "few" / "high" / f"{number}.wav", 700 + number)
    run = tunesmith.fit(tmp_path / "few", "new:cnn", out=tmp_path / "run", device="cpu", quiet=True,
                        settings=[*SHORT, *SMALL])  # fmt: skip
    assert run.scores["valid"]["accuracy"]["value"] > 0.8


class Asked:
    """In place of the signals: someone asks to stop at once."""

    code = 75

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(tones, tmp_path, sound_model):
    options = {"device": "cpu", "quiet": True, "settings": [*SHORT, "train.length=6 steps", "model.head=own"]}
    whole = tunesmith.fit(tones, str(sound_model("hubert")), out=tmp_path / "whole", **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "Signals", Asked)
        with pytest.raises(Interrupted, match="saved at step 1"):
            tunesmith.fit(tones, str(sound_model("hubert")), out=tmp_path / "half", **options)
    resumed = tunesmith.fit(resume=tmp_path / "half", quiet=True)
    before, after = load_file(whole.weights), load_file(resumed.weights)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_check_reckons_a_run_on_sounds(tones, sound_model):
    lines = []
    found = tunesmith.check(tones, str(sound_model("hubert")), device="cpu", tell=lines.append)
    assert found.recipe.data.max_length == 0.5
    assert any("all sounds are padded to 0.5 s" in line for line in lines)


def test_long_sounds_are_cut_and_counted(tones, tmp_path, sound_model):
    settings = [*SHORT, "train.length=1 steps", "data.max_length=0.2"]
    told = told_by(tones, str(sound_model("wav2vec2")), out=tmp_path / "run", settings=settings)
    assert "rows are longer than 0.2 s and are cut (longest: 1)" in told
    assert "of 4000 samples a second are resampled to 2000" in told


def test_bad_files_are_named_or_left_out(tmp_path, tone):
    folder = tmp_path / "sounds"
    for number in range(30):
        tone(folder / "low" / f"{number}.wav", 200 + number)
        tone(folder / "high" / f"{number}.wav", 700 + number)
    (folder / "low" / "text.wav").write_text("no sound")
    soundfile.write(folder / "high" / "silent.wav", np.zeros(4000), 4000)
    options = {"out": tmp_path / "run", "settings": [*SHORT, *SMALL, "train.length=1 epochs"]}
    with pytest.raises(DataError, match="2 of 62 sounds cannot be read") as error:
        told_by(folder, "new:cnn", **options)
    assert "high/silent.wav: it is silent" in str(error.value)
    assert "low/text.wav: it cannot be decoded" in str(error.value)
    options["settings"].append("data.clean.missing=drop")
    assert "left out 2 sounds that cannot be read" in told_by(folder, "new:cnn", **options)


def test_what_a_model_of_sounds_does_not_expect_is_refused(tones, sound_model, tmp_path):
    for model, setting, match in (
        (str(sound_model("wav2vec2")), "model.expects={mels = 3}", "has no effect on this model"),
        (str(sound_model("whisper")), "data.max_length=2", "reads 1 seconds at most"),
        ("new:cnn", "model.expects={bands = 3}", 'of sounds has no "bands"'),
    ):
        with pytest.raises(RecipeError, match=match):
            told_by(tones, model, out=tmp_path / "run", settings=[*SHORT, setting])


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["full", "head", "last"])
@pytest.mark.parametrize("family", ["wavlm", "sew", "sew-d", "unispeech", "unispeech-sat", "data2vec-audio"])
def test_the_kin_of_wav2vec_train_and_come_back(sound_model, tones, tmp_path, family, strategy):
    settings = [*SHORT, "train.length=2 epochs"]
    told = told_by(tones, str(sound_model(family)), strategy=strategy, out=tmp_path / "run", settings=settings)
    assert "saved:" in told
    files = [str(path) for path in sorted(tones.rglob("*.wav"))[:3]]
    assert set(tunesmith.load(tmp_path / "run", device="cpu").predict(files)) <= {"low", "high"}
