"""The card: what the model is, what it is worth and the lines to use it, for the Run and for `model/`."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, StrictUndefined

from tunesmith.recipe.schema import Recipe
from tunesmith.run import Run
from tunesmith.tasks.task import Target, Task

_CARD = """\
{% if front -%}
---
library_name: {{ library }}
base_model: {{ recipe.model.name }}
pipeline_tag: text-classification
tags: [tunesmith]
---
{% endif -%}
# {{ recipe.name }}

{{ recipe.model.name }} fine-tuned with Tunesmith ({{ strategy }}) to predict `{{ target.columns | join("`, `") }}` \
from `{{ inputs | join("`, `") }}`.

## What it is worth

{% for split, scores in tables.items() -%}
**{{ split }}**{{ rows[split] }}

| | {{ metrics | join(" | ") }} |
|---|{% for _ in metrics %}---|{% endfor %}
{% for name, values in scores.items() -%}
| {{ name }} | {{ values | join(" | ") }} |
{% endfor %}
{% endfor -%}
Ranges are 95 % intervals (bootstrap over the rows). \
{% if outputs == 1 %}The output is the value itself.{% else %}Labels, in order: \
{% for label in target.labels %}{{ loop.index0 }} = `{{ label }}`{{ ", " if not loop.last }}{% endfor %}.{% endif %}
{%- if positive %} Precision, recall and F1 without a suffix are about the positive label `{{ positive }}`.{% endif %}
{%- if recipe.model.trust %} **The model brings Python code of its own, which was trusted.**{% endif %}

## Use it

```python
{{ lines }}
```
{% if not front %}
```console
$ tunesmith predict {{ path }} new.csv -o predictions.csv --proba
$ tunesmith evaluate {{ path }} labelled.csv
```

`model/` is a {{ library }} folder; `tunesmith.safetensors` is the whole net for Tunesmith. `recipe.toml` is what was
run (every value, and why), `measured.json` what was measured before training, `scores.json` the scores,
`predictions/` the rows behind them, `events.jsonl` the log.
{% endif -%}
"""

_OWN = """\
from transformers import pipeline

classify = pipeline("text-classification", model="{path}")
print(classify({example}, top_k=None))  # {note}"""

_POOLED = """\
import torch
from sentence_transformers import SentenceTransformer

net = SentenceTransformer("{path}")
outputs = net.encode({example}, convert_to_tensor=True)
print({link})  # {note}"""

_LINKS = {
    "classification": "torch.softmax(outputs, -1)",
    "multilabel": "torch.sigmoid(outputs)",
    "regression": "outputs",
}


def write(run: Run, recipe: Recipe, task: Task, target: Target, num_rows: dict[str, str]) -> None:
    """Write RUN/README.md and RUN/model/README.md."""
    own = run.measured["head"]["name"] == "own"
    inputs = () if recipe.data.inputs == "auto" else recipe.data.inputs
    metrics = [name for name in (recipe.evaluate.select, *task.metrics) if name in next(iter(run.scores.values()), {})]
    metrics = list(dict.fromkeys(metrics))[:4]
    pair = len(inputs) > 1
    for folder, front in ((run.path, False), (run.model, True)):
        path = "." if front else str(run.model)
        example = '[{"text": "a first text", "text_pair": "a second text"}]' if pair and own else '["a text"]'
        example = '[("a first text", "a second text")]' if pair and not own else example
        note = (
            "one value a row" if task.name == "regression" else f"probabilities of {', '.join(target.labels[:3])} ..."
        )
        template = _OWN if own else _POOLED
        text = (
            Environment(undefined=StrictUndefined, keep_trailing_newline=True)
            .from_string(_CARD)
            .render(
                front=front,
                library="transformers" if own else "sentence-transformers",
                recipe=recipe,
                strategy=recipe.strategy.name,
                target=target,
                inputs=inputs,
                outputs=1 if task.name == "regression" else target.num_outputs,
                positive=None if target.positive is None else target.labels[target.positive],
                tables={split: _table(scores, metrics) for split, scores in run.scores.items()},
                rows={split: f" ({text})" for split, text in num_rows.items()},
                metrics=metrics,
                lines=template.format(path=path, example=example, note=note, link=_LINKS.get(task.name, "outputs")),
                path=run.path,
            )
        )
        (folder / "README.md").write_text(text, encoding="utf-8")


def shown(interval: dict[str, Any] | None) -> str:
    """A value with its interval for people.

    >>> shown({"value": 0.9, "low": 0.85, "high": 0.94})
    '0.900 [0.850, 0.940]'
    """
    if interval is None or interval["value"] is None:
        return "-"
    value, low, high = interval["value"], interval["low"], interval["high"]
    digits = 3 if abs(value) < 1000 else 0
    spread = "" if low is None else f" [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{value:.{digits}f}{spread}"


def _table(scores: dict[str, Any], metrics: list[str]) -> dict[str, list[str]]:
    rows = {"this model": [shown(scores.get(name)) for name in metrics]}
    for baseline, values in scores.get("baselines", {}).items():
        rows[baseline] = [shown(values.get(name)) for name in metrics]
    return rows
