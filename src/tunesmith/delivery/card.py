"""The card: what the model is, what it is worth and the lines to use it, for the Run and for `model/`."""

from __future__ import annotations

import functools
import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined, Template

from tunesmith.assemble.thresholds import by_label
from tunesmith.delivery import probabilities
from tunesmith.evaluation.intervals import shown
from tunesmith.files import write_text
from tunesmith.recipe.schema import Recipe
from tunesmith.run import Run
from tunesmith.tasks.task import Target, Task

_CARD = """\
{% if front -%}
---
{{ metadata -}}
---
{% endif -%}
# {{ recipe.name }}

{{ model }}, fine-tuned with Tunesmith on {{ rows.train }} (strategy `{{ recipe.strategy.name }}`) \
to predict `{{ columns | join("`, `") }}` from `{{ inputs | join("`, `") }}`.

## What it is worth
{% for split, scores in tables.items() %}
**{{ split }}** ({{ rows[split] }})

| | {{ metrics | join(" | ") }} |
|---|{% for _ in metrics %}---|{% endfor %}
{% for name, values in scores.items() -%}
| {{ name }} | {{ values | join(" | ") }} |
{% endfor -%}
{% else %}
No row was set aside, so nothing was scored.
{% endfor %}
In brackets: 95 % intervals ({{ intervals }}). {{ caution }}
{%- if seeds %}

{{ seeds }}
{%- endif %}
{%- for line in believed %}
{{ "\n" if loop.first }}- {{ line }}
{%- endfor %}

{% if labels -%}
Labels, in order: {{ labels }}.
{%- if positive %} Precision, recall and F1 without a suffix are about the positive label `{{ positive }}`.{% endif %}
{%- else -%}
The output is the value itself.
{%- endif %}
{%- if thresholds %}

{{ threshold }}
{%- endif %}
{%- if recipe.model.trust %} **The model brings Python code of its own, which was trusted.**{% endif %}

{% if forgot -%}
## What it forgot

{% for line in forgot -%}
- {{ line }}
{% endfor %}
{% endif -%}
## Use it
{% if not front and memory %}
The network came from memory: hand it over again, in Python.
{% elif not front and rows_of.unlabelled %}
```console
$ tunesmith predict {{ shell }} {{ rows_of.unlabelled }} -o predictions.csv --proba
$ tunesmith evaluate {{ shell }} {{ rows_of.labelled }}
```
{% endif %}{% if not front %}
In Python, the model stays in memory between calls:

```python
import tunesmith

model = tunesmith.load({{ path | tojson }}{{ ", model=network" if memory }})
print(model.predict({{ example }}))
```

Without Tunesmith, by {{ library }} alone:
{% elif not published %}
In the folder that holds this file:
{% endif %}
```python
{{ lines }}
```
{% if thresholds %}
{{ library }} knows nothing of the threshold. To decide as this model does:

```python
thresholds = {{ thresholds | json }}
row = {{ chances | json }}  # the probabilities of one row
print([label for label, least in thresholds.items() if row[label] >= least]{{ " or " ~ others | json if others }})
```
{% endif %}{% if not front %}
## What lies here

| | |
|---|---|
| `model/` | the model as a {{ library }} folder: what you publish or hand on |
| `tunesmith.safetensors` | the whole net, for `tunesmith` and `tunesmith fit --model {{ shell }}` |
| `recipe.toml`, `measured.json` | what was run: every value and why; what was measured before training |
| `plan.json` | which stage moved in which steps, and how fast |
| `scores.json`, `predictions/` | all scores, also per class, and the rows behind them |
{% if report %}| `report.html`, `mistakes/` | the report of this run, and the most confident mistakes that it shows |
{% endif -%}
| `data.json`, `split.parquet` | the fingerprint of the data, and which row was in which part |
| `environment.json`, `events.jsonl` | versions and hardware; the log, step by step |
{% if folds %}| `folds/` | what the run without each fold left: scores, predictions, recipe |
{% endif -%}
{% if seeds %}| `seeds/` | what the run of each other seed left: scores, predictions, recipe |
{% endif -%}
| `checkpoints/` | the last state of training; not needed to use the model |
{% else %}
{%- for heading, text in facts.items() %}
## {{ heading }}

{{ text }}
{% endfor %}
{%- endif -%}
"""

_OWN = """\
from transformers import pipeline

classify = pipeline("{pipeline}", model={path}{options})
print(classify({example}, top_k=None))  # {note}"""

_PLAIN = """\
import torch

weights = torch.load({path} + "/model.pth", weights_only=True)
print({{name: tuple(tensor.shape) for name, tensor in weights.items()}})
# network.load_state_dict(weights): {network}, with {outputs} outputs in its layer "{layer}": {note}"""

_KERAS = """\
import os

os.environ["KERAS_BACKEND"] = "torch"  # or tensorflow, or jax
import keras
import numpy as np

model = keras.saving.load_model({path} + "/model.keras")
rows = np.zeros((1, *model.input_shape[1:]))  # {reads}
print(model.predict(rows, verbose=0))  # {note}"""

