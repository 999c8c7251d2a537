"""Networks of torchvision and timm by name, in the environment that has them: `make torchvision`."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

import tunesmith
from tunesmith.errors import MachineError, ModelError
from tunesmith.models.loaders import named, network
from tunesmith.recipe.schema import Model
from tunesmith.testing import tiny_pictures

HERE = {"expects": {"size": 64}}


def test_without_the_library_the_extra_that_brings_it_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(MachineError, match=r"tunesmith\[torchvision\]"):
        named.inputs_of("torchvision:resnet18")


@pytest.mark.torchvision
@pytest.mark.parametrize(
    ("name", "blocks", "head"),
    [
        ("resnet18", 8, "fc"),
        ("mobilenet_v2", 19, "classifier.1"),
        ("squeezenet1_1", 8, "classifier.1"),
        ("vgg11", 9, "classifier.6"),
        ("densenet121", 7, "classifier"),
        ("efficientnet_b0", 9, "classifier.1"),
        ("convnext_tiny", 8, "classifier.2"),
        ("vit_b_16", 12, "heads.head"),
        ("swin_t", 8, "head"),
        ("googlenet", None, "fc"),
        ("shufflenet_v2_x0_5", 16, "fc"),
    ],
)
def test_the_stages_and_the_head_of_torchvision_are_found(name, blocks, head):
    side = 224 if name in ("vit_b_16", "swin_t") else 64
    sample = {"x": torch.zeros(2, 3, side, side)}
    module = named.build(Model(name=f"torchvision:{name}"), sample, 3, pretrained=False)
    found = network.of_module(module, sample, ("a", "b", "c"), name=name, modality="image")
    names = [stage.name for stage in found.stages]
    assert found.head_path == head
    assert blocks is None or sum(stage.startswith("block.") for stage in names) == blocks, names


@pytest.mark.torchvision
def test_images_are_prepared_as_torchvision_prepares_them():
    import numpy as np
    import torchvision

    from tunesmith.data.encoders import image

    encoder = image.stated(named.inputs_of("torchvision:resnet18"), {})
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8))
    theirs = torchvision.models.ResNet18_Weights.DEFAULT.transforms()(picture)
    ours = encoder.normalised(encoder.prepared(picture)[None])[0]
    assert torch.allclose(ours, theirs, atol=1e-2)


@pytest.mark.torchvision
def test_an_unknown_name_is_named_and_weights_that_cannot_be_fetched_say_how(monkeypatch):
    with pytest.raises(ModelError, match=r"resnet18"):
        named.inputs_of("torchvision:resnet81")
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda *_, **__: (_ for _ in ()).throw(OSError("no net")))
    with pytest.raises(ModelError, match=r"model\.weights=FILE"):
        named.build(Model(name="torchvision:resnet18"), {}, 3, pretrained=True)


@pytest.mark.torchvision
@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet10t"])
def test_a_named_network_is_tuned_from_a_file_of_weights_and_built_again_for_prediction(name, tmp_path):
    module = named.build(Model(name=name), {}, 3, pretrained=False)
    torch.save(
        {"state_dict": {f"module.{key}": value for key, value in module.state_dict().items()}}, tmp_path / "w.pth"
    )
    told = []
    settings = [f"model.weights={tmp_path / 'w.pth'}", "model.expects={size = 64}", "train.length=2 steps"]
    folder = tiny_pictures(tmp_path / "pictures", 60, size=(64, 64))
    run = tunesmith.fit(folder, name, strategy="last", out=tmp_path / "run", settings=settings, tell=told.append)
    assert any('"module." before their names left out' in line and "100%" in line for line in told)
    (tmp_path / "w.pth").unlink()
    assert tunesmith.load(run).predict([str(folder / "red" / "0.png")])[0] in ("red", "green", "blue")
