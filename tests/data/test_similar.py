"""Near-duplicates: found among many, not where texts only have the usual words in common."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest
import torch

from tunesmith.data import similar
from tunesmith.data.sources import open_source

WORDS = [
    f"{a}{b}{c}" for a in "bdfgklmnprst" for b in ("a", "er", "il", "on", "u") for c in ("ma", "tter", "ning", "x")
]


def sentences(number, seed=0):
    draw = random.Random(seed)
    return [" ".join(draw.choice(WORDS) for _ in range(draw.randint(12, 24))) for _ in range(number)]


def pairs_of(texts):
    found = similar.of_texts(pa.chunked_array([texts]))
    return {(int(a), int(b)): float(s) for a, b, s in zip(found.first, found.second, found.similarity, strict=True)}


CHANGES = {
    "case and marks": lambda text: f"{text.upper()} !!",
    "a word replaced": lambda text: text.replace(text.split()[3], "otherwise", 1),
    "a word left out": lambda text: " ".join(text.split()[:4] + text.split()[5:]),
    "two words turned round": lambda text: " ".join(
        [*text.split()[:2], text.split()[3], text.split()[2], *text.split()[4:]]
    ),
    "a letter wrong": lambda text: text[:10] + "q" + text[11:],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_text_that_was_changed_a_little_is_found_among_many(change):
    texts = sentences(400)
    changed = [CHANGES[change](text) for text in texts[:40]]
    found = pairs_of([*texts, *changed])
    assert sum((row, 400 + row) in found for row in range(40)) >= 38
    assert len(found) <= 42
    if change == "case and marks":
        assert all(found[row, 400 + row] == 1.0 for row in range(40))


def test_questions_of_one_form_are_not_nearly_the_same():
    names = sentences(60, seed=3)
    texts = [f"what is the capital city of {name.split()[0]}ia ?" for name in names]
    assert not {pair for pair, value in pairs_of(texts).items() if value < 1 and texts[pair[0]] != texts[pair[1]]}


def test_chinese_texts_are_compared_by_their_characters():
    draw = random.Random(0)
    signs = [chr(0x4E00 + number) for number in range(800)]
    texts = ["".join(draw.choice(signs) for _ in range(40)) for _ in range(100)]
    assert set(pairs_of([*texts, texts[7][:20] + "好" + texts[7][21:]])) == {(7, 100)}


@pytest.mark.parametrize("texts", [[], [""], ["", "", None], ["a"], ["short text", "short test"], ["😀😀", "x"]])
def test_texts_that_are_empty_or_short_are_the_same_or_nothing(texts):
    texts = pa.chunked_array([pa.array(texts, pa.string())])
    assert all(value == 1.0 for value in similar.of_texts(texts).similarity)


def test_many_copies_of_one_row_are_one_group_and_not_all_pairs():
    texts = [*sentences(50), *["the very same sentence stands in all of these rows"] * 300]
    found = similar.of_texts(pa.chunked_array([texts]))
    assert len(found) == 299
    groups = similar.groups(350, found)
    assert len(set(groups[50:])) == 1 and len(set(groups)) == 51 and groups[50] == 50


def table_of(columns):
    table = open_source(columns)[""]
    return similar.of_rows(table.identified(list(columns)), list(columns), "table")


def test_rows_of_a_table_are_nearly_the_same_where_one_value_differs_and_chance_does_not_explain_it():
    draw = np.random.default_rng(0)
    columns = {f"x{number}": draw.normal(size=500) for number in range(6)}
    for values in columns.values():
        values[400:440] = values[:40]
    for row in range(400, 440):
        columns[f"x{row % 6}"][row] += 1
    found = table_of({name: values.tolist() for name, values in columns.items()})
    assert set(zip(found.first.tolist(), found.second.tolist(), strict=True)) == {(row, 400 + row) for row in range(40)}
    few = {f"c{number}": draw.integers(0, 3, 500).tolist() for number in range(6)}
    assert len(table_of(few)) == 0, "of six columns with three values each many rows are alike by chance"


def test_pictures_are_found_again_brighter_and_noisy_and_not_confused():
    draw = np.random.default_rng(0)
    rough = torch.from_numpy(draw.normal(size=(200, 1, 4, 6)).astype(np.float32))
    smooth = torch.nn.functional.interpolate(rough, (16, 18), mode="bilinear")[:, 0].numpy()
    again = 1.2 * smooth[:30] + 0.3 + 0.02 * draw.normal(size=(30, 16, 18)).astype(np.float32)
    found = similar.of_pictures(np.concatenate([smooth, again]).astype(np.float32))
    pairs = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert len(pairs & {(row, 200 + row) for row in range(30)}) >= 28
    assert len(pairs) <= 30
