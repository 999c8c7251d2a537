"""A sentence-transformers folder: Transformer, Pooling, Dense; its last Dense gives the outputs.

The body lies in `0_Transformer/` and there is no `config.json` at the root: transformers' pipeline would load such a
folder with a random classifier and answer with the person's labels, so it must refuse instead."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from tunesmith.files import write_json
from tunesmith.models.loaders.transformers import quiet
from tunesmith.models.pooling import Pooled
from tunesmith.models.pretrained import Pretrained
from tunesmith.models.tunable import HEAD, Tunable
from tunesmith.tasks.task import Target

POOLING_KEYS = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "last": "pooling_mode_lasttoken",
}


def write(net: Tunable, pretrained: Pretrained, target: Target, max_length: int, folder: Path) -> None:
    """Write the modules into `folder`, in the layout that every release since 2.0 of the library reads."""
    head = net.heads[HEAD]
    assert isinstance(head, Pooled)
    body = folder / "0_Transformer"
    pretrained.processor.model_max_length = max_length
    with quiet():
        pretrained.body.save_pretrained(body)  # type: ignore[operator]
        pretrained.processor.save_pretrained(body)
    write_json(body / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})
    modules = [("0_Transformer", "Transformer"), ("1_Pooling", "Pooling")]
    (folder / "1_Pooling").mkdir()
    modes = {key: pooling == head.pooling for pooling, key in POOLING_KEYS.items()}
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": pretrained.width, **modes})
    layers = [*((layer, "Tanh") for layer in head.hidden), (head.output, "Identity")]
    for layer, activation in layers:
        name = f"{len(modules)}_Dense"
        _write_dense(folder / name, layer, activation)  # type: ignore[arg-type]
        modules.append((name, "Dense"))
    entries = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in enumerate(modules)
    ]
    write_json(folder / "modules.json", entries)
    versions = {name: _version(name) for name in ("torch", "transformers", "sentence-transformers")}
    write_json(
        folder / "config_sentence_transformers.json",
        {"__version__": {k.replace("-", "_"): v for k, v in versions.items()}},
    )


def _write_dense(folder: Path, layer: nn.Linear, activation: str) -> None:
    folder.mkdir()
    room = "linear" if activation == "Identity" else "activation"
    config = {
        "in_features": layer.in_features,
        "out_features": layer.out_features,
        "bias": layer.bias is not None,
        "activation_function": f"torch.nn.modules.{room}.{activation}",
    }
    write_json(folder / "config.json", config)
    weights = {f"linear.{name}": tensor.detach().cpu().contiguous() for name, tensor in layer.named_parameters()}
    save_file(weights, folder / "model.safetensors")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "2.0.0"
