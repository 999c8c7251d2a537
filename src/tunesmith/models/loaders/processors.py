"""What prepares the inputs of a transformers model: its tokenizer, image processor or feature extractor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tunesmith.errors import ModelError
from tunesmith.models.pretrained import PLACES, Calling

SECONDS = 1.0
"""A sound of so many seconds is tried."""


def modality_of(config: Any, folder: Path) -> str:
    """What a row is to a model of this configuration: "text", "image" or "sound"."""
    from transformers import (
        MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING,
        MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    )

    architecture = (getattr(config, "architectures", None) or [""])[0]
    mappings = {
        "text": MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
        "image": MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
        "sound": MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING,
    }
    known = [name for name, mapping in mappings.items() if type(config) in mapping]
    if known == ["sound"]:  # Its architecture may be called ...ForSequenceClassification, as wav2vec 2.0's is.
        return "sound"
    for end, modality in (("SequenceClassification", "text"), ("ImageClassification", "image")):
        if architecture.endswith(end):
            return modality
    if len(known) > 1 and (folder / "preprocessor_config.json").is_file():
        return known[-1]
    return known[0] if known else "text"


def tokenizer(folder: Path, config: Any, trust: bool) -> Any:
    """The tokenizer, with a pad token and the side that the model reads from."""
    from transformers import AutoTokenizer

    try:
        made = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust)
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(f"its tokenizer cannot be loaded: {reason}", where=str(folder)) from None
    if made.pad_token_id is None:
        # Llama and GPT-2 have none; their classifiers read the last token that is not the pad token.
        made.pad_token = made.eos_token or made.unk_token or made.bos_token
    # XLNet's classifier reads the last position, whatever stands there; all others mind the mask or read the first.
    made.padding_side = "left" if getattr(config, "summary_type", None) == "last" else "right"
    made.init_kwargs["padding_side"] = made.padding_side  # What save_pretrained writes.
    config.pad_token_id = made.pad_token_id
    text_config = config.get_text_config()
    if text_config is not config:
        text_config.pad_token_id = made.pad_token_id
    return made


def image_processor(folder: Path, config: Any, trust: bool) -> Any:
    """The image processor in its Pillow form, which needs no torchvision; the family's usual one where none is kept."""
    from transformers import AutoImageProcessor, ViTImageProcessorPil

    if not (folder / "preprocessor_config.json").is_file() and not (folder / "processor_config.json").is_file():
        size = getattr(config, "image_size", None) or 224
        return ViTImageProcessorPil(size={"height": size, "width": size} if isinstance(size, int) else size)
    try:
        return AutoImageProcessor.from_pretrained(folder, trust_remote_code=trust, backend="pil")
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(f"its image processor cannot be loaded: {reason}", where=str(folder)) from None


def feature_extractor(folder: Path, _config: Any, trust: bool) -> Any:
    """The feature extractor of a sound model."""
    from transformers import AutoFeatureExtractor

    try:
        return AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=trust)
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(f"its feature extractor cannot be loaded: {reason}", where=str(folder)) from None


PROCESSORS = {"text": tokenizer, "image": image_processor, "sound": feature_extractor}


def probe(modality: str, processor: Any, config: Any) -> dict[str, Tensor]:
    """The tensors of two rows, as small as they can be."""
    if modality == "image":
        from PIL import Image

        channels = getattr(config, "num_channels", 3)
        blank = Image.new("L" if channels == 1 else "RGB", (64, 64))
        return {"pixel_values": processor(images=[blank] * 2, return_tensors="pt")["pixel_values"]}
    if modality == "sound":
        rate = processor.sampling_rate
        given = processor([np.zeros(int(SECONDS * rate), np.float32)] * 2, sampling_rate=rate, return_tensors="pt")
        return {name: tensor for name, tensor in given.items() if isinstance(tensor, Tensor)}
    given = processor(["one two three four five"] * 2, padding=True, return_tensors="pt")
    return {name: given[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in given}


def _states(output: Any, inputs: Any) -> tuple[Tensor, Tensor]:
    """Hidden states (rows, places, width) and which places count, of texts, images or sounds."""
    states = output.last_hidden_state
    if states.dim() == 4:
        states = states.flatten(2).transpose(1, 2)
    mask = inputs.get(PLACES, inputs.get("attention_mask"))
    if mask is not None and mask.shape[1] == states.shape[1]:
        return states, mask
    if mask is not None:
        # An adapter makes fewer places: one counts where those that it comes from do, as lengths are in proportion.
        kept = (mask.sum(1, keepdim=True) * states.shape[1] / mask.shape[1]).ceil()
        return states, (torch.arange(states.shape[1], device=states.device)[None] < kept).long()
    return states, torch.ones(states.shape[:2], dtype=torch.long, device=states.device)


def _logits(output: Any) -> Tensor:
    logits: Tensor = output.logits
    return logits


def _run(network: torch.nn.Module, inputs: Any) -> Any:
    return network(**{name: tensor for name, tensor in inputs.items() if name != PLACES})


CALLING = Calling(run=_run, outputs=_logits, states=_states)
"""How networks of the transformers library are called."""


def max_positions(body: Any, config: Any, processor: Any) -> int:
    """Tokens the model can read: its position table less the rows that padding takes, or what its tokenizer says."""
    limits = [processor.model_max_length] if processor.model_max_length < 10**9 else []
    text_config = config.get_text_config()
    positions = getattr(text_config, "max_position_embeddings", None) or getattr(text_config, "n_positions", None)
    if isinstance(positions, int) and positions > 0:
        table = next((m for name, m in body.named_modules() if name.endswith("position_embeddings")), None)
        padding = getattr(table, "padding_idx", None)
        limits.append(positions - (0 if padding is None else padding + 1))
    return int(min(limits, default=512))
