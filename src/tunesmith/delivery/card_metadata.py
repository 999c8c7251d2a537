"""The front matter of a model card: what the Hugging Face hub reads of `model/README.md`, and what it is taken from.

The fields are those of https://huggingface.co/docs/hub/model-cards; what is not known is left out, never guessed."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tunesmith.data.sources import hub
from tunesmith.recipe.schema import Recipe
from tunesmith.run import Run, is_run
from tunesmith.tasks.task import Task

HUB_METRICS: dict[str, tuple[str, dict[str, Any]]] = {
    "accuracy": ("accuracy", {}),
    "auroc": ("roc_auc", {}),
    "f1": ("f1", {}),
    "f1_macro": ("f1", {"average": "macro"}),
    "f1_micro": ("f1", {"average": "micro"}),
    "f1_weighted": ("f1", {"average": "weighted"}),
    "mae": ("mae", {}),
    "mcc": ("matthews_correlation", {}),
    "mse": ("mse", {}),
    "precision": ("precision", {}),
    "precision_macro": ("precision", {"average": "macro"}),
    "r2": ("r_squared", {}),
    "recall": ("recall", {}),
    "recall_macro": ("recall", {"average": "macro"}),
    "rmse": ("mse", {"squared": False}),
    "spearman": ("spearmanr", {}),
}
"""Our name of a metric -> the hub's, and the options with which it is the same; others keep their own name."""
HUB_TASKS = {
    "text": ("text-classification",) * 2,
    "image": ("image-classification", None),
    "sound": ("audio-classification", None),
    "table": ("tabular-classification", "tabular-regression"),
    "tensor": (None, None),
}
"""Modality -> the hub's task of labels, and of a number; it knows none for some."""
LIBRARIES = {"torch": "pytorch"}
"""Our name of a library -> the hub's, where they differ."""
LICENSE_TEXTS = {
    "apache-2.0": r"Apache License\s+Version 2\.0",
    "mit": r"\bMIT License\b",
    "gpl-3.0": r"^\s*GNU GENERAL PUBLIC LICENSE\s+Version 3",
    "bsd-3-clause": r"Redistribution and use in source and binary forms(?s:.*)Neither the name",
    "bsd-2-clause": r"Redistribution and use in source and binary forms",
    "cc-by-4.0": r"^\s*(Creative Commons )?Attribution 4\.0 International",
}
"""The hub's word for a licence, which is SPDX's in small letters -> how its text is known; the first that fits."""
ENGLISH = {"the", "and", "you", "that", "this", "with", "are", "not", "it", "from", "they", "which"}
"""Common words of English that are no words of its nearest relatives."""
LEAST_WORDS, LETTERS = 100, 100_000
"""With fewer words no language is told; so many letters are enough."""


@dataclass(frozen=True)
class Published:
    """The model that was tuned, as the outside knows it."""

    name: str
    """Of a hub model its id, of a local one the last part of its path."""
    on_hub: bool
    license: Mapping[str, str]
    """`license`, and what its card says of it beside; empty where it is not known."""

    @property
    def is_pretrained(self) -> bool:
        return not self.name.startswith("new:")


def base_of(recipe: Recipe, folder: Path) -> Published:
    """What is known of the recipe's model, which was read from `folder`."""
    name = recipe.model.name
    kind, colon, rest = name.partition(":")
    local = bool(colon) or Path(name).exists()
    license = _license_of_package(rest) if kind == "package" else {}
    for place in (Run(Path(name)).model, folder) if is_run(Path(name)) else (folder,):
        if (place / "config.json").is_file() or is_run(place.parent):
            license = _license_of_card(place) or _license_of_file(place) or license
    if name.startswith("memory:"):
        return Published("a network from memory", False, {})
    return Published(name if colon else Path(name).name if local else name, not local, license)


