"""What leaves a Run answers alike in libraries alone, in a process that cannot import Tunesmith."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tunesmith.assemble.loaded import load_run
from tunesmith.assemble.rows import Objects
from tunesmith.delivery import folder
from tunesmith.models.tunable import HEAD
from tunesmith.recipe.schema import Choice, Recipe

LONG = " ".join(["word1 word2 word3"] * 40)
TEXTS = ["word5 word6", "word7", f"word8 {LONG}", "word9 word10 word11 word12"]
PAIRS = [["word5 word6", "word7"], ["word7", "word8 word9"], ["word1", LONG], ["word2", "word3"]]
ROWS = {
    "text": [f"word{i} word{i + 1}" for i in range(16)],
    "label": ["left", "right"] * 8,
}
REFUSE = """
import sys, json, warnings
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tunesmith":
            raise ImportError("tunesmith is refused here")
sys.meta_path.insert(0, Refuse())
folder, texts = sys.argv[1], json.loads(sys.argv[2])
"""
TRANSFORMERS = """
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
found = []
for text in texts:
    first, second = text if isinstance(text, list) else (text, None)
    with torch.no_grad():
        found.append(model(**tokenizer(first, second, truncation=True, return_tensors="pt")).logits[0].tolist())
given = [{"text": t[0], "text_pair": t[1]} if isinstance(t, list) else t for t in texts]
function = "none" if model.config.problem_type == "regression" else None
piped = pipeline("text-classification", model=folder)(given, top_k=None, truncation=True, function_to_apply=function)
print(json.dumps({"outputs": found, "piped": [{p["label"]: p["score"] for p in row} for row in piped]}))
"""
SENTENCES = """
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(folder, device="cpu")
texts = [tuple(text) if isinstance(text, list) else text for text in texts]
print(json.dumps({"outputs": model.encode(texts).tolist()}))
"""
PIPELINE = """
from transformers import pipeline
try:
    pipeline("text-classification", model=folder)
    print(json.dumps("loaded"))
except Exception as error:
    print(json.dumps("refused"))
"""


def alone(code: str, run: Path, texts: list) -> object:
    """What a library alone prints for the texts, as JSON."""
    command = [sys.executable, "-c", REFUSE + code, str(run / "model"), json.dumps(texts)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def exported(tiny, families, tmp_path):
    """`exported(head, rows=...)` -> the folder of a Run with a random tiny net, and its own outputs for texts."""

    def make(head: Choice, rows=None, family="bert", target="label", **exceptions):
        rows = rows or ROWS
        recipe = {
            "data": {"source": "memory:toy", "valid": "memory:toy", "target": target, "max_length": 16},
            "model": {"name": str(tiny(family, **exceptions)), "head": head},
            "train": {"device": "cpu"},
        }
        place = families.machine.start("cpu", "fp32")
        job = families.prepare(Recipe.model_validate(recipe), Objects(data=rows, valid=rows), place, lambda _line: None)
        job = replace(job, head=head, micro=8)
        run = folder.begin(job, tmp_path / "run")
        stored = {"name": head.name, "options": head.options}
        run.write("measured.json", {"target": job.rows.target.as_json(), "head": stored})
        folder.save_model(job, run, job.net())
        return run

    return make


def answers(run, texts):
    """The Run's outputs and probabilities for texts or pairs, here."""
    from tunesmith.verbs import Model

    loaded = load_run(run, __import__("tunesmith.training.machine", fromlist=["start"]).start("cpu", "fp32"))
    columns = list(zip(*texts, strict=True)) if isinstance(texts[0], list) else [texts]
    table = Model(loaded).table(dict(zip(loaded.inputs, map(list, columns), strict=True)))
    predictions = loaded.predict_table(table)
    return predictions.outputs, predictions.probabilities, loaded


def pair_rows():
    second = [f"word{i + 20}" for i in range(16)]
    return {"first": ROWS["text"], "second": second, "label": ROWS["label"]}


@pytest.mark.parametrize("texts", [TEXTS, PAIRS], ids=["texts", "pairs"])
def test_own_heads_answer_alike_in_transformers_alone(exported, texts):
    run = exported(Choice(name="own"), rows=ROWS if texts is TEXTS else pair_rows())
    outputs, chances, _ = answers(run, texts)
    found = alone(TRANSFORMERS, run.path, texts)
    np.testing.assert_allclose(found["outputs"], outputs, atol=1e-5)
    for row, piped in zip(chances, found["piped"], strict=True):
        assert piped == {"left": pytest.approx(row[0], abs=1e-5), "right": pytest.approx(row[1], abs=1e-5)}


def test_an_own_head_regresses_in_the_unit_of_the_target(exported):
    rows = {"text": ROWS["text"], "price": [100.5 + 7.3 * i for i in range(16)]}
    run = exported(Choice(name="own"), rows=rows, target="price")
    outputs, _, loaded = answers(run, TEXTS)
    assert loaded.target.mean > 100 and abs(outputs.mean() - loaded.target.mean) < 60
    found = alone(TRANSFORMERS, run.path, TEXTS)
    np.testing.assert_allclose(found["outputs"], outputs, rtol=1e-5)
    np.testing.assert_allclose([[*row.values()] for row in found["piped"]], outputs, rtol=1e-5)


POOLED = [
    ("bert", {"pooling": "mean"}),
    ("bert", {"pooling": "cls", "layers": 2, "hidden": 12}),
    ("bert", {"pooling": "max"}),
    ("gpt2", {"pooling": "last"}),
]


@pytest.mark.parametrize(
    ("family", "options"), POOLED, ids=lambda value: value["pooling"] if "pooling" in value else ""
)
def test_pooled_heads_answer_alike_in_sentence_transformers_alone(exported, family, options):
    run = exported(Choice(name="pooled", options=options), family=family)
    outputs, _, loaded = answers(run, TEXTS)
    assert len(loaded.net.heads[HEAD].hidden) == options.get("layers", 0)
    np.testing.assert_allclose(alone(SENTENCES, run.path, TEXTS)["outputs"], outputs, atol=1e-5)


def test_pooled_heads_answer_pairs_alike_in_sentence_transformers_alone(exported):
    run = exported(Choice(name="pooled"), rows=pair_rows())
    outputs, _, _ = answers(run, PAIRS)
    np.testing.assert_allclose(alone(SENTENCES, run.path, PAIRS)["outputs"], outputs, atol=1e-5)


def test_a_pooled_head_regresses_in_the_unit_of_the_target(exported):
    rows = {"text": ROWS["text"], "price": [100.5 + 7.3 * i for i in range(16)]}
    run = exported(Choice(name="pooled", options={"layers": 1}), rows=rows, target="price")
    outputs, _, loaded = answers(run, TEXTS)
    assert loaded.target.mean > 100 and abs(outputs.mean() - loaded.target.mean) < 60
    np.testing.assert_allclose(alone(SENTENCES, run.path, TEXTS)["outputs"], outputs, rtol=1e-5)


def test_transformers_refuses_the_folder_of_a_pooled_head(exported):
    run = exported(Choice(name="pooled"))
    assert not (run.model / "config.json").exists()
    assert alone(PIPELINE, run.path, []) == "refused"
