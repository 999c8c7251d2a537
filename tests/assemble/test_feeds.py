"""Pairs of rows, and rows without a target, as functions of the step."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from tunesmith.assemble.feeds import Feed, Pairs
from tunesmith.data.batch import FIRST, MAIN, SECOND
from tunesmith.errors import DataError, RecipeError
from tunesmith.testing import tiny_rows
from tunesmith.training.machine import Machine

CPU = Machine(torch.device("cpu"), "fp32")
UNLABELLED = {"objective": {"name": "consistency", "ratio": 2}, "data": {"augment": "words"}}


def pairs_of(codes, *, batch=8, seed=0, rows=None):
    """Pairs of rows whose texts nobody reads."""

    class Lengths:
        lengths = None

    rows = np.arange(len(codes)) if rows is None else rows
    return Pairs(Feed(Lengths(), torch.tensor(codes), rows, batch, batch, seed, CPU))


@pytest.fixture
def job(job_of, tmp_path):
    """A job with 31 rows without a target; `views` and other parts of its recipe by name."""
    (tmp_path / "more.csv").write_text("text\n" + "\n".join(tiny_rows(31, 3, seed=5)["text"]) + "\n")

    def build(**parts):
        named = {**UNLABELLED, **parts}
        named["data"] = {"unlabelled": str(tmp_path / "more.csv"), "augment": "words"} | parts.get("data", {})
        return job_of(**named)

    return build


def test_half_of_the_pairs_are_of_one_class_and_no_row_meets_itself():
    codes = [row % 3 for row in range(40)]
    pairs, same = pairs_of(codes), []
    for step in range(200):
        _, first, second = pairs.pairs(step)
        assert not (first == second).any()
        same.append(int(sum(codes[a] == codes[b] for a, b in zip(first, second, strict=True))))
    assert set(same) == {4}


def test_each_row_is_first_once_an_epoch_and_every_partner_may_come():
    codes = [0] * 3 + [1] * 5 + [2] * 4
    pairs, partners = pairs_of(codes, batch=5), Counter()
    for epoch in range(400):
        firsts = []
        for index in range(3):
            _, first, second = pairs.pairs(3 * epoch + index)
            firsts += first.tolist()
            partners.update(zip(first.tolist(), second.tolist(), strict=True))
        assert sorted(firsts) == list(range(12))
    assert len(partners) == 12 * 11, "all ordered pairs of different rows"
    of_row_0 = [count for (first, second), count in partners.items() if first == 0 and second > 2]
    assert np.mean(of_row_0) == pytest.approx(200 / 9, rel=0.2) and max(of_row_0) < 2 * min(of_row_0) + 10


def test_pairs_are_a_function_of_seed_and_step_and_use_the_rows_they_are_given():
    rows = np.array([9, 2, 7, 4, 11, 0])
    codes = [row % 2 for row in range(12)]
    one, two = (pairs_of(codes, batch=3, rows=rows) for _ in range(2))
    drawn = [one.pairs(step) for step in range(6)]
    for step in reversed(range(6)):
        epoch, first, second = two.pairs(step)
        assert (epoch, first.tolist(), second.tolist()) == (
            drawn[step][0],
            drawn[step][1].tolist(),
            drawn[step][2].tolist(),
        )
        assert set(second.tolist()) <= set(rows.tolist())
    other = pairs_of(codes, batch=3, rows=rows, seed=1)
    one.feed.epoch(0)
    other.feed._epoch = one.feed._epoch
    assert any(other.pairs(step)[2].tolist() != drawn[step][2].tolist() for step in range(2)), "the same rows are first"


def test_a_row_alone_in_its_class_is_only_of_pairs_of_two_classes():
    codes = [0] * 6 + [1]
    pairs = pairs_of(codes, batch=7)
    for step in range(50):
        _, first, second = pairs.pairs(step)
        same = [codes[a] == codes[b] for a, b in zip(first, second, strict=True)]
        assert not same[first.tolist().index(6)] and sum(same) in (3, 4)


@pytest.mark.parametrize("codes", [[0, 0, 0], [0, 1, 2]], ids=["one class", "one row a class"])
def test_rows_that_make_no_pairs_are_refused(codes):
    with pytest.raises(DataError, match="two classes"):
        pairs_of(codes)


def test_the_pairs_of_many_rows_are_never_all_there():
    codes = (np.arange(50_000) % 4).tolist()
    tracemalloc.start()
    pairs = pairs_of(codes)
    pairs.pairs(3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000, "one bit for each pair would be 312 MB"


def test_ranks_share_the_pairs_and_keep_each_pair_together(job_of):
    job = job_of(objective="contrastive", train={"batch": 10})
    phase, found = job.plan.phases[0], []
    for rank in range(2):
        feed = replace(job, machine=replace(CPU, rank=rank, world=2)).feed(job.rows.split.train)
        batches, num_rows = job.steps(phase, feed)(1)
        assert num_rows == 20
        for batch in batches:
            half = len(batch.rows) // 2
            found += list(zip(batch.rows[:half], batch.rows[half:], strict=True))
            assert len(batch.target) == len(batch.rows) == len(batch.inputs[MAIN]["input_ids"])
    whole, _ = job.steps(phase, replace(job, micro=20).feed(job.rows.split.train))(1)
    (whole,) = whole
    assert sorted(found) == sorted(zip(whole.rows[:10], whole.rows[10:], strict=True))


@pytest.mark.parametrize("name", ["contrastive", "consistency"])
def test_accumulation_equals_the_large_batch(name, job_of, job, trained):
    made = job_of(objective=name) if name == "contrastive" else job()
    assert len(made.rows.split.train) % 8 == 6, "the last batch of an epoch is to be short"
    made = replace(
        made, recipe=made.recipe.model_copy(update={"train": made.recipe.train.model_copy(update={"lr": 3e-4})})
    )
    _, weights, losses = trained(replace(made, micro=48), 6)
    for micro in (2, 6):
        _, others, other_losses = trained(replace(made, micro=micro), 6)
        assert max(float((weights[key] - others[key]).abs().max()) for key in weights) < 1e-6
        assert losses == pytest.approx(other_losses, abs=1e-6)


def test_the_body_moves_first_and_then_only_the_head(job_of, trained):
    job = job_of(objective="contrastive", train={"length": "8 steps", "lr": 1e-2})
    assert [(phase.name, phase.objective) for phase in job.plan.phases] == [
        ("full", "contrastive"),
        ("head", "supervised"),
    ]
    before, half, _ = trained(job, 4)
    _, whole, _ = trained(job, 8)
    heads = {name for name in before if name.startswith("heads.")}
    moved = {name for name in before if not torch.equal(before[name], half[name])}
    assert moved and not moved & heads
    assert {name for name in before if not torch.equal(half[name], whole[name])} == heads


def test_each_step_has_so_many_rows_without_a_target_and_each_epoch_all(job):
    made = job()
    steps = made.steps(made.plan.phases[0], replace(made, micro=6).feed(made.rows.split.train))
    seen, sizes = [], []
    for step in range(4):
        batches, num_rows = steps(step)
        with_target = [batch for batch in batches if MAIN in batch.inputs]
        without = [batch for batch in batches if MAIN not in batch.inputs]
        numbers = [row for batch in without for row in batch.rows]
        seen += numbers
        num_targets = sum(len(batch.rows) for batch in with_target)
        sizes.append(len(numbers))
        assert num_rows == num_targets + len(numbers)
        assert all(len(batch.rows) <= 3 for batch in without), "two views of a row are two rows of a pass"
        assert all({*batch.inputs} == {FIRST, SECOND} for batch in without)
        assert sum(float(batch.weight.sum()) for batch in without) == pytest.approx(num_targets)
    assert [sorted(sizes[:2]), sorted(sizes[2:])] == [[15, 16]] * 2
    assert sorted(seen[:31]) == sorted(seen[31:]) == list(range(31))


def test_the_first_view_is_the_row_as_it_is_only_for_the_sharpened_target(job):
    def first(**options):
        made = job(objective={"name": "consistency", **options}, data={"augment": {"name": "words", "delete": 0.5}})
        steps = made.steps(made.plan.phases[0], made.feed(made.rows.split.train))
        (*_, batch), _ = steps(0)
        plain = made.unlabelled.encoded.batch(batch.rows)["input_ids"]
        return plain, *(batch.inputs[view]["input_ids"] for view in (FIRST, SECOND))

    def equal(a, b):
        return a.shape == b.shape and torch.equal(a, b)

    plain, one, two = first()
    assert equal(plain, one) and not equal(plain, two)
    plain, one, two = first(divergence="symmetric")
    assert not equal(plain, one) and not equal(plain, two) and not equal(one, two)


def test_only_training_rows_are_augmented_each_epoch_anew(job_of):
    job = job_of(data={"augment": {"name": "words", "delete": 0.5}}, train={"batch": "all", "micro": 30})
    feed = job.feed(job.rows.split.train)

    def texts(batch):
        return {row: tuple(ids.tolist()) for row, ids in zip(batch.rows, batch.inputs[MAIN]["input_ids"], strict=True)}

    (first,), (again,), (second,) = (feed(step)[0] for step in (0, 0, 1))
    plain = feed.make(np.array(first.rows))
    assert texts(first) == texts(again)
    assert texts(first) != texts(second) and texts(first) != texts(plain)
    assert torch.equal(plain.inputs[MAIN]["input_ids"], job.encoded.batch(first.rows)["input_ids"])


def test_rows_without_a_target_are_told_and_test_texts_among_them_too(job_of, tmp_path):
    test, told = tiny_rows(9, 3, seed=7), []
    for name, texts in (("more.csv", [*test["text"][:4], "the lemon"]), ("test.csv", test["text"])):
        labels = test["label"] if name == "test.csv" else ["?"] * len(texts)
        rows = "\n".join(f"{text},{label}" for text, label in zip(texts, labels, strict=True))
        (tmp_path / name).write_text(f"text,label\n{rows}\n")
    data = {"test": str(tmp_path / "test.csv"), "unlabelled": str(tmp_path / "more.csv"), "augment": "words"}
    job = job_of(objective="consistency", told=told, data=data)
    assert "5 rows without a target" in told
    assert any("4 of 9 test texts" in line and "transductive" in line for line in told)
    assert job.rows.table.num_rows == 39 and job.unlabelled.encoded.table.num_rows == 5


def test_rows_without_a_target_are_in_the_ledger_to_the_last_row_and_token(job_of, tmp_path):
    long = " ".join(["lemon"] * 60)
    texts = [*tiny_rows(6, 3, seed=7)["text"], "", long]
    (tmp_path / "more.csv").write_text("text,other\n" + "".join(f"{text},1\n" for text in texts))
    told = []
    data = {"unlabelled": str(tmp_path / "more.csv"), "augment": "words", "clean": {"missing": "drop"}}
    made = job_of(objective="consistency", told=told, data=data)
    ledger = made.rows.ledger
    assert (ledger.read["unlabelled"], ledger.used["unlabelled"], ledger.dropped("unlabelled")) == (8, 7, 1)
    read, used = ledger.tokens["unlabelled"]
    (cut,) = [entry for entry in ledger.entries if entry.action == "cut" and entry.part == "unlabelled"]
    assert cut.rows == 1 and read - used == cut.amount > 0 and ledger.problems() == []
    assert used == int(made.unlabelled.encoded.lengths.sum())
    for what in ("unlabelled: 1 row dropped", "unlabelled: 1 row cut", "7 unlabelled"):
        assert any(what in line for line in [*told, str(ledger)]), what


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"data": {"unlabelled": None}}, "set data.unlabelled"),
        ({"data": {"augment": None}}, "set data.augment"),
        ({"objective": "supervised"}, '"data.unlabelled" has no effect'),
        (
            {"objective": {"name": "consistency", "divergence": "symmetric"},
             "data": {"augment": {"name": "words", "views": 1}}},
            "two views",
        ),
    ],
)  # fmt: skip
def test_what_consistency_lacks_and_rows_that_nothing_reads_are_refused(parts, words, job):
    with pytest.raises(RecipeError, match=words):
        job(**parts)


def test_a_file_without_the_text_column_is_refused(job, tmp_path):
    (tmp_path / "other.csv").write_text("words\nthe lemon\n")
    with pytest.raises(DataError, match='"text" is missing'):
        job(data={"unlabelled": str(tmp_path / "other.csv")})


def test_contrastive_refuses_the_models_own_head_and_a_strategy_of_the_head_alone(job_of, tiny_folder):
    with pytest.raises(RecipeError, match="pooled features"):
        job_of(objective="contrastive", model={"name": str(tiny_folder), "head": "own"})
    with pytest.raises(RecipeError, match="moves only the head"):
        job_of(objective="contrastive", strategy="head")
    with pytest.raises(RecipeError, match="regression"):
        rows = tiny_rows(30, 3)
        job_of({"text": rows["text"], "label": [float(i) + 0.5 for i in range(30)]}, objective="contrastive")


def test_a_balanced_feed_shows_small_classes_as_often_as_large_ones(job_of):
    job = job_of(data={"sampler": "balanced"}, train={"batch": 6, "micro": 6})
    few = np.concatenate([job.rows.split.train[job.rows.codes[job.rows.split.train] == 0][:2],
                          job.rows.split.train[job.rows.codes[job.rows.split.train] != 0]])  # fmt: skip
    feed = job.feed(few)
    seen = [
        [row for step in range(feed.steps_per_epoch) for row in feed(step + start)[0][0].rows]
        for start in (0, feed.steps_per_epoch)
    ]
    for rows in seen:
        counts = np.bincount(job.rows.codes[rows])
        assert counts.max() - counts.min() <= 1 and len(rows) == len(few)
    assert seen[0] != seen[1]
    plain = job_of(train={"batch": 6, "micro": 6}).feed(few)
    once = [row for step in range(plain.steps_per_epoch) for row in plain(step)[0][0].rows]
    assert sorted(once) == sorted(few.tolist())
