"""Augmented views: what is drawn depends on the seed, the row and the view alone."""

from __future__ import annotations

import functools
import importlib.resources
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoTokenizer

from tunesmith.data import word_changes
from tunesmith.data.augment import words
from tunesmith.data.augmented import AugmentedRows
from tunesmith.data.encoders.text import encode_texts
from tunesmith.data.table import Table
from tunesmith.errors import DataError, RecipeError
from tunesmith.testing import tiny_model, tiny_rows

eda = functools.partial(words, replace=0.0, insert=0.0)
"""Without synonyms."""
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
    found = [text.split() for text in changed(eda(delete=0.2, swap=0.0))]
    assert np.mean([len(text) for text in found]) == pytest.approx(8.0, abs=0.2)
    order = {word: place for place, word in enumerate(TEXT.split())}
    assert all(sorted(text, key=order.__getitem__) == text for text in found)


def test_a_text_is_never_emptied():
    assert min(len(text.split()) for text in changed(eda(delete=0.99, swap=0.0))) == 1
    assert changed(eda(), "", 3) == [""] * 3 and changed(eda(), "alone", 3) == ["alone"] * 3


def test_swapped_words_are_the_same_words_in_other_places():
    for text in changed(eda(delete=0.0, swap=0.2), times=50):
        moved = sum(a != b for a, b in zip(text.split(), TEXT.split(), strict=True))
        assert Counter(text.split()) == Counter(TEXT.split())
        assert 0 <= moved <= 4
    once = [sum(a != b for a, b in zip(text.split(), TEXT.split(), strict=True)) for text in
            changed(eda(delete=0.0, swap=0.01), times=50)]  # fmt: skip
    assert set(once) == {2}, "at least one pair of words, two different ones"


def test_chinese_is_changed_by_characters_and_gets_no_spaces():
    texts = changed(eda(), "房间很干净,服务也好 ok", 50)
    assert len(set(texts)) > 20
    assert all(" " not in text.replace(" ok", "").strip() for text in texts if text.endswith(" ok"))


@pytest.mark.parametrize("options", [{"delete": 1.0}, {"swap": -0.1}, {"delete": 0.0, "swap": 0.0}, {"views": 0}])
def test_impossible_options_are_refused(options):
    with pytest.raises(RecipeError):
        eda(**options)


def test_a_view_depends_on_seed_row_and_view_and_not_on_the_batch(encoded):
    rows = AugmentedRows(encoded("text"), eda(delete=0.3), seed=1)

    def ids(rows, numbers, view):
        batch = rows.batch(numbers, view)
        return [batch["input_ids"][i][batch["attention_mask"][i] == 1].tolist() for i in range(len(numbers))]

    whole = ids(rows, range(12), 5)
    assert ids(rows, [7, 2], 5) == [whole[7], whole[2]]
    assert whole != ids(rows, range(12), 6)
    assert whole != ids(AugmentedRows(rows.encoded, rows.augmentation, seed=2), range(12), 5)
    alike = AugmentedRows(encoded("other"), eda(delete=0.3), seed=1)
    assert len({tuple(row) for row in ids(alike, range(12), 5)}) > 3, "rows of one text are changed each by itself"


def test_fixed_views_come_again_after_so_many(encoded):
    rows = AugmentedRows(encoded("text"), eda(delete=0.3, views=3), seed=1)
    batches = [rows.batch(range(12), view)["input_ids"] for view in range(6)]
    assert all(torch.equal(batches[view], batches[view + 3]) for view in range(3))
    assert not any(batches[0].shape == other.shape and torch.equal(batches[0], other) for other in batches[1:3])


def test_both_texts_of_a_pair_are_changed_and_stay_apart(encoded):
    rows = AugmentedRows(encoded("text", "other"), eda(delete=0.0, swap=0.3), seed=1)
    plain, batch = rows.encoded.batch(range(12)), rows.batch(range(12), 0)
    assert torch.equal(plain["token_type_ids"], batch["token_type_ids"])
    for part in (0, 1):
        kept = [
            [t["input_ids"][i][(t["token_type_ids"][i] == part) & (t["attention_mask"][i] == 1)] for i in range(12)]
            for t in (plain, batch)
        ]
        assert all(torch.equal(a.sort().values, b.sort().values) for a, b in zip(*kept, strict=True))
        assert not all(torch.equal(a, b) for a, b in zip(*kept, strict=True))


