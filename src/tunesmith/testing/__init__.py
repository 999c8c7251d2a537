"""The shipped test-kit: a tiny random model and tiny rows that it can learn, for tests and authors of plug-ins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.seeds import fold, seed_everything

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = ("apple", "bread", "cheese", "dates", "eggs", "figs", "grapes", "honey", "ice", "juice", "kale", "lemon")
"""The words that tell the classes apart, one a class."""
FILLERS = ("a", "an", "and", "at", "but", "by", "in", "it", "no", "of", "on", "or", "so", "the", "to", "we", "with")


def tiny_model(folder: Path | str, family: str = "bert", **config: Any) -> Path:
    """Write a random model of 2 layers and 16 units, and a tokenizer of whole words, as a transformers folder.

    `config` overrides the family's configuration, such as `hidden_dropout_prob=0.0`; a family that names its sizes
    in its own way needs them here. Returns the folder."""
    import torch
    from transformers import AutoConfig, AutoModel

    folder = Path(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 64}
    if family not in ("distilbert", "gpt2"):
        sizes["intermediate_size"] = 32
    tokenizer = _tokenizer(folder)
    made = AutoConfig.for_model(family, **{**sizes, "vocab_size": len(tokenizer), "pad_token_id": 0, **config})
    with torch.random.fork_rng():
        seed_everything(fold(0, "tiny_model", family))
        AutoModel.from_config(made).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_rows(num_rows: int = 60, num_classes: int = 2, *, seed: int = 0) -> dict[str, list[Any]]:
    """Columns `text` and `label`: texts of unequal length, each with the word of its class somewhere in it.

    >>> rows = tiny_rows(4, 2)
    >>> rows["label"]
    ['apple', 'bread', 'apple', 'bread']
    >>> all(label in text.split() for text, label in zip(rows["text"], rows["label"]))
    True
    """
    random = np.random.Generator(np.random.PCG64(fold(seed, "tiny_rows")))
    texts, labels = [], [WORDS[row % num_classes] for row in range(num_rows)]
    for label in labels:
        words = [str(word) for word in random.choice(FILLERS, random.integers(2, 13))]
        words.insert(int(random.integers(len(words) + 1)), label)
        texts.append(" ".join(words))
    return {"text": texts, "label": labels}


COLOURS = {"red": (200, 60, 60), "blue": (60, 60, 200), "green": (60, 180, 60)}


def tiny_pictures(folder: Path | str, num_each: int = 20, *, size: tuple[int, int] = (20, 24), seed: int = 0) -> Path:
    """Write noisy red, blue and green pictures (PNG) into a folder for each colour; returns the folder."""
    from PIL import Image

    folder = Path(folder)
    random = np.random.Generator(np.random.PCG64(fold(seed, "tiny_pictures")))
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(num_each):
            noise = random.integers(-50, 50, (*size, 3))
            pixels = (np.array(colour) + noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def tiny_image_model(folder: Path | str, family: str = "vit", **config: Any) -> Path:
    """Write a random model of two layers for pictures of 16 x 16, with its processor, as a transformers folder."""
    import torch
    from transformers import AutoConfig, AutoModel, ViTImageProcessorPil

    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    sizes |= {"image_size": 16, "patch_size": 4}
    if family == "swin":
        sizes = {
            "image_size": 16,
            "patch_size": 2,
            "embed_dim": 8,
            "depths": [1, 1],
            "num_heads": [1, 2],
            "window_size": 2,
        }
    if family == "clip":
        sizes = {
            "vision_config": sizes,
            "text_config": {**sizes, "vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1},
        }
        del sizes["text_config"]["image_size"], sizes["text_config"]["patch_size"]
    if family in ("resnet", "convnext"):
        sizes = {"hidden_sizes": [8, 16], "depths": [2, 2], "num_stages": 2}
        sizes |= {"embedding_size": 8} if family == "resnet" else {"patch_size": 2}
    with torch.random.fork_rng():
        seed_everything(fold(0, "tiny_image_model", family))
        AutoModel.from_config(AutoConfig.for_model(family, **{**sizes, **config})).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    return Path(folder)


def _tokenizer(folder: Path) -> Any:
    from transformers import PreTrainedTokenizerFast

    words = [*SPECIAL, *WORDS, *FILLERS]
    special = [
        {"id": i, "content": token, "special": True, "normalized": False}
        | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
        for i, token in enumerate(SPECIAL)
    ]
    pieces = {name: {"Sequence": {"id": name, "type_id": int(name == "B")}} for name in "AB"}
    start, end = ({"SpecialToken": {"id": token, "type_id": 0}} for token in ("[CLS]", "[SEP]"))
    last = {"SpecialToken": {"id": "[SEP]", "type_id": 1}}
    described = {
        "version": "1.0",
        "added_tokens": special,
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [start, pieces["A"], end],
            "pair": [start, pieces["A"], end, pieces["B"], last],
            "special_tokens": {
                token: {"id": token, "ids": [words.index(token)], "tokens": [token]} for token in ("[CLS]", "[SEP]")
            },
        },
        "model": {"type": "WordLevel", "vocab": {word: i for i, word in enumerate(words)}, "unk_token": "[UNK]"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(described), encoding="utf-8")
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_file=str(path), model_max_length=64, model_input_names=inputs, **names)
