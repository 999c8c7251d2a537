"""Models of sounds: what the frozen stages give of a row is computed once, and enters the net as it came out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tunesmith.data.encoders import sound
from tunesmith.data.sources import open_source
from tunesmith.models.loaders import transformers as loader
from tunesmith.models.tunable import Tunable
from tunesmith.training import machine
from tunesmith.training.frozen import cached_rows

FAMILIES = ("wav2vec2", "hubert", "ast", "whisper")


@pytest.fixture
def opened(sound_model, tones):
    """`opened("wav2vec2", head="own")`: a Tunable and the encoded rows."""

    def make(family, head="own"):
        torch.manual_seed(1)
        pretrained = loader.load(str(sound_model(family)), ("high", "low"), "single_label_classification")
        table = open_source(tones)[""].identified(("sound",))
        config = pretrained.module.config
        encoder = sound.of_extractor(pretrained.processor, config, {}, None, (table, "sound"))
        return Tunable(pretrained, head, {}, 2), encoder.encode(table, ("sound",))

    return make


def freeze(net, depth):
    named = dict(net.named_parameters())
    for index, stage in enumerate(net.stages):
        for name in stage.parameters:
            named[name].requires_grad_(index >= depth)
    net.settle()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", ["own", "pooled"])
def test_rows_that_are_kept_give_what_live_rows_give(opened, family, head, monkeypatch, tmp_path):
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path))
    net, encoded = opened(family, head)
    place, rows = machine.start("cpu", "fp32"), np.arange(encoded.table.num_rows)
    for depth in (3, len(net.stages) - 1):
        freeze(net, depth)
        kept = cached_rows(net, encoded, rows, place, "fp32")
        assert kept.num_computed == len(rows)
        net.eval()
        for some in (rows[:5], rows[40:43], rows[7:8]):
            with torch.no_grad():
                live, stored = net(encoded.batch(some)), net(kept.batch(some))
            assert torch.allclose(live, stored, atol=1e-5), f"depth {depth}"
        assert not torch.equal(net(kept.batch(rows[:4])), net(kept.batch(rows[70:74]))), "other rows, other outputs"


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_row_gives_does_not_depend_on_the_rows_beside_it(opened, family):
    net, encoded = opened(family, "pooled")
    net.eval()
    with torch.no_grad():
        together = net(encoded.batch(np.arange(0, 60, 7)))
        alone = torch.cat([net(encoded.batch([row])) for row in range(0, 60, 7)])
    assert torch.allclose(together, alone, atol=1e-5)
