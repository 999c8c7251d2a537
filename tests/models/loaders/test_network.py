"""Any torch network: its head is found and made anew, its stages are found, its channels fit, its weights are told."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tunesmith.errors import ModelError
from tunesmith.models import nets
from tunesmith.models.loaders import network
from tunesmith.models.loaders.channels import fit_channels
from tunesmith.models.loaders.weights import load_weights
from tunesmith.models.prefix import find_cut
from tunesmith.models.tunable import Tunable

IMAGES = {"x": torch.randn(2, 3, 12, 12)}
LABELS = ("a", "b", "c")


class Net(nn.Module):
    """Two blocks and a head in the middle of its children."""

    def __init__(self, outputs=7):
        super().__init__()
        self.head = nn.Linear(8, outputs)
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))
        self.norm = nn.BatchNorm2d(8)

    def forward(self, images):
        states = self.first(images)
        for block in self.blocks:
            states = block(states).relu()
        return self.head(self.norm(states).mean((2, 3)))


class HeadOfConvolutions(Net):
    """As SqueezeNet: behind the head come a ReLU and a mean."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(8, 7, 1)

    def forward(self, images):
        states = self.first(images)
        for block in self.blocks:
            states = block(states).relu()
        return self.head(states).relu().mean((2, 3))


def made(module, **options):
    return network.of_module(module, IMAGES, LABELS, name="mine", modality="image", **options)


def tunable(module, head="own", options=None):
    return Tunable(made(module), head, options or {}, len(LABELS))


def test_the_last_layer_that_is_called_is_the_head_and_is_made_anew():
    found = made(Net())
    assert found.head_path == "head" and found.module.head.out_features == 3
    assert [stage.name for stage in found.stages] == ["stem", "block.0", "block.1", "neck"]
    assert not [name for stage in found.stages for name in stage.parameters if name.startswith("head")]
    assert "newly made: head" in found.told and found.width == 8


def test_every_parameter_has_one_stage_and_the_head_is_a_stage_of_its_own():
    net = tunable(Net())
    addresses = [address.partition("/")[2] for address in net.address()]
    assert sorted(addresses) == sorted(name for name, _ in net.named_parameters())
    assert net.stages[-1].name == "head" and net.stages[-1].parameters == ("body.head.weight", "body.head.bias")


def test_layers_can_stand_in_the_place_of_the_head_and_read_what_it_read():
    net = tunable(Net(), "pooled", {"layers": 1, "hidden": 5})
    assert net(IMAGES).shape == (2, 3) and net.body.head.hidden[0].out_features == 5
    net.eval()
    assert torch.allclose(net.answer(net.features(IMAGES)), net(IMAGES))


def test_a_head_that_is_named_is_the_head():
    class Two(Net):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(7, 7)

        def forward(self, images):
            return self.last(super().forward(images))

    assert made(Two()).head_path == "last"
    with pytest.raises(ModelError, match=r"cannot be multiplied|gives"):
        made(Two(), head="head")
    with pytest.raises(ModelError, match='no linear layer called "hed"'):
        made(Two(), head="hed")


def test_a_network_without_a_last_layer_and_one_that_cannot_read_the_rows_are_errors():
    with pytest.raises(ModelError, match="no linear layer"):
        made(nn.Sequential(nn.Flatten(), nn.Identity()))
    with pytest.raises(ModelError, match=r"cannot read two rows"):
        made(nn.Sequential(nn.Linear(5, 7)))


@pytest.mark.parametrize("output", [lambda x: (x, None), lambda x: {"logits": x}, lambda x: {"out": [x]}])
def test_outputs_are_found_in_whatever_a_network_gives(output):
    class Wrapped(Net):
        def forward(self, images):
            return output(super().forward(images))

    assert tunable(Wrapped())(IMAGES).shape == (2, 3)


def freeze_all_but_the_head(net):
    for address, parameter in net.address().items():
        parameter.requires_grad_(address.startswith("head/"))
    net.settle()


def test_a_frozen_body_is_entered_before_the_head_where_nothing_comes_after_it():
    probes = [IMAGES, {"x": torch.randn(3, 3, 12, 12)}]
    net = tunable(Net())
    freeze_all_but_the_head(net)
    cut = find_cut(net, probes)
    assert cut.kept == () and cut.shapes == ((8,),)
    other = tunable(HeadOfConvolutions())
    freeze_all_but_the_head(other)
    cut = find_cut(other, probes)
    assert cut.kept, "a ReLU and a mean come after the head: the maps are kept, not what it read"
    other.eval()
    assert torch.equal(cut.enter(other, probes[1], cut.compute(other, probes[1])), other.run(probes[1]))