def test_one_of_the_four_ways_changes_a_view():
    text, kinds = "the movie was a great film about people in a big room", Counter()
    plain = text.split()
    for found in changed(words(delete=0.2), text, 800):
        parts = found.split()
        added, gone = Counter(parts) - Counter(plain), Counter(plain) - Counter(parts)
        kinds[(bool(added), bool(gone))] += 1
    shares = {kind: count / 800 for kind, count in kinds.items()}
    assert shares[True, True] == pytest.approx(0.25, abs=0.05), "replaced"
    assert shares[True, False] == pytest.approx(0.25, abs=0.05), "put in"
    assert shares[False, True] == pytest.approx(0.25 * (1 - 0.8**12), abs=0.05), "left out"
    assert shares[False, False] == pytest.approx(0.25 * (1 + 0.8**12), abs=0.05), "exchanged"


def test_words_become_synonyms_with_their_capitals_plural_and_punctuation():
    only = words(delete=0.0, swap=0.0, insert=0.0, replace=0.01)
    assert set(changed(only, "(Movie), the the")) == {
        f"({word}), the the" for word in ("Film", "Flick", "Pic", "Picture")
    }
    assert set(changed(only, "MOVIES! in in")) == {f"{word}S! in in" for word in ("FILM", "FLICK", "PIC", "PICTURE")}
    assert set(changed(only, "of in the a")) == {"of in the a"}, "function words have none"


def test_synonyms_are_put_in_anywhere_and_the_words_keep_their_order():
    only = words(delete=0.0, swap=0.0, replace=0.0, insert=0.34)
    places = Counter()
    for text in changed(only, "the movie of", 300):
        found = text.split()
        added = [word for word in found if word in ("film", "flick", "pic", "picture")]
        assert len(found) == 4 and len(added) == 1 and " ".join(w for w in found if w not in added) == "the movie of"
        assert text == " ".join(found)
        places[found.index(added[0])] += 1
    assert all(places[place] > 40 for place in range(4))


def test_synonyms_of_a_file_in_any_language(tmp_path):
    (tmp_path / "words.txt").write_text("# hotels\n干 洁 净\nroom, chamber\nalone\n", encoding="utf-8")
    only = words(delete=0.0, swap=0.0, insert=0.0, synonyms=str(tmp_path / "words.txt"))
    assert set(changed(only, "房间很干")) == {"房间很洁", "房间很净"}
    assert set(changed(only, "a room alone")) == {"a chamber alone"}
    only = words(delete=0.0, swap=0.0, replace=0.0, synonyms=str(tmp_path / "words.txt"))
    assert all(len(text) == 5 and " " not in text for text in changed(only, "房间很干", 20))
    for content, what in ((None, "No such file"), ("alone\n", "no two words"), (b"\xff\xfe\xff", "UTF-8")):
        path = tmp_path / "other.txt"
        if content is not None:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        with pytest.raises(DataError, match=what) as error:
            words(synonyms=str(path))
        assert "data.augment.synonyms" in str(error.value) or "movie, film" in str(error.value)
        word_changes.of_file.cache_clear()


def test_neighbours_are_the_nearest_whole_words_of_the_models_own_table(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model(tmp_path / "model"))
    known = [word for word in tokenizer.get_vocab() if word.isalpha() and len(word) > 1][:4]
    table = torch.randn(len(tokenizer), 16, generator=torch.Generator().manual_seed(0))
    one, near, far, _ = known
    numbers = tokenizer.convert_tokens_to_ids(known)
    table[numbers[1]] = 2 * table[numbers[0]] + 0.1
    table[numbers[2]] = -table[numbers[0]]
    found = word_changes.neighbours(table, tokenizer)
    assert found(one)[0] == near and far not in found(one) and one not in found(one)
    assert found("nosuchword") == ()
    augmentation = words(delete=0.0, swap=0.0, insert=0.0, synonyms="embeddings")
    change = augmentation.neighbours(lambda: table, tokenizer)
    text = f"{one} 17 18"
    assert near in change(text, np.random.Generator(np.random.PCG64(1))).split()[0] or one not in change(
        text, np.random.Generator(np.random.PCG64(1))
    )


def test_the_table_of_synonyms_comes_with_its_notice():
    folder = importlib.resources.files("tunesmith.data")
    assert "Princeton University" in folder.joinpath("synonyms.LICENSE.txt").read_text(encoding="utf-8")
    assert word_changes.wordnet("live") == ("dwell", "inhabit", "populate")
    assert len(word_changes._wordnet()) > 30_000
