"""Models of the transformers library: from a folder, a hub name, an installed package or an earlier Run."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from tunesmith.errors import ModelError, nearest
from tunesmith.files import digest
from tunesmith.models.loaders import processors
from tunesmith.models.pooling import output_layer
from tunesmith.models.pretrained import Origin, Pretrained
from tunesmith.models.stages import Stage, find_stages
from tunesmith.run import Run, is_run

LIBRARIES = {
    "text": "AutoModelForSequenceClassification",
    "image": "AutoModelForImageClassification",
    "sound": "AutoModelForAudioClassification",
}
MAPPINGS = {
    "text": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING",
    "image": "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING",
    "sound": "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING",
}
ENDS = {
    "text": "ForSequenceClassification",
    "image": "ForImageClassification",
    "sound": ("ForAudioClassification", "ForSequenceClassification"),
}
"""How the architectures with a classification head end; wav2vec 2.0 and its like call a sound a sequence."""


def load(
    name: str, labels: Sequence[str], problem_type: str, *, revision: str | None = None, trust: bool = False
) -> Pretrained:
    """Load `name` with a classification head for `labels` where its family has one; new weights follow torch's seed.

    A head that was trained for the same label names is kept, whatever their order (see `Pretrained.labels`);
    otherwise it is newly made. Raises ModelError for an unknown name, damaged or pickled weights, unknown families."""
    run = Run(Path(name)) if is_run(Path(name)) else None
    folder = find_folder(name, revision) if run is None else _folder_of_run(run)
    _check_weights(folder)
    with quiet():
        config = _config(folder, trust)
        modality = processors.modality_of(config, folder)
        kept = _labels_to_keep(config, labels, modality)
        _describe_task(config, kept or list(labels), problem_type)
        processor = processors.PROCESSORS[modality](folder, config, trust)
        module, info, own = _module(folder, config, trust, modality)
    body = _body(module, own)
    newly = sorted({*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])})
    _check_loaded(folder, module, body, newly, own)
    states, stages = _probe(folder, module, body, processors.probe(modality, processor, config))
    head_new = bool(_outside(module, body, newly))
    if own and not kept and not head_new:
        newly.append(_remake_output(module, len(labels)))
    pretrained = Pretrained(
        module=module,
        body=body,
        stages=stages,
        width=int(states.shape[-1]) if states is not None else 0,
        processor=processor,
        max_positions=processors.max_positions(body, config, processor) if modality == "text" else 0,
        origin=Origin(name, folder, "+".join(digest(path)[:16] for path in sorted(folder.glob("*.safetensors")))),
        told=_told(name, module, body, newly),
        poolings=_poolings(config, states, modality),
        own_head=own,
        calling=processors.CALLING,
        modality=modality,
        labels=tuple(kept or ()) if own and not head_new else (),
    )
    if run is not None and folder.name != "model":
        _take_head(pretrained, run, labels)
    return pretrained


def find_folder(name: str, revision: str | None = None) -> Path:
    """The local folder of `name`: itself, inside an installed package, or fetched from the hub."""
    if name.startswith("package:"):
        return _folder_of_package(name.removeprefix("package:"))
    path = Path(name)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError("holds no config.json", where=name, remedy="give a folder in transformers format")
        return path
    if path.exists() or name.startswith((".", "/", "~")) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        parent = path.parent if path.parent.is_dir() else Path()
        near = [str(item) for item in parent.iterdir() if item.is_dir()]
        raise ModelError("no such model folder", where=name, remedy=nearest(name, near))
    return _folder_of_hub(name, revision)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the chatter of transformers and the hub while loading and saving; we say what was loaded ourselves."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    hub_bars_were_off = are_progress_bars_disabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
        if not hub_bars_were_off:
            enable_progress_bars()


def _folder_of_run(run: Run) -> Path:
    own = run.model
    return own if (own / "config.json").is_file() else own / "0_Transformer"


def _folder_of_package(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        remedy = f"pip install {package.replace('_', '-')}"
        raise ModelError(f'no installed package is called "{package}"', where=f"package:{package}", remedy=remedy)
    root = Path(spec.submodule_search_locations[0])
    found = [path.parent for path in sorted(root.rglob("config.json")) if any(path.parent.glob("*.safetensors"))]
    if not found:
        raise ModelError("carries no folder in transformers format", where=f"package:{package}")
    return min(found, key=lambda path: len(path.parts))


def _folder_of_hub(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        with quiet():
            patterns = ["*.json", "*.safetensors", "*.txt", "*.model", "*.py", "*.jinja", "README.md", "LICENSE*"]
            return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ModelError(
            f"is no folder here, and the hub did not give it: {reason}",
            where=name,
            remedy="check the name, the network and HF_HUB_OFFLINE, or give a folder",
        ) from None


def _check_weights(folder: Path) -> None:
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickled = sorted([*folder.glob("*.bin"), *folder.glob("*.pth"), *folder.glob("*.pt"), *folder.glob("*.ckpt")])
        if pickled:
            remedy = "convert it where you trust it: load it with transformers and save_pretrained() writes safetensors"
            what = f"only has pickled weights ({pickled[0].name}), which can run code when opened"
            raise ModelError(what, where=str(folder), remedy=remedy)
        raise ModelError("has no weights (*.safetensors)", where=str(folder))
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        wanted = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        missing = sorted(wanted - {path.name for path in weights})
        if missing:
            raise ModelError(f"lacks {', '.join(missing)}", where=str(folder), remedy="fetch the model again")
    for path in weights:
        try:
            with safe_open(path, framework="pt") as opened:
                opened.keys()
        except (SafetensorError, OSError) as error:
            remedy = "the file is cut short or damaged: fetch the model again"
            raise ModelError(f"cannot be read: {error}", where=str(path), remedy=remedy) from None


def _config(folder: Path, trust: bool) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=trust)
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        remedy = "if it brings its own code and you trust it: --set model.trust=true"
        raise ModelError(f"its config.json is of no known family: {reason}", where=str(folder), remedy=remedy) from None


def modality_of(name: str, revision: str | None = None, trust: bool = False) -> str:
    """What a row is to a model, from its configuration alone."""
    run = Run(Path(name)) if is_run(Path(name)) else None
    folder = find_folder(name, revision) if run is None else _folder_of_run(run)
    with quiet():
        return processors.modality_of(_config(folder, trust), folder)


def own_head(name: str, revision: str | None = None, trust: bool = False) -> tuple[list[str], str]:
    """The labels that the head of a checkpoint was trained for, and its problem type (see `tasks.Task.problem_type`).

    ModelError where its configuration names no such head."""
    folder = find_folder(name, revision)
    with quiet():
        config = _config(folder, trust)
        modality = processors.modality_of(config, folder)
    architecture = (getattr(config, "architectures", None) or [""])[0]
    if not architecture.endswith(ENDS[modality]):
        what = f"has no classification head of its own (it is a {architecture or type(config).__name__})"
        raise ModelError(what, where=name, remedy="give the Run or the checkpoint that was tuned for the old task")
    labels = [str(config.id2label[key]) for key in sorted(config.id2label)]
    usual = "regression" if len(labels) == 1 else "single_label_classification"
    return labels, config.problem_type or usual


def _labels_to_keep(config: Any, labels: Sequence[str], modality: str) -> list[str] | None:
    """The checkpoint's own label order, when its head was trained for the same names."""
    architecture = (getattr(config, "architectures", None) or [""])[0]
    stored = [str(config.id2label[key]) for key in sorted(config.id2label)] if config.id2label else []
    same = architecture.endswith(ENDS[modality]) and sorted(stored) == sorted(labels)
    return stored if same else None


