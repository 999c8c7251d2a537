"""A peft adapter beside the merged model: PeftModel.from_pretrained(base, folder) loads it without Tunesmith."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch

from tunesmith.models.edits.lora import adapters
from tunesmith.models.loaders.transformers import quiet
from tunesmith.models.pretrained import Pretrained
from tunesmith.models.tunable import Tunable

LOADED = """# Adapter

```python
from peft import PeftModel
from transformers import {library}

base = {library}.from_pretrained("{base}"{options})
model = PeftModel.from_pretrained(base, "PATH OF THIS FOLDER")
```

{head}
"""
WITH_HEAD = "The head is part of the adapter. Its labels in order: {labels}."
WITHOUT_HEAD = "This is the body; the head that reads its pooled states is in `model/`, beside this folder."
NOT_ALONE = """# No adapter

The adapters of this run do not stand on `{base}` alone: {why}. They are merged into `model/`.
"""


def write(net: Tunable, pretrained: Pretrained, labels: tuple[str, ...], trust: bool, folder: Path) -> None:
    """Write the adapters of `net`, and the model's own head, into `folder`, with a README that says how to load them.

    The base is loaded as it was published, and must give the outputs of `net` with them: an edit such as `reinit`, or
    a strategy that moves weights too, changes what they stand on. If not, the README alone is written, and says so."""
    place = pretrained.origin.name
    base_name = str(pretrained.origin.folder) if place.startswith("package:") or Path(place).exists() else place
    why = "as it was published it gives other outputs with them, for an edit or the training changed its weights"
    config = _config(net, pretrained)
    try:
        with quiet():
            adapted = _with_adapters(_base(net, pretrained, trust), config)
    except Exception as error:
        # Whatever a library has against it, the run is trained: its model must not be lost for that.
        adapted, why = None, f"it cannot take them ({str(error).strip().splitlines()[0]})"
    if adapted is not None:
        _copy(net, pretrained, adapted)
    if adapted is None or not _same(net, adapted, pretrained.processor):
        (folder / "README.md").write_text(NOT_ALONE.format(base=base_name, why=why), encoding="utf-8")
        return
    adapted.peft_config["default"].base_model_name_or_path = base_name
    with quiet():
        # Otherwise peft asks the hub whether the vocabulary of the base has changed.
        adapted.save_pretrained(folder, save_embedding_layers=False)
    library = "AutoModelForSequenceClassification" if net.own else "AutoModel"
    # The base may have been published with a head for other labels.
    options = f", num_labels={net.num_outputs}, ignore_mismatched_sizes=True" if net.own else ""
    head = WITH_HEAD.format(labels=", ".join(labels)) if net.own else WITHOUT_HEAD
    text = LOADED.format(library=library, base=base_name, options=options, head=head)
    (folder / "README.md").write_text(text, encoding="utf-8")


def _base(net: Tunable, pretrained: Pretrained, trust: bool) -> Any:
    """The base as it was published; with the model's own head where that is tuned."""
    from transformers import AutoModel, AutoModelForSequenceClassification

    options: dict[str, Any] = {"trust_remote_code": trust, "dtype": torch.float32, "use_safetensors": True}
    library: Any = AutoModel
    if net.own:
        library, options = AutoModelForSequenceClassification, options | {"num_labels": net.num_outputs}
    return library.from_pretrained(pretrained.origin.folder, ignore_mismatched_sizes=True, **options)


def _config(net: Tunable, pretrained: Pretrained) -> Any:
    """The configuration of the adapters, their layers named as the base names them."""
    body: Any = pretrained.body
    prefix = next(f"{name}." if name else "" for name, module in net.body.named_modules() if module is body)
    config = copy.deepcopy(body.peft_config["default"])
    config.target_modules = [f"{prefix}{name}" for name in adapters(body)]
    if hasattr(config, "feedforward_modules"):
        config.feedforward_modules = [f"{prefix}{name}" for name in config.feedforward_modules]
    config.task_type = "SEQ_CLS" if net.own else "FEATURE_EXTRACTION"
    if net.own:
        config.modules_to_save = _beside(net)
    return config


def _with_adapters(base: Any, config: Any) -> Any:
    from peft import get_peft_model

    return get_peft_model(base, config).eval()


@torch.no_grad()
def _copy(net: Tunable, pretrained: Pretrained, adapted: Any) -> None:
    """Give the PeftModel the weights of the adapters, and of what the body does not hold: the own head."""
    ours = dict(net.body.named_parameters())
    inside = {id(parameter) for parameter in pretrained.body.parameters()}
    for name, parameter in adapted.base_model.model.named_parameters():
        own = ours.get(name.replace(".modules_to_save.default.", "."))
        if own is not None and (id(own) in pretrained.added or id(own) not in inside):
            parameter.copy_(own)


def _beside(net: Tunable) -> list[str]:
    """The modules of the own head that hold its parameters, named as the model names them."""
    head = next(stage for stage in net.stages if stage.name == "head")
    names = [name.removeprefix("body.") for name in head.modules if name.startswith("body.")]
    return [name for name in names if any(True for _ in net.body.get_submodule(name).parameters())]


@torch.no_grad()
def _same(net: Tunable, adapted: Any, tokenizer: Any) -> bool:
    """Whether both give the same outputs for a short text, but for rounding."""
    encoded = tokenizer(["one two three four five"], return_tensors="pt")
    inputs = {name: encoded[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in encoded}
    net.eval()
    ours, theirs = net.body(**inputs), adapted(**inputs)
    kept = "logits" if net.own else "last_hidden_state"
    return torch.allclose(getattr(ours, kept), getattr(theirs, kept), rtol=1e-4, atol=1e-4)
