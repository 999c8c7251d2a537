"""What a fit leaves of what the model could do before: stages, the source task, what is kept, the language."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import tunesmith as package
from tunesmith.delivery import drift, folder
from tunesmith.errors import DataError, Interrupted, ModelError, RecipeError
from tunesmith.evaluation.similarity import linear_cka
from tunesmith.testing import FILLERS, tiny_model, tiny_rows

OLD = tiny_rows(240, 2)
HARD = ["train.length=8 epochs", "train.lr=3e-2", "train.patience=0", "train.batch=8", "data.split=hash"]
"""Settings under which a tiny body forgets."""


def _other_task():
    """Rows of another task, of which the words of the first say nothing: is there a "the"?"""
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(FILLERS, 8)) for _ in range(120)]
    return {"text": texts, "label": ["yes" if "the" in text.split() else "no" for text in texts]}


NEW = _other_task()


@pytest.fixture(scope="module")
def old(quick, bert, tmp_path_factory):
    """A Run that knows its task: which of two words is in the text."""
    out = tmp_path_factory.mktemp("old") / "run"
    return quick(OLD, bert, settings=["train.length=6 epochs", "data.split=hash"], out=out)


@pytest.fixture(scope="module")
def tuned(quick, old, tmp_path_factory):
    """The old Run fully tuned on another task, with its old task as source."""
    return quick(NEW, old, settings=HARD, source_task=OLD, out=tmp_path_factory.mktemp("tuned") / "run")


@pytest.fixture(scope="module")
def kept(quick, old, tmp_path_factory):
    """The same tuning, of which so much is kept that 95 % of the old score stays."""
    return quick(NEW, old, settings=HARD, source_task=OLD, keep=0.95, out=tmp_path_factory.mktemp("kept") / "run")


def body(run):
    return {name: tensor for name, tensor in load_file(run.weights).items() if name.startswith("body.")}


def same(run, other):
    return all(torch.equal(tensor, body(other)[name]) for name, tensor in body(run).items())


def test_stages_below_the_first_that_moves_are_as_they_were_and_those_above_are_not(quick, bert, tmp_path, monkeypatch):
    compared = []
    monkeypatch.setattr(drift, "linear_cka", lambda *pair: compared.append(pair) or linear_cka(*pair))
    settings = ["strategy.stages=1", "train.length=3 epochs"]
    run = quick(OLD, bert, strategy="last", settings=settings, out=tmp_path / "run")
    stages = {stage.pop("stage"): stage for stage in run.drift["stages"]}
    assert list(stages) == ["stem", "block.0", "block.1", "neck"]
    for name in ("stem", "block.0"):
        assert stages[name] == {"cka": 1.0, "distance": 0.0, "moves": False}
    assert len(compared) == 2, "those below are not computed"
    assert stages["block.1"]["moves"] and 0 <= stages["block.1"]["cka"] < 0.999
    start = load_file(bert / "model.safetensors")
    names = [name for name in start if name.startswith("encoder.layer.1.")]
    now = body(run)
    far = sum(float((now[f"body.{name}"] - start[name]).square().sum()) for name in names)
    own = sum(float(start[name].square().sum()) for name in names)
    assert stages["block.1"]["distance"] == pytest.approx((far / own) ** 0.5, rel=1e-4)


def test_a_frozen_body_is_as_it_was_and_one_from_scratch_has_nothing_to_forget(quick, bert, tmp_path):
    told = []
    run = quick(OLD, bert, strategy="head", out=tmp_path / "head", quiet=False, tell=told.append)
    assert {(stage["cka"], stage["distance"]) for stage in run.drift["stages"]} == {(1.0, 0.0)}
    assert "drift: the body is as it was" in told
    table = {"x": np.arange(40.0), "y": np.arange(40) % 2}
    settings = ["model.head=auto", "data.inputs=['x']"]
    made = quick(table, "new:mlp", target="y", settings=settings, out=tmp_path / "new")
    assert made.drift["stages"] == [] and "from scratch" in made.drift["skipped"]


def test_merged_adapters_have_moved_the_stages_that_they_were_in(quick, bert, tmp_path):
    run = quick(OLD, bert, strategy="lora", out=tmp_path / "run")
    stages = {stage["stage"]: stage for stage in run.drift["stages"]}
    assert not stages["stem"]["moves"] and stages["block.0"]["moves"] and stages["block.0"]["distance"] > 0


def test_the_old_score_is_that_of_the_old_head_on_the_old_body_and_on_the_new_one(old, tuned, tmp_path):
    found = tuned.drift["source"]
    held_out = {
        name: [value for value, part in zip(values, _parts(old), strict=True) if part != "train"]
        for name, values in OLD.items()
    }
    assert found["rows"] == len(held_out["text"]) < 80
    before = package.evaluate(old, held_out, out=tmp_path / "before.json")["accuracy"]
    assert found["before"] == before and before["value"] > 0.9
    mixed = tmp_path / "mixed"
    shutil.copytree(old.path, mixed)
    from safetensors.torch import save_file

    save_file(load_file(old.weights) | body(tuned), mixed / "tunesmith.safetensors")
    after = package.evaluate(mixed, held_out, out=tmp_path / "after.json")["accuracy"]
    assert found["after"] == after and after["value"] < 0.8
    assert found["difference"]["value"] == pytest.approx(after["value"] - before["value"])
    assert found["difference"]["high"] < 0


def _parts(run):
    import pyarrow.parquet as pq

    from tunesmith.data.sources import open_source

    split = pq.read_table(run.path / "split.parquet").to_pydict()
    part = dict(zip(split["id"], split["split"], strict=True))
    return [part[name] for name in open_source(OLD)[""].identified(("text",)).ids().tolist()]


def test_the_curve_goes_from_the_old_score_to_the_new_one(tuned):
    blend = tuned.drift["blend"]
    assert [point["share"] for point in blend] == [number / 10 for number in range(11)]
    assert blend[0]["old"] == tuned.drift["source"]["before"] and blend[-1]["old"] == tuned.drift["source"]["after"]
    assert blend[-1]["new"]["value"] == tuned.scores["valid"]["accuracy"]["value"] > blend[0]["new"]["value"]


def test_measuring_changes_no_weight(quick, old, tuned, tmp_path):
    plain = quick(NEW, old, settings=HARD, out=tmp_path / "plain")
    assert same(plain, tuned) and "source" not in plain.drift


def test_kept_is_a_point_between_that_is_saved_judged_and_as_good_as_asked(old, tuned, kept):
    run, share, found = kept, kept.drift["kept"]["share"], kept.drift
    assert 0 < share < 1 and found["kept"]["asked"] == 0.95
    start, end = body(old), body(tuned)
    for name, tensor in body(run).items():
        torch.testing.assert_close(tensor, torch.lerp(start[name], end[name], share))
    point = next(point for point in found["blend"] if point["share"] == share)
    assert run.scores["valid"]["accuracy"]["value"] == point["new"]["value"]
    assert found["source"]["after"] == point["old"] and found["source"]["rows"] < tuned.drift["source"]["rows"]
    far, whole = ({stage["stage"]: stage["distance"] for stage in each["stages"]} for each in (found, tuned.drift))
    assert far["block.0"] == pytest.approx(share * whole["block.0"], rel=1e-3), "what is measured is what is delivered"
    assert "kept: the tuned weights at" in (run.path / "README.md").read_text()


def test_what_is_kept_of_adapters_is_no_adapter_any_more(quick, old, tmp_path):
    settings = [*HARD, "train.lr=1e-1"]
    run = quick(NEW, old, strategy="lora", settings=settings, source_task=OLD, keep=1.0, out=tmp_path / "run")
    assert run.drift["kept"]["share"] < 1 and not (run.path / "adapter").exists()
    assert package.load(run).predict(["the lemon"])


def test_a_run_killed_while_it_goes_back_ends_in_the_same_weights(quick, old, kept, tmp_path, monkeypatch):
    def stop(*_arguments):
        raise Interrupted("killed", 130)

    with monkeypatch.context() as patched:
        patched.setattr(folder, "replace_model", stop)
        with pytest.raises(Interrupted):
            quick(NEW, old, settings=HARD, source_task=OLD, keep=0.95, out=tmp_path / "run")
    with pytest.raises(RecipeError, match="source_task came from memory"):
        package.fit(NEW, resume=tmp_path / "run", quiet=True)
    resumed = package.fit(NEW, resume=tmp_path / "run", source_task=OLD, quiet=True)
    assert same(resumed, kept) and resumed.drift == kept.drift


def test_a_network_of_another_library_is_judged_under_its_old_head_too(quick, tmp_path):
    random = np.random.default_rng(0)
    labels = np.arange(120) % 4
    images = (random.integers(0, 60, (120, 8, 8)) + 60 * labels[:, None, None]).astype(np.uint8)
    first, second = labels < 2, labels >= 2
    settings = ["model.head=own", "data.split=hash", "train.length=4 epochs"]
    known = (images[first], labels[first].astype(str))
    earlier = quick(known, "new:cnn", settings=settings, out=tmp_path / "earlier")
    later = (images[second], labels[second].astype(str))
    run = quick(later, earlier, settings=settings, source_task=known, out=tmp_path / "later")
    assert run.drift["source"]["before"]["value"] == earlier_score(earlier, known, run.drift["source"]["rows"])
    assert any(stage["moves"] for stage in run.drift["stages"])
    assert all(stage["cka"] is not None for stage in run.drift["stages"])


def earlier_score(run, rows, num_rows):
    """The accuracy of a Run on the rows that did not train it."""
    import pyarrow.parquet as pq

    tables = [pq.read_table(run.path / "predictions" / f"{part}.parquet").to_pylist() for part in ("valid", "test")]
    judged = [row for table in tables for row in table]
    assert len(judged) == num_rows
    return pytest.approx(sum(row["target"] == row["prediction"] for row in judged) / num_rows)


def test_a_checkpoint_with_a_head_of_its_own_has_an_old_task(fitted_own, csv, tunesmith, tmp_path, write_csv):
    new, out = write_csv(tmp_path / "new.csv", NEW), tmp_path / "run"
    told = tunesmith("fit", new, "--model", fitted_own / "model", "--source-task", csv, "--out", out, fast=True)
    assert told.code == 0, told.err
    assert "source task: accuracy" in told.out and "drift: the body moved most in" in told.out
    found = json.loads((out / "drift.json").read_text())["source"]
    assert found["rows"] == 200
    scores = package.evaluate(fitted_own, csv, out=tmp_path / "scores.json")
    assert found["before"] == scores["accuracy"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--keep", "0.9"], "keeps the score of an old task"),
        (["--keep", "0.9", "--source-task", "words.txt"], "not of a text"),
        (["--keep", "0.9", "--source-task", "old.csv", "--strategy", "head"], "no effect on the strategy head"),
        (["--keep", "0.9", "--source-task", "old.csv", "--set", "train.average=wise_ft"], "both mix the tuned"),
        (["--keep", "1.5", "--source-task", "old.csv"], "less than or equal to 1"),
    ],
)
def test_what_would_have_no_effect_is_an_error(arguments, says, tunesmith, csv, bert):
    told = tunesmith("fit", csv, "--model", bert, *arguments)
    assert told.code == 1 and says in told.err


def test_what_the_old_head_cannot_answer_is_said_before_anything_is_trained(quick, old, bert, tmp_path):
    steps = []

    def fit(model, source, **options):
        quick(NEW, model, source_task=source, out=tmp_path / "run", tell=steps.append, quiet=False, **options)

    with pytest.raises(DataError, match="that the head of"):
        fit(old, {"text": ["a", "b"] * 20, "label": ["dog", "cat"] * 20})
    with pytest.raises(DataError, match="was trained on each of these rows"):
        trained = [row for row, part in enumerate(_parts(old)) if part == "train"]
        fit(old, {name: [values[row] for row in trained] for name, values in OLD.items()})
    with pytest.raises(ModelError, match="no classification head of its own"):
        fit(bert, OLD)
    with pytest.raises(RecipeError, match="not pretrained"):
        fit("new:mlp", OLD)
    few = [row for row, part in enumerate(_parts(old)) if part != "train"][:15]
    with pytest.raises(RecipeError, match="too few"):
        fit(old, {name: [values[row] for row in few] for name, values in OLD.items()}, keep=0.9)
    assert not (tmp_path / "run").exists() and not any("step" in line for line in steps)


@pytest.fixture
def masked(bert, tmp_path):
    """The tiny BERT with a masked language modelling head in its files."""
    from transformers import AutoConfig, BertForMaskedLM

    torch.manual_seed(0)
    place = tmp_path / "masked"
    shutil.copytree(bert, place)
    BertForMaskedLM(AutoConfig.from_pretrained(bert)).save_pretrained(place)
    return place


def test_a_language_model_is_judged_on_general_text_and_one_without_its_head_is_not(quick, masked, bert, tmp_path):
    head = quick(OLD, masked, strategy="head", out=tmp_path / "head").drift["language"]
    assert head["unit"] == "pseudo-perplexity" and head["text"] == "general.txt"
    assert head["before"] == head["after"] > 1
    text = tmp_path / "own.txt"
    text.write_text("the lemon and the kale\n\nit is so on the ice\n")
    full = quick(OLD, masked, settings=["train.lr=5e-2"], source_task=str(text), out=tmp_path / "full").drift[
        "language"
    ]
    assert full["text"] == str(text) and full["before"] != full["after"]
    assert "language" not in quick(OLD, bert, strategy="head", out=tmp_path / "body").drift
    with pytest.raises(ModelError, match="is no language model"):
        quick(OLD, bert, source_task=str(text), out=tmp_path / "none")
    with pytest.raises(DataError, match="holds no text"):
        (tmp_path / "empty.txt").write_text("\n \n")
        quick(OLD, masked, source_task=str(tmp_path / "empty.txt"), out=tmp_path / "none")


def test_a_language_model_whose_head_is_not_in_its_files_is_told_from_one(quick, bert, tmp_path):
    place = tmp_path / "named"
    shutil.copytree(bert, place)
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | {"architectures": ["BertForMaskedLM"]}))
    assert "language" not in quick(OLD, place, strategy="head", out=tmp_path / "run").drift


def test_the_output_of_a_tied_head_stays_what_it_was(quick, tmp_path):
    place = tiny_model(tmp_path / "gpt2", "gpt2", n_embd=16, n_layer=2, n_head=2, n_positions=64)
    from transformers import AutoConfig, GPT2LMHeadModel

    torch.manual_seed(0)
    GPT2LMHeadModel(AutoConfig.from_pretrained(place)).save_pretrained(place)
    from tunesmith.models.loaders import language, transformers

    pretrained = transformers.load(str(place), ["a", "b"], "single_label_classification")
    model = language.load_language_model(str(place), pretrained)
    output = model.module.get_output_embeddings()
    before = output.weight.detach().clone()
    with torch.no_grad():
        pretrained.embeddings.add_(1.0)
    model.put(pretrained)
    assert torch.equal(output.weight, before)
    assert torch.equal(model.module.get_input_embeddings().weight, pretrained.embeddings)


@pytest.mark.real
def test_a_model_of_stories_reads_stories_as_published_and_forgets_them(quick, real_data, tmp_path):
    model = real_data("weights") / "stories260k_llama" / "hf"
    text = tmp_path / "story.txt"
    text.write_text("Once upon a time, there was a little girl named Lily. She loved to play outside in the park.\n")
    settings = ["model.head=auto", "train.lr=3e-3", "train.length=2 epochs"]
    found = quick(OLD, model, settings=settings, source_task=str(text), out=tmp_path / "run").drift["language"]
    assert found["unit"] == "perplexity" and found["before"] < 6 < found["after"]