def _describe_task(config: Any, labels: Sequence[str], problem_type: str) -> None:
    config.num_labels = len(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    config.problem_type = problem_type


def _module(folder: Path, config: Any, trust: bool, modality: str) -> tuple[Any, dict[str, Any], bool]:
    import transformers

    name = LIBRARIES[modality]
    mapping = getattr(transformers, MAPPINGS[modality])
    own = type(config) in mapping or name in (getattr(config, "auto_map", None) or {})
    library = getattr(transformers, name if own else "AutoModel")
    try:
        module, info = library.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            trust_remote_code=trust,
        )
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(f"cannot be loaded: {reason}", where=str(folder)) from None
    for parameter in module.parameters():
        # Parts of a fused tensor are loaded as views of it, and such weights cannot be saved as safetensors.
        if parameter.untyped_storage().nbytes() > parameter.nbytes:
            parameter.data = parameter.data.clone()
    return module, info, own


def _body(module: Any, own: bool) -> Any:
    """What turns inputs into hidden states: the base model; where a family hides it, the largest child."""
    if not own or module.base_model is not module:
        return module.base_model if own else module
    return max(module.children(), key=lambda child: sum(parameter.numel() for parameter in child.parameters()))


@torch.no_grad()
def _probe(
    folder: Path, module: Any, body: Any, inputs: Mapping[str, torch.Tensor]
) -> tuple[torch.Tensor | None, tuple[Stage, ...]]:
    """One forward pass over two rows: the body's hidden states (rows, places, width), None where it gives something
    else, and its stages. The whole module runs: some bodies need what it prepares (T5's decoder input)."""
    given: list[Any] = []
    handle = body.register_forward_hook(lambda _module, _args, output: given.append(output))
    try:
        stages = find_stages(body, lambda: module(**inputs))
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(f"cannot read rows alone: {reason}", where=str(folder)) from None
    finally:
        handle.remove()
    if not given or getattr(given[-1], "last_hidden_state", None) is None:
        return None, stages
    states, _ = processors.CALLING.states(given[-1], inputs)
    ids = inputs.get("input_ids")
    return (states if ids is None or states.shape[:2] == ids.shape else None), stages