_BODY = """\
from safetensors.torch import load_file
from transformers import AutoModel

body = AutoModel.from_pretrained({path})
head = load_file({path} + "/head.safetensors")  # reads the pooled states of the body"""

_POOLED = """\
{imports}from sentence_transformers import SentenceTransformer

net = SentenceTransformer({path})
outputs = net.encode({example}, convert_to_tensor=True)
print({link})  # {note}"""

_LINKS = {
    "classification": "torch.softmax(outputs, -1)",
    "multilabel": "torch.sigmoid(outputs)",
    "regression": "outputs",
}


class Example(NamedTuple):
    """Rows as Python writes them, and what the command line takes: to predict, and to evaluate; "" where it cannot."""

    python: str
    unlabelled: str = ""
    labelled: str = ""


PIPELINES = {
    "text": "text-classification",
    "image": "image-classification",
    "sound": "audio-classification",
    "table": "tabular-classification",
    "tensor": "other",
}
EXAMPLES = {
    "text": Example('["a text"]', "new.csv", "labelled.csv"),
    "image": Example('["photo.jpg"]', "photos", "labelled-photos"),
    "sound": Example('["sound.wav"]', "sounds", "labelled-sounds"),
    "table": Example('"new.csv"', "new.csv", "labelled.csv"),
    "tensor": Example("dataset"),
}
"""Modality -> rows as a person names them."""


def asked_again(run: Run) -> bool:
    """Whether the Run's network came from memory, and nothing but Python can hand it over again."""
    there = (run.path / "network.json").is_file()
    return there and _library(run) == "torch" and run.network["model"]["name"].startswith("memory:")


def write(
    run: Run,
    recipe: Recipe,
    task: Task,
    target: Target,
    num_rows: dict[str, str],
    modality: str,
    *,
    model: str,
    metadata: str,
    facts: Mapping[str, str],
    forgot: Sequence[str] = (),
) -> None:
    """Write RUN/README.md, for who made it, and RUN/model/README.md, for who gets the model: with `metadata` in YAML,
    `facts` by heading. `model`: what was tuned, as people call it; `forgot`: what is known of its drift."""
    plain = (run.path / "network.json").is_file()
    own = run.measured["head"]["name"] == "own"
    inputs = () if recipe.data.inputs == "auto" else recipe.data.inputs
    scores = run.scores
    metrics = _metrics(recipe, scores)
    labels = [] if task.name == "regression" else [f"{i} = `{label}`" for i, label in enumerate(target.labels)]
    for folder, front in ((run.model, True), (run.path, False)):
        place = recipe.deliver.push or "." if front else str(run.model.resolve())
        text = _template().render(
            front=front,
            published=recipe.deliver.push,
            metadata=metadata,
            facts=facts,
            library=library_of(run, modality),
            rows_of=EXAMPLES[modality],
            memory=asked_again(run),
            model=model,
            recipe=recipe,
            forgot=forgot,
            columns=[name for name in target.columns if not name.startswith("separator=")],
            inputs=inputs,
            labels=", ".join(labels),
            positive=None if target.positive is None else target.labels[target.positive],
            tables={split: _table(values, metrics) for split, values in scores.items()},
            rows=num_rows,
            metrics=metrics,
            folds=num_folds(scores),
            seeds=over_seeds(scores, recipe.evaluate.select.removeprefix("memory:")),
            report=recipe.deliver.report != "none",
            intervals=_intervals(scores),
            caution=_caution(scores, "threshold" in run.measured),
            believed=probabilities.lines(scores.get("test", scores.get("valid", {}))),
            threshold=_about_threshold(run, target, scores),
            thresholds=by_label(target),
            chances={label: round(1 / len(target.labels), 2) for label in target.labels},
            others=[] if target.positive is None else [target.labels[1 - target.positive]],
            example=_example(len(inputs), own=False) if modality == "text" else EXAMPLES[modality].python,
            lines=_network_lines(place, run, task, target)
            if plain
            else _lines(place, task, target, len(inputs), own, modality),
            path=str(run.path.resolve()),
            shell=shlex.quote(str(run.path)),
        )
        write_text(folder / "README.md", text)


def _template() -> Template:
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters["json"] = functools.partial(json.dumps, ensure_ascii=False)
    return environment.from_string(_CARD)


def _metrics(recipe: Recipe, scores: dict[str, Any]) -> list[str]:
    """What decides first."""
    asked = (name.removeprefix("memory:") for name in (recipe.evaluate.select, *recipe.evaluate.metrics))
    return [name for name in dict.fromkeys(asked) if name in next(iter(scores.values()), {})][:5]


def library_of(run: Run, modality: str) -> str:
    """The library that opens model/."""
    if (run.path / "network.json").is_file():
        return _library(run)
    return "transformers" if run.measured["head"]["name"] == "own" or modality != "text" else "sentence-transformers"


def _library(run: Run) -> str:
    """The library that opens what a network left."""
    return "keras" if "architecture" in run.network else "torch"


