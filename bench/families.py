"""Every family that transformers classifies sequences with, tried at toy size: loaded, trained, saved and reloaded.

`python bench/families.py [--write docs/families.md] [FAMILY ...]` prints the share that passes all four and the reason
of each failure. A family's configuration is its own default, shrunk by the names of its fields."""

from __future__ import annotations

import argparse
import contextlib
import re
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CONFIG_MAPPING, PreTrainedTokenizerFast
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from tunesmith.assemble.job import Job, prepare
from tunesmith.assemble.loaded import load_run
from tunesmith.assemble.rows import Objects
from tunesmith.delivery import folder
from tunesmith.evaluation.predict import outputs_of
from tunesmith.models.loaders.transformers import quiet
from tunesmith.models.tunable import Tunable
from tunesmith.pipeline import steps
from tunesmith.recipe.schema import Choice, Recipe
from tunesmith.run import Run
from tunesmith.training import machine
from tunesmith.training.state import State

FAMILIES: dict[str, str] = dict(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES)
WORDS = tuple(f"word{i}" for i in range(60))
ROWS = {
    "text": [" ".join(WORDS[(7 * i + j) % 60] for j in range(3 + i % 5)) for i in range(16)],
    "label": ["left", "right"] * 8,
}
TOLERANCE = 1e-5

# A field of a configuration that bears one of these names gets this value; every other keeps the family's default.
SMALL: dict[str, Any] = {
    **dict.fromkeys(("vocab_size", "n_words", "n_token"), 200),
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embedding_size", "d_latents"), 32),
    **dict.fromkeys(("encoder_layers", "decoder_layers", "n_layer", "n_layers", "num_layers", "num_hidden_layers"), 2),
    **dict.fromkeys(("num_decoder_layers",), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "num_key_value_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("head_dim", "d_kv", "attention_head_size", "d_head", "kv_channels"), 8),
    **dict.fromkeys(("intermediate_size", "d_ff", "n_inner", "hidden_dim", "d_inner", "ffn_dim", "dff"), 64),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "moe_intermediate_size", "ffn_hidden_size"), 64),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk"), 2),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 128),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"), 8),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 16),
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "pad_index": 0,
    "bos_index": 2,
    "eos_index": 3,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}
EXCEPTIONS: dict[str, dict[str, Any]] = {
    # Sizes that must fit each other.
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "gptj": {"rotary_dim": 8},
    "layoutlmv3": {"coordinate_size": 6, "shape_size": 4},
    "lilt": {"hidden_size": 48},
    "mistral4": {"head_dim": 16},
    "reformer": {"axial_pos_embds_dim": (16, 16), "axial_pos_shape": (8, 8), "attn_layers": ["local", "lsh"]},
    "axk1": {"n_group": 2, "topk_group": 1},
    # Layers of two kinds: one of each.
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "qwen3_5_text": {"layer_types": ["linear_attention", "full_attention"]},
    "qwen3_next": {"layer_types": ["linear_attention", "full_attention"]},
    "zamba": {"layers_block_type": ["mamba", "hybrid"] * 2, "num_hidden_layers": 4},
    "zamba2": {"layers_block_type": ["mamba", "hybrid"] * 2, "num_hidden_layers": 4},
    # Published checkpoints say it in config.json; the class has no default.
    "t5": {"decoder_start_token_id": 0},
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}},
    "xmod": {"default_language": "en_XX"},
}


@dataclass
class Outcome:
    """How far one family came."""

    family: str
    stages: tuple[str, ...] = ()
    passed: set[str] = field(default_factory=set)
    reason: str = ""

    @property
    def whole(self) -> bool:
        return not self.reason


STEPS = ("loads", "trains", "saves", "reloads")


