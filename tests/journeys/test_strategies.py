"""Every strategy from the data to a judged Run; adapters that peft loads alone; stages that the rows choose."""

from __future__ import annotations

import json
import shutil
import tomllib

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import tunesmith as package
from tunesmith import pipeline, plugins
from tunesmith.errors import Interrupted, RecipeError
from tunesmith.run import Run
from tunesmith.testing import tiny_model, tiny_rows

ROWS = tiny_rows(80, 2)
SHORT = ["train.length=12 steps", "train.batch=8", "data.split=hash", "train.patience=0"]
METHODS = ("lora", "rslora", "dora", "ia3", "vera", "oft")


@pytest.fixture
def fit(quick, bert, tmp_path):
    """`fit("last", "strategy.stages=1", ...)` leaves a Run at `out`, by default `run`."""

    def run(strategy, *settings, out="run", data=ROWS, model=bert, **options):
        return quick(data, model, strategy=strategy, settings=[*SHORT, *settings], out=tmp_path / out, **options)

    return run


def events(run):
    return [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]


def same_weights(run, other):
    own, others = (load_file(each.weights) for each in (run, other))
    assert own.keys() == others.keys()
    return all(torch.equal(own[name], others[name]) for name in own)


@pytest.mark.parametrize("strategy", plugins.names("strategy"))
def test_every_strategy_ends_in_a_judged_run_that_predicts(strategy, fit, tunesmith, csv):
    run = fit(strategy, *(["strategy.stages=1"] if strategy == "last" else []))
    assert run.finished and set(run.scores) == {"valid", "test"}
    plan = plugins.get("strategy", strategy)(["stem", "block.0", "block.1", "neck", "head"])
    assert list(dict.fromkeys(line["phase"] for line in events(run) if line["event"] == "step")) == [
        phase.name for phase in plan.phases
    ]
    answer = tunesmith("predict", run.path, csv)
    assert answer.code == 0 and answer.out.count("\n") == 201
    assert (run.path / "adapter").exists() == bool(plan.edits)


@pytest.mark.parametrize("name", ["stages", "train", "count"])
def test_an_option_of_another_strategy_is_an_error_with_the_right_ones(name, tunesmith, csv, bert):
    answer = tunesmith("fit", csv, "--model", bert, "--strategy", "unfreeze", "--set", f"strategy.{name}=1")
    assert answer.code == 1 and f'unfreeze has no option "{name}"' in answer.err


def texts(run):
    """Rows as the Run's model reads them."""
    from transformers import AutoTokenizer

    folder = run.model if (run.model / "config.json").is_file() else run.model / "0_Transformer"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer(ROWS["text"][:8], padding=True, return_tensors="pt")


def alone(run, base, library, **options):
    """The adapter, loaded with peft and transformers and nothing of ours."""
    from peft import PeftModel

    options = options and options | {"ignore_mismatched_sizes": True}  # As the README of the adapter says.
    loaded = library.from_pretrained(base, **options)
    return PeftModel.from_pretrained(loaded, run.path / "adapter").eval()


@pytest.fixture(scope="session")
def deep(tmp_path_factory):
    """A BERT of more linear layers than peft keeps by their whole names."""
    return tiny_model(tmp_path_factory.mktemp("models") / "deep", num_hidden_layers=4)


@pytest.fixture(scope="session")
def bart(families, tmp_path_factory):
    """A model whose own head has a name that peft does not look for by itself."""
    return families.tiny_folder("bart", tmp_path_factory.mktemp("models") / "bart")


@pytest.mark.parametrize(
    ("method", "model"), [*((method, "bert") for method in METHODS), ("lora", "deep"), ("lora", "bart")]
)
def test_peft_alone_loads_the_adapter_and_the_own_head_with_the_outputs_of_the_run(method, model, fit, request):
    from transformers import AutoModelForSequenceClassification as Classifier

    folder = request.getfixturevalue(model)
    run = fit("lora", "model.head=own", f"strategy.method={method}", "train.lr=0.05", model=folder)
    inputs = texts(run)
    with torch.no_grad():
        outputs = alone(run, folder, Classifier, num_labels=2)(**inputs).logits
        merged = Classifier.from_pretrained(run.model).eval()(**inputs).logits
    plain = Classifier.from_pretrained(run.model).base_model
    base = alone(run, folder, Classifier, num_labels=2).unload().base_model
    assert torch.allclose(outputs, merged, atol=1e-5)
    moved = [not torch.equal(*pair) for pair in zip(plain.parameters(), base.parameters(), strict=True)]
    assert any(moved), "the adapters did nothing"
    ours = package.load(run.path)
    found = ours.predict(ROWS["text"][:8])
    assert list(found) == labels(run, merged)
    assert not [name for name in load_file(run.weights) if "lora" in name or "base_layer" in name]
    told = (run.path / "adapter" / "README.md").read_text()
    assert f'AutoModelForSequenceClassification.from_pretrained("{folder}", num_labels=2, ignore_mism' in told


