"""Perplexity of a language model on a text: how many tokens it wavers between, on the geometric mean."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tunesmith.evaluation.predict import Ranks
from tunesmith.models.loaders.language import LanguageModel
from tunesmith.models.stages import evaluating

EVERY = 7
"""A masked model sees a text so many times, each time with every seventh token hidden: near the 15 % that it was
trained with, and each token is asked for once."""
ROWS = 16
"""Texts of a forward pass."""
FEWEST_TOKENS = 2

Asked = tuple[list[int], list[int]]
"""The tokens of a text as the model reads them, and those that it is asked for, each at its place; -100 elsewhere."""


@torch.no_grad()
def perplexity(model: LanguageModel, texts: Sequence[str], machine: Ranks) -> float:
    """exp of the mean negative log probability of a token, over all `texts`.

    Of a causal model each token after the first, given those before it. Of a masked one the pseudo-perplexity
    (Salazar et al. 2020), but with every seventh token hidden at a time in place of one alone, which takes a few passes
    where theirs takes one a token."""
    examples = [example for text in texts for example in (_masked if model.masked else _causal)(model, text)]
    examples.sort(key=lambda example: -len(example[0]))
    total, count = 0.0, 0
    with evaluating(model.module):
        for start in range(0, len(examples), ROWS):
            some = examples[start : start + ROWS]
            ids, asked = _padded([ids for ids, _ in some], 0), _padded([asked for _, asked in some], -100)
            mask = _padded([[1] * len(ids) for ids, _ in some], 0)
            logits = model.module(**machine.put({"input_ids": ids, "attention_mask": mask})).logits.float().cpu()
            total += float(F.cross_entropy(logits.flatten(0, 1), asked.flatten(), reduction="sum", ignore_index=-100))
            count += int((asked != -100).sum())
    return math.exp(min(total / count, 700.0)) if count else math.nan


def _causal(model: LanguageModel, text: str) -> Iterator[Asked]:
    ids = model.tokenizer(text, truncation=True, max_length=model.most)["input_ids"]
    if len(ids) >= FEWEST_TOKENS:
        yield ids, [*ids[1:], -100]


def _masked(model: LanguageModel, text: str) -> Iterator[Asked]:
    """A text with some tokens hidden at a time; never those that the tokenizer puts around it."""
    encoded = model.tokenizer(text, truncation=True, max_length=model.most, return_special_tokens_mask=True)
    ids, special = encoded["input_ids"], encoded["special_tokens_mask"]
    places = [place for place, is_special in enumerate(special) if not is_special]
    for first in range(min(EVERY, len(places))):
        hidden = set(places[first::EVERY])
        shown = [model.tokenizer.mask_token_id if place in hidden else token for place, token in enumerate(ids)]
        yield shown, [token if place in hidden else -100 for place, token in enumerate(ids)]


def _padded(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows])
