"""Augmented views: what is drawn depends on the seed, the row and the view alone."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoTokenizer

from tunesmith.data.augment import AugmentedRows, words
from tunesmith.data.encoders.text import encode_texts
from tunesmith.data.table import Table
from tunesmith.errors import RecipeError
from tunesmith.testing import tiny_model, tiny_rows

TEXT = "one two three four five six seven eight nine ten"


def changed(augmentation, text=TEXT, times=400):
    random = np.random.Generator(np.random.PCG64(0))
    return [augmentation.change(text, random) for _ in range(times)]


@pytest.fixture(scope="module")
def encoded(tmp_path_factory):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model(tmp_path_factory.mktemp("model")))
    columns = {**tiny_rows(12), "other": [" ".join(["lemon", "kale", "ice", "figs"])] * 12}
    return lambda *inputs: encode_texts(Table(pa.table(columns), origin=(("toy", 12),)), inputs, tokenizer, 32)


def test_words_are_left_out_at_their_rate_and_the_others_keep_their_order():
    found = [text.split() for text in changed(words(delete=0.2, swap=0.0))]
    assert np.mean([len(text) for text in found]) == pytest.approx(8.0, abs=0.2)
    order = {word: place for place, word in enumerate(TEXT.split())}
    assert all(sorted(text, key=order.__getitem__) == text for text in found)


def test_a_text_is_never_emptied():
    assert min(len(text.split()) for text in changed(words(delete=0.99, swap=0.0))) == 1
    assert changed(words(), "", 3) == [""] * 3 and changed(words(), "alone", 3) == ["alone"] * 3


def test_swapped_words_are_the_same_words_in_other_places():
    for text in changed(words(delete=0.0, swap=0.2), times=50):
        moved = sum(a != b for a, b in zip(text.split(), TEXT.split(), strict=True))
        assert Counter(text.split()) == Counter(TEXT.split())
        assert 0 <= moved <= 4
    once = [sum(a != b for a, b in zip(text.split(), TEXT.split(), strict=True)) for text in
            changed(words(delete=0.0, swap=0.01), times=50)]  # fmt: skip
    assert set(once) == {2}, "at least one pair of words, two different ones"


def test_chinese_is_changed_by_characters_and_gets_no_spaces():
    texts = changed(words(), "房间很干净,服务也好 ok", 50)
    assert len(set(texts)) > 20
    assert all(" " not in text.replace(" ok", "").strip() for text in texts if text.endswith(" ok"))


@pytest.mark.parametrize("options", [{"delete": 1.0}, {"swap": -0.1}, {"delete": 0.0, "swap": 0.0}, {"views": 0}])
def test_impossible_options_are_refused(options):
    with pytest.raises(RecipeError):
        words(**options)


def test_a_view_depends_on_seed_row_and_view_and_not_on_the_batch(encoded):
    rows = AugmentedRows(encoded("text"), words(delete=0.3), seed=1)

    def ids(rows, numbers, view):
        batch = rows.batch(numbers, view)
        return [batch["input_ids"][i][batch["attention_mask"][i] == 1].tolist() for i in range(len(numbers))]

    whole = ids(rows, range(12), 5)
    assert ids(rows, [7, 2], 5) == [whole[7], whole[2]]
    assert whole != ids(rows, range(12), 6)
    assert whole != ids(AugmentedRows(rows.encoded, rows.augmentation, seed=2), range(12), 5)
    alike = AugmentedRows(encoded("other"), words(delete=0.3), seed=1)
    assert len({tuple(row) for row in ids(alike, range(12), 5)}) > 3, "rows of one text are changed each by itself"


def test_fixed_views_come_again_after_so_many(encoded):
    rows = AugmentedRows(encoded("text"), words(delete=0.3, views=3), seed=1)
    batches = [rows.batch(range(12), view)["input_ids"] for view in range(6)]
    assert all(torch.equal(batches[view], batches[view + 3]) for view in range(3))
    assert not any(batches[0].shape == other.shape and torch.equal(batches[0], other) for other in batches[1:3])


def test_both_texts_of_a_pair_are_changed_and_stay_apart(encoded):
    rows = AugmentedRows(encoded("text", "other"), words(delete=0.0, swap=0.3), seed=1)
    plain, batch = rows.encoded.batch(range(12)), rows.batch(range(12), 0)
    assert torch.equal(plain["token_type_ids"], batch["token_type_ids"])
    for part in (0, 1):
        kept = [
            [t["input_ids"][i][(t["token_type_ids"][i] == part) & (t["attention_mask"][i] == 1)] for i in range(12)]
            for t in (plain, batch)
        ]
        assert all(torch.equal(a.sort().values, b.sort().values) for a, b in zip(*kept, strict=True))
        assert not all(torch.equal(a, b) for a, b in zip(*kept, strict=True))
