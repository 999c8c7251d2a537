"""A transformers folder: its automatic classes and its pipelines load it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from tunesmith.data.encoded import Encoder
from tunesmith.data.encoders.text import TextEncoder
from tunesmith.models.loaders.transformers import quiet
from tunesmith.models.pretrained import Pretrained
from tunesmith.models.tunable import HEAD, Tunable
from tunesmith.tasks.task import Target


def write(net: Tunable, pretrained: Pretrained, target: Target, encoder: Encoder, folder: Path) -> None:
    """Write config (with label names), weights and what prepares the inputs into `folder`."""
    module: Any = pretrained.module
    module.config.id2label = dict(enumerate(target.labels))
    module.config.label2id = {label: index for index, label in enumerate(target.labels)}
    if isinstance(encoder, TextEncoder):
        pretrained.processor.model_max_length = encoder.max_length
    with quiet():
        module.save_pretrained(folder)
        pretrained.processor.save_pretrained(folder)


def write_body(net: Tunable, pretrained: Pretrained, folder: Path) -> None:
    """Write a body with a pooled head: a transformers folder of the body, and the layers of the head beside it."""
    body: Any = pretrained.body
    with quiet():
        body.save_pretrained(folder)
        pretrained.processor.save_pretrained(folder)
    save_file(
        {name: tensor.contiguous() for name, tensor in net.heads[HEAD].state_dict().items()},
        folder / "head.safetensors",
    )