def _network_lines(place: str, run: Run, task: Task, target: Target) -> str:
    """The Python lines that open the state dict of a network, or a Keras model."""
    network = run.network
    name = network["model"]["name"]
    known = "your network" if name.startswith(("memory:", "code:")) else name
    note = ", ".join(target.labels[:3]) + (" ..." if len(target.labels) > 3 else "")
    if "architecture" in network:
        note = "one value a row" if task.name == "regression" else f"probabilities of {note}"
        reads = "pixels of 0 to 255" if network["encoder"]["modality"] == "image" else "what your Dataset gives"
        return _KERAS.format(path=json.dumps(place), reads=reads, note=note)
    return _PLAIN.format(
        path=json.dumps(place), network=known, outputs=len(target.labels), layer=network["layer"], note=note
    )


def _lines(place: str, task: Task, target: Target, num_inputs: int, own: bool, modality: str) -> str:
    """The Python lines that use model/ without Tunesmith."""
    more = " ..." if len(target.labels) > 3 else ""
    note = "one value a row" if task.name == "regression" else f"probabilities of {', '.join(target.labels[:3])}{more}"
    link = _LINKS.get(task.name, "outputs")
    if modality != "text" and not own:
        return _BODY.format(path=json.dumps(place))
    return (_OWN if own else _POOLED).format(
        path=json.dumps(place),
        pipeline=PIPELINES[modality],
        options=", truncation=True" if modality == "text" else "",
        example=_example(num_inputs, own=own) if modality == "text" else EXAMPLES[modality].python,
        note=note,
        link=link,
        imports="import torch\n" if link.startswith("torch.") else "",
    )


def _example(num_inputs: int, *, own: bool) -> str:
    if num_inputs < 2:
        return '["a text"]'
    return '[{"text": "a first text", "text_pair": "a second text"}]' if own else '[("a first text", "a second text")]'


def _about_threshold(run: Run, target: Target, scores: dict[str, Any]) -> str:
    """Where this model decides, who chose that and what it brought; "" without a threshold."""
    if not target.thresholds:
        return ""
    shown_thresholds = ", ".join(f"`{label}` from {value} on" for label, value in by_label(target).items())
    lines = [f"**Threshold of the probability:** {shown_thresholds}."]
    chosen = run.measured.get("threshold")
    if chosen is None:
        lines.append("The recipe gave it, and the baselines are decided at it too.")
    else:
        label, count = min(chosen["rows_with_label"].items(), key=lambda item: item[1])
        rows = f"{chosen['rows']} {chosen['chosen_on']} rows, {count} of them `{label}`"
        lines.append(
            f"Chosen as best for {chosen['asked']} on {rows}; the score of these rows is optimistic therefore."
        )
        lines.append("Each baseline has its own, chosen in the same way.")
    without = [
        f"{split} {name} {shown(interval)}"
        for split, values in scores.items()
        for name, interval in values.get("default_threshold", {}).items()
    ]
    lines += [f"Without a threshold this model has {', '.join(without)}."] if without else []
    return "\n".join(lines)


def num_folds(scores: dict[str, Any]) -> int:
    """Over how many folds the test scores are a mean; 0 where the model itself was tested."""
    found = next((len(value["folds"]) for value in scores.get("test", {}).values() if "folds" in value), 0)
    return int(found)


def over_seeds(scores: dict[str, Any], metric: str) -> str:
    """What the deciding metric of the judging split is over the seeds, and what its two intervals cover; "" without
    other seeds."""
    split = "test" if "test" in scores else "valid"
    found = scores.get(split, {}).get(metric, {})
    if "seeds" not in found:
        return ""
    spread = "-" if found["spread"] is None else f"{found['spread']:.3f}"
    return (
        f"over {len(found['seeds'])} seeds: {split} {metric} {shown(found['mean'])} on average, spread {spread}. This "
        "interval (t over the seeds) covers chance in training on these rows, that of the model other rows to judge by."
    )


def _intervals(scores: dict[str, Any]) -> str:
    """How the intervals were found."""
    rows, folds = "exact or BCa bootstrap over the rows", "corrected resampled t over the folds, Nadeau & Bengio 2003"
    if not num_folds(scores):
        return rows
    return f"test: {folds}" + (f"; valid: {rows}" if "valid" in scores else "")


def _caution(scores: dict[str, Any], threshold: bool) -> str:
    """What a reader must know of the parts that were scored."""
    if num_folds(scores):
        return "The rows of a fold chose nothing in the run that it tested."
    if "test" in scores:
        chose = "the head, when to stop and the threshold" if threshold else "the head and when to stop"
        return f"The test rows chose nothing; the valid rows chose {chose}." if len(scores) > 1 else ""
    return "The valid rows chose the model, so their scores are somewhat better than new rows will give."


def _table(scores: dict[str, Any], metrics: list[str]) -> dict[str, list[str]]:
    rows = {"this model": [shown(scores.get(name)) for name in metrics]}
    for baseline, values in scores.get("baselines", {}).items():
        rows[baseline] = [shown(values.get(name)) for name in metrics]
    return rows