def labels(run, logits):
    names = run.measured["target"]["labels"]
    return [names[int(code)] for code in logits.argmax(1)]


def test_peft_alone_loads_the_adapter_of_a_body_whose_pooled_head_is_in_the_model(fit, bert):
    from transformers import AutoModel

    run = fit("lora", "train.lr=0.05", "strategy.last=1")
    inputs = texts(run)
    with torch.no_grad():
        states = alone(run, bert, AutoModel)(**inputs).last_hidden_state
        merged = AutoModel.from_pretrained(run.model / "0_Transformer").eval()(**inputs).last_hidden_state
        base = AutoModel.from_pretrained(bert).eval()(**inputs).last_hidden_state
    assert torch.allclose(states, merged, atol=1e-5) and not torch.allclose(states, base, atol=1e-3)
    config = json.loads((run.path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(bert) and config["task_type"] == "FEATURE_EXTRACTION"
    assert not config["modules_to_save"]
    assert "in `model/`" in (run.path / "adapter" / "README.md").read_text()


def test_the_adapter_of_a_regression_answers_in_the_unit_of_the_target(fit, bert):
    from transformers import AutoModelForSequenceClassification as Classifier

    data = {"text": ROWS["text"], "label": [1000.0 + 50 * len(text) for text in ROWS["text"]]}
    run = fit("lora", "model.head=own", 'evaluate.metrics=["r2"]', data=data, task="regression")
    with torch.no_grad():
        outputs = alone(run, bert, Classifier, num_labels=1)(**texts(run)).logits[:, 0]
    found = package.load(run.path).predict(ROWS["text"][:8])
    assert np.allclose(outputs, found, rtol=1e-5) and outputs.min() > 500


@pytest.mark.parametrize(
    ("strategy", "edit"), [("lora", "reinit={stages=['block.0']}"), ("full", "lora={rank=2}")], ids=["reinit", "full"]
)
def test_an_adapter_that_stands_on_changed_weights_is_not_written_and_it_is_said_why(strategy, edit, fit, bert):
    run = fit(strategy, f"model.edits.{edit}", "train.lr=0.05")
    assert [path.name for path in (run.path / "adapter").iterdir()] == ["README.md"]
    assert "an edit or the training changed its weights" in (run.path / "adapter" / "README.md").read_text()
    assert run.finished and "block.1" in moved(run, bert)


def test_a_run_may_go_on_from_a_run_with_adapters(fit):
    first = fit("lora", "model.head=own")
    second = fit("lora", "model.head=own", out="second", model=first.path)
    assert second.finished and "adapter_config.json" in {path.name for path in (second.path / "adapter").iterdir()}
    own, base = load_file(second.weights), load_file(first.weights)
    name = "body.bert.encoder.layer.0.output.dense.bias"
    assert torch.equal(own[name], base[name])


@pytest.mark.parametrize("strategy", ["head", "unfreeze", "lora"])
def test_reinitialisation_goes_with_every_kind_of_strategy_and_follows_the_seed(strategy, fit, bert):
    still = ("model.edits.reinit={stages=['block.0']}", "train.length=1 steps", "train.lr=1e-9")
    runs = fit(strategy, *still), fit(strategy, *still, out="other", seed=1)
    base, name = load_file(bert / "model.safetensors"), "encoder.layer.{}.output.dense.weight"
    found = [load_file(run.weights)[f"body.{name.format(0)}"] for run in runs]
    assert not torch.allclose(found[0], found[1], atol=1e-4)
    assert not torch.allclose(found[0], base[name.format(0)], atol=1e-4)
    kept = load_file(runs[0].weights)[f"body.{name.format(1)}"]
    assert torch.allclose(kept, base[name.format(1)], atol=1e-4)


class Asked:
    """In place of the signals: someone asks to stop after a step."""

    code = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


@pytest.fixture
def stop_after(monkeypatch):
    """`stop_after(5)` makes a run stop when it has made step 5; 0 lets it run on."""
    log = pipeline.EventLog.step

    def at(step):
        def noted(self, event):
            log(self, event)
            Asked.code = 75 if event.step == step else 0

        Asked.code = 0
        monkeypatch.setattr(pipeline, "Signals", Asked)
        monkeypatch.setattr(pipeline.EventLog, "step", noted)

    return at


@pytest.mark.parametrize(
    ("strategy", "settings"),
    [
        ("unfreeze", []),
        ("probe_then_full", []),
        ("stages", []),
        ("lora", []),
        ("lora", ["strategy.method=vera", "model.head=own"]),
    ],
)
def test_a_run_that_was_stopped_is_resumed_to_the_weights_of_the_unbroken_one(
    strategy, settings, fit, stop_after, tmp_path
):
    whole = fit(strategy, *settings)
    stop_after(7)
    with pytest.raises(Interrupted, match="saved at step 7"):
        fit(strategy, *settings, out="stopped")
    stop_after(0)
    resumed = package.fit(ROWS, resume=tmp_path / "stopped", quiet=True)
    assert same_weights(whole, resumed)
    # A run that goes on after a resume wraps the layers anew; merged they are what they were.
    files = {path.name for path in (whole.path / "adapter").glob("*")}
    assert files == {path.name for path in (resumed.path / "adapter").glob("*")}


def test_the_rows_choose_the_stages_and_a_resume_reads_the_choice(fit, stop_after, tmp_path, bert, monkeypatch):
    told = []
    stop_after(3)
    with pytest.raises(Interrupted):
        fit("stages", "strategy.count=1", quiet=False, tell=told.append)
    run = Run(tmp_path / "run")
    stored = run.measured["stages"]
    norms = stored["relative_gradient_norms"]
    assert set(norms) == {"stem", "block.0", "block.1"}, "the pooler is not read by the head"
    assert all(norm > 0 for norm in norms.values()) and stored["train"] == [max(norms, key=norms.get)]
    recipe = tomllib.loads((run.path / "recipe.toml").read_text())
    assert recipe["strategy"] == {"name": "stages", "count": 1}
    (line,) = [line for line in told if line.startswith("stages that train:")]
    assert stored["train"][0] in line and all(f"{stage} {norm:.2g}" in line for stage, norm in norms.items())
    # As if the rows had chosen otherwise: what is written is what counts.
    run.write("measured.json", run.measured | {"stages": stored | {"train": ["block.0"]}})
    forget(run)
    stop_after(0)
    resumed = package.fit(ROWS, resume=run.path, tell=told.append)
    assert len([line for line in told if line.startswith("stages that train:")]) == 1
    assert moved(resumed, bert) == {"block.0"}


def forget(run):
    """Remove the checkpoints: the training begins again."""
    for checkpoint in run.checkpoints.glob("*"):
        shutil.rmtree(checkpoint) if checkpoint.is_dir() else checkpoint.unlink()


def moved(run, bert):
    """The stages whose weights are no more those of the model that the Run began with."""
    base, ended = load_file(bert / "model.safetensors"), load_file(run.weights)
    names = {name for name, tensor in base.items() if not torch.equal(tensor, ended[f"body.{name}"])}
    places = {"embeddings": "stem", "encoder.layer.0": "block.0", "encoder.layer.1": "block.1", "pooler": "neck"}
    return {stage for start, stage in places.items() if any(name.startswith(start) for name in names)}


def test_the_choice_of_stages_decides_what_moves(fit, bert):
    run = fit("stages", "strategy.count=1")
    assert moved(run, bert) == set(run.measured["stages"]["train"])
    run = fit("stages", "strategy.train=['block.1']", out="named")
    assert moved(run, bert) == {"block.1"} and run.measured["stages"] is None


def test_stages_that_the_model_does_not_have_are_told_before_anything_is_written(fit, tmp_path):
    with pytest.raises(RecipeError, match=r'no stage "block\.7"'):
        fit("stages", "strategy.train=['block.7']")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("strategy", ["stages", "unfreeze", "lora"])
def test_a_strategy_is_cross_validated_where_no_row_is_set_aside(strategy, fit):
    run = fit(strategy, "data.split=all", data=tiny_rows(30, 2))
    assert run.measured["length"]["folds"] and run.scores["valid"]