def _outside(module: Any, body: Any, names: Sequence[str]) -> list[str]:
    """Those of the parameters named that are not the body's."""
    inside = {id(parameter) for parameter in body.parameters()}
    return [name for name, parameter in module.named_parameters() if name in set(names) and id(parameter) not in inside]


def _remake_output(module: Any, num_outputs: int) -> str:
    """Make the output layer of a head anew that was trained for other labels but happens to fit; its name."""
    layer = output_layer(module, num_outputs)
    torch.nn.init.normal_(layer.weight, std=0.02)
    if layer.bias is not None:
        torch.nn.init.zeros_(layer.bias)
    return str(next(name for name, other in module.named_modules() if other is layer))


def _check_loaded(folder: Path, module: Any, body: Any, newly: list[str], own: bool) -> None:
    """A body whose weights are mostly newly made was not loaded at all: its names did not match."""
    parameters = {id(parameter) for parameter in body.parameters()}
    inside = [p.numel() for name, p in module.named_parameters() if name in set(newly) and id(p) in parameters]
    total = sum(parameter.numel() for parameter in body.parameters())
    if total and sum(inside) > 0.1 * total:
        raise ModelError(
            f"{sum(inside) / total:.0%} of the body's weights are not in the file ({newly[0]} ...)",
            where=str(folder),
            remedy="the weight names do not belong to the family that config.json names",
        )


def _poolings(config: Any, states: torch.Tensor | None, modality: str) -> tuple[str, ...]:
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

    if modality != "text":
        return () if states is None else ("mean", "max")

    if states is None or getattr(config, "is_encoder_decoder", False):
        return ()
    causal = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and type(config) not in MODEL_FOR_MASKED_LM_MAPPING
    return ("last", "mean", "max") if causal else ("mean", "cls", "max")


def _told(name: str, module: Any, body: Any, newly: list[str]) -> str:
    from tunesmith.files import size

    parameters = sum(parameter.numel() for parameter in body.parameters())
    made = f"newly made: {', '.join(newly[:4])}{' ...' if len(newly) > 4 else ''}" if newly else "nothing newly made"
    return f"loaded {name} ({type(body).__name__}, {parameters / 1e6:.1f}M parameters, {size(4 * parameters)}); {made}"


def _take_head(pretrained: Pretrained, run: Run, labels: Sequence[str]) -> None:
    """Keep the pooled head of an earlier Run when it was trained for the same label names."""
    measured = run.measured
    stored = measured["target"]["labels"]
    if sorted(stored) != sorted(labels):
        return
    try:
        with safe_open(run.weights, framework="pt") as opened:
            weights = {
                key.removeprefix("heads.label."): opened.get_tensor(key)
                for key in opened.keys()
                if key.startswith("heads.label.")
            }
    except (SafetensorError, OSError) as error:
        remedy = "the file is cut short or damaged: fetch the Run again"
        raise ModelError(f"cannot be read: {error}", where=str(run.weights), remedy=remedy) from None
    pretrained.labels = tuple(stored)
    pretrained.head_choice = {"options": measured["head"]["options"], "weights": weights}