def front_matter(
    run: Run, recipe: Recipe, base: Published, *, task: Task, modality: str, library: str, language: str | None
) -> str:
    """The YAML between the lines of dashes, without them."""
    kind = HUB_TASKS[modality][task.name == "regression"]
    source = recipe.data.source if _on_hub(recipe.data.source) else None
    split, scores = judged(run.scores)
    metrics = [_result(metric, interval) for metric, interval in scores.items()]
    dataset = {"name": source or recipe.name, "type": source or "custom", "split": split}
    result = {"task": {"type": kind or "other"}, "dataset": dataset, "metrics": metrics}
    known = [HUB_METRICS[metric][0] for metric in scores if metric in HUB_METRICS]
    found = {
        "library_name": LIBRARIES.get(library, library),
        **base.license,
        "base_model": base.name if base.on_hub else None,
        "base_model_relation": "finetune" if base.on_hub else None,
        "language": language,
        "pipeline_tag": kind,
        "tags": ["tunesmith"],
        "datasets": [source] if source else None,
        "metrics": sorted(set(known)),
        "model-index": [{"name": recipe.name, "results": [result]}] if metrics else None,
    }
    out = io.StringIO()
    yaml = YAML()
    yaml.width = 4096
    yaml.dump({key: value for key, value in found.items() if value}, out)
    return out.getvalue()


def judged(scores: Mapping[str, Any]) -> tuple[str, dict[str, dict[str, Any]]]:
    """The split that judges, test where there is one, and its metrics that the rows define: name -> interval."""
    split = "test" if "test" in scores else "valid"
    metrics = {name: value for name, value in scores.get(split, {}).items() if isinstance(value, dict)}
    return split, {name: value for name, value in metrics.items() if isinstance(value.get("value"), float | int)}


def language_of(texts: Sequence[str]) -> str | None:
    """`en` or `zh` where the texts leave no doubt, None otherwise.

    Chinese: more than half of the letters are Han and none is Japanese or Korean. English: at least 5 % of the words
    are among its commonest, which usually are one in eight."""
    text = " ".join(texts)[:LETTERS]
    letters = [letter for letter in text if letter.isalpha()]
    han = sum("\u4e00" <= letter <= "\u9fff" for letter in letters)
    others = sum("\u3040" <= letter <= "\u30ff" or "\uac00" <= letter <= "\ud7af" for letter in letters)
    if han > LEAST_WORDS and han > 0.5 * len(letters) and not others:
        return "zh"
    words = re.findall(r"[^\W\d_]+", text.lower())
    common = sum(word in ENGLISH for word in words)
    return "en" if len(words) >= LEAST_WORDS and common >= 0.05 * len(words) else None


def _result(name: str, interval: Mapping[str, Any]) -> dict[str, Any]:
    """A metric as the model-index has it, the interval among its arguments."""
    kind, options = HUB_METRICS.get(name, (name, {}))
    ends = {key: interval[key] for key in ("low", "high") if interval.get(key) is not None}
    level = {"confidence": 0.95} if ends else {}
    return {"type": kind, "value": interval["value"], "name": name, "args": {**options, **ends, **level}}


def _on_hub(source: str) -> bool:
    return hub.matches(source) and not Path(source).is_dir()


def _license_of_card(folder: Path) -> dict[str, str]:
    """What the model card of a folder says in its front matter."""
    path = folder / "README.md"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    found = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    try:
        fields = YAML(typ="safe", pure=True).load(found[1]) if found else None
    except YAMLError:
        return {}
    known = fields if isinstance(fields, dict) and fields.get("license") != "unknown" else {}
    return {key: known[key] for key in ("license", "license_name", "license_link") if isinstance(known.get(key), str)}


def _license_of_file(folder: Path) -> dict[str, str]:
    """What the licence's text in a folder is known by."""
    for path in sorted(folder.glob("LICEN[SC]E*")):
        text = path.read_text(encoding="utf-8", errors="replace")
        for license, pattern in LICENSE_TEXTS.items():
            if re.search(pattern, text):
                return {"license": license}
    return {}


def _license_of_package(package: str) -> dict[str, str]:
    """What an installed package says of itself, in SPDX's words."""
    for distribution in metadata.packages_distributions().get(package, []):
        fields = metadata.metadata(distribution)
        for word in (*fields.get_all("License-Expression", []), *fields.get_all("License", [])):
            if word.lower() in LICENSE_TEXTS:
                return {"license": word.lower()}
    return {}