def test_statistics_of_a_batchnorm_that_is_folded_stay_fixed_and_that_is_told():
    net = Net()
    nn.init.constant_(net.norm.bias, 0.5)
    found = made(net)
    assert found.fixed_statistics and "folded" in found.told
    tuned = Tunable(found, "own", {}, 3)
    tuned.settle()
    assert not tuned.body.norm.training and tuned.body.blocks[0].training
    assert not made(Net()).fixed_statistics


def test_the_first_convolution_takes_grey_as_if_it_stood_in_every_channel():
    net, grey = Net().eval(), torch.rand(2, 1, 12, 12)
    expected = net(grey.repeat(1, 3, 1, 1))
    assert "summed" in fit_channels(net, 1)
    assert torch.allclose(net(grey), expected, atol=1e-6)
    assert fit_channels(net, 1) == ""
    net = Net().eval()
    expected = net(grey.repeat(1, 3, 1, 1))
    assert "repeated" in fit_channels(net, 5)
    assert torch.allclose(net(grey.repeat(1, 5, 1, 1)), expected, atol=1e-6)


def saved(tmp_path, value, name="weights.pth"):
    torch.save(value, tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.model."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_weights_fit_whatever_stands_before_their_names_and_around_them(tmp_path, prefix, wrapper):
    source, net = Net(), Net()
    tensors = {f"{prefix}{name}": tensor for name, tensor in source.state_dict().items()}
    value = tensors if wrapper is None else {"epoch": 3, wrapper: tensors, "optimizer": {"lr": 0.1}}
    account = load_weights(net, saved(tmp_path, value))
    assert "(100% of the numbers)" in account[0] and (not prefix or f'"{prefix}" before' in account[0])
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in source.state_dict().items())


def test_names_that_lack_what_the_network_puts_before_them_fit_too(tmp_path):
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = Net()

    source, net = Net(), Outer()
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    assert "100%" in load_weights(net, tmp_path / "weights.safetensors")[0]
    assert torch.equal(net.backbone.first.weight, source.first.weight)


def test_the_account_tells_what_did_not_fit_and_why(tmp_path):
    tensors = Net(outputs=5).state_dict()
    del tensors["first.bias"]
    tensors["extra.weight"] = torch.zeros(2)
    account = "; ".join(load_weights(Net(), saved(tmp_path, tensors)))
    assert "of other shapes: head.weight (5x8 in the file, 7x8 here)" in account
    assert "not in the file: first.bias" in account and "in the file alone: extra.weight" in account


def test_files_that_are_no_weights_of_this_network_are_refused(tmp_path):
    with pytest.raises(ModelError, match="0 of"):
        load_weights(Net(), saved(tmp_path, {"other": torch.zeros(3)}))
    with pytest.raises(ModelError, match="no tensors by name"):
        load_weights(Net(), saved(tmp_path, {"epoch": 3}))
    with pytest.raises(ModelError, match="could run code"):
        load_weights(Net(), saved(tmp_path, {"state_dict": Net()}))
    (tmp_path / "broken.pth").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="damaged"):
        load_weights(Net(), tmp_path / "broken.pth")
    with pytest.raises(ModelError, match=r"weights\.pth"):
        load_weights(Net(), tmp_path / "weigths.pth")


@pytest.mark.parametrize(
    "options",
    [{}, {"layers": 2, "channels": 4, "kernel": 5, "dense": 0}, {"pooling": "none", "norm": "none", "dense": [6, 5]}],
)
def test_a_cnn_is_built_as_it_is_asked_and_its_layers_are_stages(options):
    found = made(nets.cnn(IMAGES, 3, **options))
    names = [stage.name for stage in found.stages]
    dense = options.get("dense", 128)
    count = options.get("layers", 3) + (len(dense) if isinstance(dense, list) else bool(dense))
    assert names == ["stem", *(f"block.{number}" for number in range(count))]
    weights = [layer.weight.shape for layer in found.module.modules() if isinstance(layer, nn.Conv2d)]
    assert weights[0][0] == options.get("channels", 32) and weights[0][2] == options.get("kernel", 3)
    assert weights[1][0] == 2 * weights[0][0]


@pytest.mark.parametrize("options", [{"kernel": 2}, {"layers": 0}, {"layers": 2, "channels": [4]}, {"dropout": 1.0}])
def test_a_cnn_that_cannot_be_is_refused(options):
    with pytest.raises(Exception, match=r"kernel|layers|channels|dropout"):
        nets.cnn(IMAGES, 3, **options)
