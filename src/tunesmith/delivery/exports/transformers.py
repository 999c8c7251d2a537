"""A transformers folder: AutoModelForSequenceClassification and pipeline("text-classification") load it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunesmith.models.loaders.transformers import quiet
from tunesmith.models.pretrained import Pretrained
from tunesmith.models.tunable import Tunable
from tunesmith.tasks.task import Target


def write(net: Tunable, pretrained: Pretrained, target: Target, max_length: int, folder: Path) -> None:
    """Write config (with label names), weights and tokenizer into `folder`."""
    module: Any = pretrained.module
    tokenizer = pretrained.tokenizer
    module.config.id2label = dict(enumerate(target.labels))
    module.config.label2id = {label: index for index, label in enumerate(target.labels)}
    tokenizer.model_max_length = max_length
    with quiet():
        module.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