def tiny_folder(family: str, place: Path, **fields: Any) -> Path:
    """Write a tiny random model of `family`, with a tokenizer of 65 words, as a transformers folder."""
    torch.manual_seed(0)
    config = tiny_config(CONFIG_MAPPING[family], **fields)
    model = getattr(transformers, FAMILIES[family])(config)
    with quiet():
        model.save_pretrained(place)
        tiny_tokenizer().save_pretrained(place)
    return place


def tiny_config(kind: Any, **more: Any) -> Any:
    """The family's default configuration with its sizes shrunk; nested configurations alike."""
    default = kind()
    known = {*default.to_dict(), *getattr(kind, "attribute_map", {})}
    fields = {name: value for name, value in SMALL.items() if name in known and name not in _aliases(kind)}
    for name, inner in (getattr(kind, "sub_configs", None) or {}).items():
        found = getattr(default, name, None)
        if found is not None:
            fields[name] = tiny_config(type(found) if "Auto" in inner.__name__ else inner).to_dict()
    return kind(**{**fields, **EXCEPTIONS.get(kind.model_type, {}), **more})


def _aliases(kind: Any) -> set[str]:
    """Names that only stand for another field."""
    return set(getattr(kind, "attribute_map", {}))


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer: `[CLS] words [SEP]`, padded with `[PAD]`."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*special, *WORDS])}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
    return PreTrainedTokenizerFast(
        tokenizer_object=made, **names, bos_token="[CLS]", eos_token="[SEP]", model_max_length=64
    )


def try_family(family: str, place: Path) -> Outcome:
    """Load, train two steps, save, reload: the reloaded net, and the exported folder alone, must answer alike."""
    outcome = Outcome(family)
    try:
        for step in _journey(outcome, place):
            outcome.passed.add(step)
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        outcome.reason = f"{type(error).__name__}: {lines[0]}"[:200].replace(str(place), "FOLDER").replace("|", "/")
    return outcome


def _journey(outcome: Outcome, place: Path) -> Iterator[str]:
    source = tiny_folder(outcome.family, place / "source")
    job = open_job(source)
    outcome.stages = tuple(stage.name for stage in job.pretrained.stages)
    yield "loads"
    run = folder.begin(job, place / "run")
    run.write("measured.json", {"target": job.rows.target.as_json(), "head": {"name": "own", "options": {}}})
    net = train(job)
    yield "trains"
    before = outputs(job, net)
    folder.save_model(job, run, net)
    yield "saves"
    _compare(before, outputs(job, load_run(run, job.machine).net), "the reloaded net")
    _compare(before, outputs_of_folder(run, ROWS["text"]), "model/ in transformers alone")
    yield "reloads"


def open_job(source: Path) -> Job:
    """The toy rows and the model of a folder, for two steps."""
    recipe = Recipe.model_validate(
        {
            "data": {"source": "memory:toy", "valid": "memory:toy", "target": "label"},
            "model": {"name": str(source), "head": "own"},
            "train": {"length": "2 steps", "batch": 16, "micro": 8, "warmup": "0 steps", "lr": 1e-3, "device": "cpu"},
        }
    )
    place = replace(machine.start("cpu", "fp32"), precision="fp32")
    job = prepare(recipe, Objects(data=ROWS, valid=ROWS), place, _silent)
    return replace(job, head=Choice(name="own"))


def train(job: Job) -> Tunable:
    """Two steps over the toy rows; something must have moved, and every value be finite."""
    net = job.net()
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    feed = job.feed(job.rows.split.train)
    for _ in steps(job, State(net), feed, job.cadence(feed.steps_per_epoch), tell=_silent):
        pass
    moved = [name for name, parameter in net.named_parameters() if not torch.equal(parameter, before[name])]
    if not any("block" in name or len(net.stages) > 1 for name in moved):
        raise ValueError("nothing moved")
    if not all(torch.isfinite(parameter).all() for parameter in net.parameters()):
        raise ValueError("a parameter is not finite after two steps")
    return net


