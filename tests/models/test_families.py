"""Families of sequence classifiers load, train, save and reload at toy size; bench/families.py tries them all."""

from __future__ import annotations

import pytest

FEW = ("bert", "deberta-v2", "gpt2", "llama", "t5", "xlnet")
# Shared layers, pooled lengths, experts, fused weights, state spaces, encoder-decoders, lists beside lists.
SAMPLE = (
    "albert", "bart", "bloom", "canine", "deepseek_v3", "distilbert", "electra", "funnel", "gte", "jamba", "mixtral",
    "mobilebert", "modernbert", "mpnet", "nomic_bert", "qwen2", "roberta", "xlm",
)  # fmt: skip


def assert_passes(families, family, place):
    outcome = families.try_family(family, place)
    assert outcome.reason == ""
    assert outcome.passed == set(families.STEPS)
    assert "head" not in outcome.stages and any(name.startswith("block.") for name in outcome.stages)


@pytest.mark.parametrize("family", FEW)
def test_a_family_loads_trains_saves_and_reloads(families, family, tmp_path):
    assert_passes(families, family, tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", SAMPLE)
def test_more_families_load_train_save_and_reload(families, family, tmp_path):
    assert_passes(families, family, tmp_path)


def test_a_failure_is_named_with_its_reason(families, tmp_path, monkeypatch):
    monkeypatch.setattr(families, "outputs_of_folder", lambda run, texts: families.np.ones((16, 2)))
    outcome = families.try_family("bert", tmp_path)
    assert outcome.passed == {"loads", "trains", "saves"} and "answers otherwise" in outcome.reason
    page = families.table([outcome])
    assert "0 (0%) load" in page and "| bert | BertForSequenceClassification | yes | yes | yes | no |" in page
