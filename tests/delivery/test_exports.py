"""What leaves a Run answers alike in libraries alone, in a process that cannot import Tunesmith."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from tunesmith.assemble.job import prepare
from tunesmith.assemble.loaded import load_run
from tunesmith.assemble.rows import Objects
from tunesmith.delivery import folder
from tunesmith.models.tunable import HEAD
from tunesmith.recipe.schema import Choice, Recipe
from tunesmith.run import Run
from tunesmith.training import machine

LONG = " ".join(["word1 word2 word3"] * 40)
TEXTS = ["word5 word6", "word7", f"word8 {LONG}", "word9 word10 word11 word12"]
PAIRS = [["word5 word6", "word7"], ["word7", "word8 word9"], ["word1", LONG], ["word2", "word3"]]
FIRST, LABELS = [f"word{i} word{i + 1}" for i in range(16)], ["left", "right"] * 8
SINGLE = {"text": FIRST, "label": LABELS}
DOUBLE = {"first": FIRST, "second": [f"word{i + 20}" for i in range(16)], "label": LABELS}
PRICED = {"text": FIRST, "price": [100.5 + 7.3 * i for i in range(16)]}


@dataclass(frozen=True)
class Case:
    """A head on a tiny random family, the rows it is for, and what it is asked."""

    head: Choice
    rows: dict[str, Any]
    texts: list[Any]
    family: str = "bert"


def pooled(**options: Any) -> Choice:
    return Choice(name="pooled", options=options)


CASES = {
    "own, texts": Case(Choice(name="own"), SINGLE, TEXTS),
    "own, pairs": Case(Choice(name="own"), DOUBLE, PAIRS),
    "own, regression": Case(Choice(name="own"), PRICED, TEXTS),
    "mean": Case(pooled(pooling="mean"), SINGLE, TEXTS),
    "cls, two layers": Case(pooled(pooling="cls", layers=2, hidden=12), SINGLE, TEXTS),
    "max": Case(pooled(pooling="max"), SINGLE, TEXTS),
    "last": Case(pooled(pooling="last"), SINGLE, TEXTS, "gpt2"),
    "mean, pairs": Case(pooled(pooling="mean"), DOUBLE, PAIRS),
    "mean, regression": Case(pooled(pooling="mean", layers=1), PRICED, TEXTS),
}
ALONE = """
import json, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tunesmith":
            raise ImportError("tunesmith is refused here")
sys.meta_path.insert(0, Refuse())
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

def own(folder, texts):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    outputs = []
    for text in texts:
        first, second = text if isinstance(text, list) else (text, None)
        with torch.no_grad():
            outputs.append(model(**tokenizer(first, second, truncation=True, return_tensors="pt")).logits[0].tolist())
    given = [{"text": text[0], "text_pair": text[1]} if isinstance(text, list) else text for text in texts]
    classify = pipeline("text-classification", model=folder)
    options = {"function_to_apply": "none"} if model.config.problem_type == "regression" else {}
    piped = [classify(text, top_k=None, truncation=True, **options) for text in given]
    return {"outputs": outputs, "piped": [{part["label"]: part["score"] for part in row} for row in piped]}

def pooled(folder, texts):
    model = SentenceTransformer(folder, device="cpu")
    outputs = model.encode([tuple(text) if isinstance(text, list) else text for text in texts]).tolist()
    try:
        pipeline("text-classification", model=folder)
        refused = False
    except Exception:
        refused = True
    return {"outputs": outputs, "refused": refused}

found = {name: globals()[kind](folder, texts) for name, kind, folder, texts in json.loads(sys.argv[1])}
print(json.dumps(found))
"""


def export(case: Case, source: Any, out: Any) -> Run:
    """The Run of a tiny random net, exported; rows longer than 16 tokens are cut."""
    *inputs, target = case.rows
    recipe = {
        "data": {"source": "memory:toy", "valid": "memory:toy", "inputs": inputs, "target": target, "max_length": 16},
        "model": {"name": str(source), "head": case.head},
        "train": {"device": "cpu"},
    }
    objects = Objects(data=case.rows, valid=case.rows)
    job = prepare(Recipe.model_validate(recipe), objects, machine.start("cpu", "fp32"), lambda _line: None)
    job = replace(job, head=case.head, micro=8)
    run = folder.begin(job, out)
    head = {"name": case.head.name, "options": case.head.options}
    run.write("measured.json", {"target": job.rows.target.as_json(), "head": head})
    folder.save_model(job, run, job.net())
    return run


@pytest.fixture(scope="module")
def runs(families, tmp_path_factory):
    """Case -> its exported Run."""
    place = tmp_path_factory.mktemp("exports")
    sources = {family: families.tiny_folder(family, place / family) for family in ("bert", "gpt2")}
    return {name: export(case, sources[case.family], place / f"run {name}") for name, case in CASES.items()}


@pytest.fixture(scope="module")
def alone(runs):
    """Case -> what the libraries alone answer, all in one process that refuses to import Tunesmith."""
    asked = [(name, case.head.name, str(runs[name].model), case.texts) for name, case in CASES.items()]
    done = subprocess.run([sys.executable, "-c", ALONE, json.dumps(asked)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def answers(run: Run, texts: list[Any]) -> Any:
    """The Run's own predictions for texts or pairs, and its net."""
    loaded = load_run(run, machine.start("cpu", "fp32"))
    columns = zip(*texts, strict=True) if isinstance(texts[0], list) else [texts]
    table = loaded.table(dict(zip(loaded.inputs, map(list, columns), strict=True)))
    return loaded.predict_table(table), loaded.net


@pytest.mark.parametrize("name", CASES)
def test_a_run_answers_alike_in_its_library_alone(runs, alone, name):
    predictions, net = answers(runs[name], CASES[name].texts)
    np.testing.assert_allclose(alone[name]["outputs"], predictions.outputs, atol=1e-5, rtol=1e-5)
    if not net.own:
        assert len(net.heads[HEAD].hidden) == CASES[name].head.options.get("layers", 0)


@pytest.mark.parametrize("name", ["own, texts", "own, pairs"])
def test_the_pipeline_gives_the_same_probabilities_under_the_label_names(runs, alone, name):
    predictions, _ = answers(runs[name], CASES[name].texts)
    for chances, piped in zip(predictions.probabilities, alone[name]["piped"], strict=True):
        assert piped == pytest.approx(dict(zip(("left", "right"), chances.tolist(), strict=True)), abs=1e-5)


@pytest.mark.parametrize("name", ["own, regression", "mean, regression"])
def test_a_regression_answers_in_the_unit_of_its_target(alone, name):
    middle = np.mean(PRICED["price"])
    assert abs(np.mean(alone[name]["outputs"]) - middle) < 2 * np.std(PRICED["price"])
    assert middle > 100


def test_the_pipeline_gives_the_same_values_for_a_regression(alone):
    piped = [list(row.values()) for row in alone["own, regression"]["piped"]]
    np.testing.assert_allclose(piped, alone["own, regression"]["outputs"], rtol=1e-5)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.head.name == "pooled"])
def test_transformers_refuses_the_folder_of_a_pooled_head(runs, alone, name):
    assert not (runs[name].model / "config.json").exists()
    assert alone[name]["refused"]
