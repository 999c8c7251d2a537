"""A checkpoint with the language modelling head that it was trained with, where that head is in its files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tunesmith.errors import ModelError
from tunesmith.models.loaders.transformers import find_folder, quiet
from tunesmith.models.pretrained import Pretrained

MASKED, CAUSAL = ("ForMaskedLM", "ForPreTraining"), ("ForCausalLM", "LMHeadModel")
"""How the architectures end whose checkpoints hold such a head."""


@dataclass(frozen=True)
class LanguageModel:
    """`masked`: it fills in tokens that are hidden; else it tells the next one."""

    module: Any
    tokenizer: Any
    masked: bool
    most: int
    """Tokens that it reads at most."""

    @torch.no_grad()
    def put(self, tuned: Pretrained) -> None:
        """The weights of a tuned body under the head as it was: an output that was tied to the embeddings stays."""
        output, given = self.module.get_output_embeddings(), self.module.get_input_embeddings()
        if output is not None and output.weight is given.weight:
            output.weight = nn.Parameter(output.weight.detach().clone())
        weights, own = tuned.weights, dict(self.module.base_model.named_parameters())
        if absent := own.keys() - weights.keys():
            raise ModelError(f"the tuned body has no {min(absent)}", where=tuned.origin.name)
        for name, parameter in own.items():
            parameter.copy_(weights[name])


def load_language_model(
    name: str, pretrained: Pretrained, *, revision: str | None = None, trust: bool = False
) -> LanguageModel:
    """The checkpoint `name`, from which `pretrained` was loaded, with its language modelling head.

    ModelError where its architecture has none, or where the head's weights are not in its files (they would be made
    anew, and perplexities of such a head mean nothing)."""
    import transformers

    folder = find_folder(name, revision)
    with quiet():
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=trust)
    architecture = (config.architectures or [""])[0]
    if not architecture.endswith((*MASKED, *CAUSAL)):
        raise ModelError(f"is no language model ({architecture or 'no architecture is named'})", where=name)
    masked = architecture.endswith(MASKED)
    library: Any = transformers.AutoModelForMaskedLM if masked else transformers.AutoModelForCausalLM
    try:
        with quiet():
            module, info = library.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True, trust_remote_code=trust
            )
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(f"cannot be loaded as a language model: {reason}", where=name) from None
    if newly := [*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])]:
        raise ModelError(f"the weights of its head are not in its files ({sorted(newly)[0]})", where=name)
    return LanguageModel(module, pretrained.processor, masked, pretrained.max_positions)
