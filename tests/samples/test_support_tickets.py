"""The demo's sample is what it is said to be: varied, eight intents, neither trivial nor hopeless for bag-of-words."""

from __future__ import annotations

import csv
import re
from collections import Counter
from importlib import resources

import numpy as np
import pytest

from tunesmith.data.sources import open_source
from tunesmith.data.splits import hash as by_hash
from tunesmith.evaluation.baselines import Learnable, tfidf_logistic
from tunesmith.tasks.classification import encode, learn


@pytest.fixture(scope="module")
def rows():
    text = (resources.files("tunesmith.samples") / "support-tickets.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines(keepends=True)))


def test_there_are_about_600_messages_in_eight_intents_and_none_twice(rows):
    assert 550 <= len(rows) <= 650
    counts = Counter(row["intent"] for row in rows)
    assert len(counts) == 8 and min(counts.values()) >= 50
    assert len({" ".join(re.findall(r"\w+", row["message"].lower())) for row in rows}) == len(rows)


def test_no_five_words_follow_each_other_in_more_than_three_messages(rows):
    found: Counter[tuple[str, ...]] = Counter()
    for row in rows:
        words = re.findall(r"\w+", row["message"].lower())
        found.update({tuple(words[i : i + 5]) for i in range(len(words) - 4)})
    assert max(found.values()) <= 3


def test_words_alone_get_between_055_and_085_of_the_test_part():
    with resources.as_file(resources.files("tunesmith.samples") / "support-tickets.csv") as path:
        table = open_source(path)[""].identified(["message"])
    texts, labels = (table.column(name).to_pylist() for name in ("message", "intent"))
    target = learn(("intent",), labels)
    codes = encode(labels, target)
    split = by_hash(table, codes)
    asked = [texts[row] for row in split.test]
    chances = tfidf_logistic(Learnable([texts[row] for row in split.train], codes[split.train], asked, target))
    assert 0.55 <= np.mean(chances.argmax(1) == codes[split.test]) <= 0.85