def outputs(job: Job, net: Tunable) -> np.ndarray:
    """The net's outputs for the toy rows."""
    return outputs_of(net, job.encoded, np.arange(len(ROWS["text"])), job.machine)


@torch.no_grad()
def outputs_of_folder(run: Run, texts: list[str]) -> np.ndarray:
    """What transformers alone answers from the Run's model folder."""
    with quiet():
        tokenizer = transformers.AutoTokenizer.from_pretrained(run.model)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(run.model).eval()
    encoded = tokenizer(texts, padding=True, return_tensors="pt")
    kept = ("input_ids", "token_type_ids", "attention_mask")
    answers: np.ndarray = model(**{name: encoded[name] for name in kept if name in encoded}).logits.numpy()
    return answers


def _compare(before: np.ndarray, after: np.ndarray, what: str) -> None:
    difference = float(np.abs(before - after).max())
    if not difference < TOLERANCE:
        raise ValueError(f"{what} answers otherwise: {difference:.1e}")


def sweep(families: list[str]) -> list[Outcome]:
    """Every family in turn; one line on failure."""
    found = []
    for family in families:
        with tempfile.TemporaryDirectory() as place, warnings.catch_warnings(), _mute():
            warnings.simplefilter("ignore")
            found.append(try_family(family, Path(place)))
        if found[-1].reason:
            print(f"{family}: {found[-1].reason}", flush=True)
    return found


@contextlib.contextmanager
def _mute() -> Iterator[None]:
    """The libraries say what their fast kernels lack once per family: not here."""
    transformers.logging.set_verbosity_error()
    yield


def table(outcomes: list[Outcome]) -> str:
    """The page of the documentation."""
    passed = sum(outcome.whole for outcome in outcomes)
    lines = [
        "# Families",
        "",
        f"Of the {len(outcomes)} model types that transformers {transformers.__version__} classifies sequences with, "
        f"{passed} ({passed / len(outcomes):.0%}) load, train, save and reload.",
        "",
        "Each was tried with a tiny random configuration and the head `own`: loaded, trained for two steps on 16 rows,",
        f"saved, and reloaded both here and in transformers alone, with the same outputs to {TOLERANCE:g}.",
        "`python bench/families.py --write docs/families.md` writes this page.",
        "",
        "| family | class | " + " | ".join(STEPS) + " | stages found |",
        "|---|---|" + "---|" * len(STEPS) + "---|",
    ]
    for outcome in outcomes:
        marks = " | ".join("yes" if step in outcome.passed else "no" for step in STEPS)
        lines.append(f"| {outcome.family} | {FAMILIES[outcome.family]} | {marks} | {_stages(outcome.stages)} |")
    failures = [outcome for outcome in outcomes if not outcome.whole]
    if failures:
        lines += ["", "## What fails, and why", ""]
        lines += [f"- {outcome.family}: {outcome.reason}" for outcome in failures]
    return "\n".join(lines) + "\n"


def _stages(names: tuple[str, ...]) -> str:
    """`stem, 2 blocks, neck`."""
    blocks = sum(name.startswith("block.") for name in names)
    parts = [f"{blocks} block{'s' * (blocks != 1)}" if name.startswith("block.") else name for name in names]
    return ", ".join(dict.fromkeys(parts))


def _silent(_line: str) -> None:
    """What a run tells is not wanted here."""


def main() -> None:
    parser = argparse.ArgumentParser(description=re.split(r"\n\n", __doc__ or "")[0])
    parser.add_argument("families", nargs="*", default=list(FAMILIES))
    parser.add_argument("--write", type=Path, help="write the table to this page")
    arguments = parser.parse_args()
    outcomes = sweep(arguments.families)
    passed = sum(outcome.whole for outcome in outcomes)
    print(f"{passed} of {len(outcomes)} families pass: {passed / len(outcomes):.1%}")
    if arguments.write:
        arguments.write.write_text(table(outcomes), encoding="utf-8")


if __name__ == "__main__":
    main()
