"""A Keras model as a torch network: its head, its stages, modes that are obeyed, tensors once; what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import torch
from keras import layers

from tunesmith.errors import MachineError, ModelError
from tunesmith.models.loaders import keras as adapter
from tunesmith.models.loaders import network
from tunesmith.models.loaders.keras import KerasNetwork
from tunesmith.models.prefix import find_cut
from tunesmith.models.tunable import Tunable
from tunesmith.strategies.plan import Phase, Plan, Rule
from tunesmith.training import phases

IMAGES = {"x": torch.randn(2, 3, 12, 10)}
LABELS = ("a", "b", "c")


def sequential(*more):
    """Two blocks of convolution, BatchNorm and dropout, and a head with a softmax."""
    blocks = [
        layer
        for _ in range(2)
        for layer in (layers.Conv2D(4, 3, padding="same"), layers.BatchNormalization(), layers.Dropout(0.5))
    ]
    body = [keras.Input((12, 10, 3)), layers.Conv2D(4, 3, name="first"), *blocks, layers.GlobalAveragePooling2D()]
    return keras.Sequential([*body, layers.Dense(7, activation="softmax", name="top"), *more], name="cnn")


def tunable(model, head="own", options=None, layer=None, images=True):
    net = KerasNetwork(adapter.opened("", model), layer, images=images)
    made = network.of_module(net, IMAGES, LABELS, name="mine", modality="image", head=layer)
    return Tunable(made, head, options or {}, len(LABELS))


def moved(net, *rules):
    phases.open_phase(net, Phase("some", tuple(Rule(match, lr) for match, lr in rules)))
    return net


def test_the_last_dense_layer_is_the_head_and_gives_outputs_that_no_softmax_bends():
    net = tunable(sequential())
    assert net.head_path == "top" and isinstance(net.head, torch.nn.Linear) and net.head.out_features == 3
    outputs = net.eval()(IMAGES)
    assert outputs.shape == (2, 3)
    assert torch.equal(outputs, net.head(net.features(IMAGES)))


def test_a_softmax_behind_the_head_is_left_to_the_loss():
    for end in (layers.Softmax(), layers.Activation("softmax")):
        net = tunable(sequential(end)).eval()
        assert torch.equal(net(IMAGES), net.head(net.features(IMAGES)))


def test_a_convolution_of_one_place_is_a_head_and_a_row_of_its_outputs_is_made_anew():
    body = [layers.Conv2D(4, 3, name="first"), layers.GlobalAveragePooling2D(keepdims=True)]
    model = keras.Sequential([keras.Input((12, 10, 3)), *body, layers.Conv2D(7, 1, name="top"), layers.Reshape((7,))])
    assert tunable(model).head_path == "top" and tunable(model).eval()(IMAGES).shape == (2, 3)


def test_why_a_model_cannot_read_the_rows_is_told_in_the_words_of_keras():
    with pytest.raises(ModelError) as error:
        tunable(sequential(layers.Reshape((7, 1))))
    assert "The total size of the tensor must be unchanged" in str(error.value) and "\x1b" not in str(error.value)


def test_another_layer_can_be_named_as_the_head_and_a_wrong_name_is_told():
    model = sequential(layers.Dense(2, name="last"))
    assert tunable(model).head_path == "last"
    with pytest.raises(ModelError, match='did you mean "last"'):
        KerasNetwork(adapter.opened("", model), "lost")


def test_stages_are_the_layers_with_weights_and_a_norm_goes_with_the_one_before_it():
    found = {
        stage.name: [name.removeprefix("body.") for name in stage.parameters] for stage in tunable(sequential()).stages
    }
    assert list(found) == ["stem", "block.0", "block.1", "head"]
    assert found["stem"] == ["first.kernel", "first.bias"]
    assert [name.rpartition(".")[2] for name in found["block.1"]] == ["kernel", "bias", "gamma", "beta"]
    assert "batch_normalization_1.gamma" in found["block.1"] and found["head"] == ["top.weight", "top.bias"]


def test_the_network_gives_what_the_keras_model_gives():
    model = sequential()
    features = keras.Model(model.inputs, model.layers[-2].output)
    net = tunable(model).eval()
    theirs = features(IMAGES["x"].permute(0, 2, 3, 1), training=False)
    assert torch.allclose(net.features(IMAGES), theirs, atol=1e-6)


def test_frozen_stages_drop_nothing_and_keep_their_statistics_while_those_that_move_do_neither():
    net = moved(tunable(sequential()), ("head/*", 1.0), ("block.1/*", 1.0), ("*", None))
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    between = []
    hook = net.body.get_submodule("dropout").register_forward_hook(lambda _m, _a, output: between.append(output))
    first, second = net(IMAGES), net(IMAGES)
    hook.remove()
    assert torch.equal(*between), "dropout is off below, where all is frozen"
    assert not torch.equal(first, second), "dropout is on above"
    changed = {name for name, buffer in net.named_buffers() if not torch.equal(buffer, before[name])}
    assert changed == {f"body.batch_normalization_1.moving_{what}" for what in ("mean", "variance")}


def test_a_layer_made_of_layers_hands_the_mode_on_that_its_stage_has():
    inputs = keras.Input((12, 10, 3))
    states = layers.Reshape((120, 3))(inputs)
    states = Nested(name="nested")(layers.Dense(4, name="first")(states))
    outputs = layers.Dense(2, name="top")(layers.Flatten()(layers.Dense(4, name="second")(states)))
    net = moved(tunable(keras.Model(inputs, outputs)), ("head/*", 1.0), ("*", None))
    assert net.training and torch.equal(net(IMAGES), net(IMAGES))
    assert not torch.equal(*(moved(net, ("*", 1.0))(IMAGES) for _ in range(2)))


@keras.saving.register_keras_serializable("tests")
class Nested(layers.Layer):
    """A layer that hands no mode on to its dropout."""

    def __init__(self, **options):
        super().__init__(**options)
        self.dropout = layers.Dropout(0.5)

    def call(self, states):
        return self.dropout(states)


def test_dropout_with_a_seed_of_its_own_follows_torch():
    model = keras.Sequential(
        [keras.Input((12, 10, 3)), layers.Flatten(), layers.Dense(4), layers.Dropout(0.5, seed=1), layers.Dense(2)]
    )
    net = moved(tunable(model), ("*", 1.0))
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(net(IMAGES))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_statistics_and_seeds_are_never_trained_and_every_tensor_is_there_once():
    model = sequential()
    model.trainable = False  # As people write it before they train a head in Keras.
    net = tunable(model)
    plan = Plan((Phase("full", (Rule("*", 1.0),)),))
    assert phases.moving(net, plan) == {name for name, _ in net.named_parameters()}
    moved(net, ("*", 1.0))
    addresses = [address for group in phases.groups(net, plan.phases[0]) for address in group["addresses"]]
    assert len(addresses) == 6 + 4 + 2 and not any("moving" in address or "seed" in address for address in addresses)
    tensors = [tensor.data_ptr() for tensor in net.state_dict().values()]
    assert len(set(tensors)) == len(tensors) == 12 + 4


def test_names_do_not_count_up_from_one_model_to_the_next():
    assert list(tunable(sequential()).state_dict()) == list(tunable(sequential()).state_dict())


def test_statistics_follow_the_network_to_another_type_and_back():
    net = tunable(sequential())
    layer = net.body.model.layers[2]
    net.double()
    net.float()
    net.get_buffer("body.batch_normalization.moving_mean").fill_(3.0)
    assert torch.equal(layer.moving_mean.value.data, torch.full((4,), 3.0))


def test_statistics_of_an_average_are_recomputed_over_all_batches_alike():
    from tunesmith.training.averaging import _recompute_statistics

    net = moved(tunable(sequential()), ("*", 1.0))
    batches = [{"x": torch.randn(5, 3, 12, 10)} for _ in range(3)]
    _recompute_statistics(net, lambda: batches)
    seen = [net.body.get_submodule("first")(batch["x"].permute(0, 2, 3, 1)) for batch in batches]
    seen = [net.body.get_submodule("conv2d")(states).mean((0, 1, 2)) for states in seen]
    mean = net.get_buffer("body.batch_normalization.moving_mean")
    assert torch.allclose(mean, torch.stack(seen).mean(0), atol=1e-6)
    net(IMAGES)
    assert net.body.model.layers[2].momentum == 0.99, "and the layer moves at its own pace again"


def test_frozen_stages_can_be_skipped():
    net = moved(tunable(sequential()), ("head/*", 1.0), ("block.1/*", 1.0), ("*", None))
    probes = [{"x": torch.randn(rows, 3, 12, 10)} for rows in (2, 3)]
    assert find_cut(net, probes).stages == ("stem", "block.0")
    assert find_cut(moved(net, ("head/*", 1.0), ("*", None)), probes).forms == ("row",)


def test_a_head_of_several_layers_takes_the_place_of_the_last_one():
    net = tunable(sequential(), "pooled", {"layers": 1, "hidden": 5})
    assert net.eval()(IMAGES).shape == (2, 3) and net.head.hidden[0].out_features == 5


def test_models_inside_models_and_layers_called_twice_are_whole():
    inner = keras.Sequential(
        [keras.Input((12, 10, 3)), layers.Conv2D(4, 3, name="inside"), layers.BatchNormalization()]
    )
    shared = layers.Conv2D(4, 1, name="shared")
    inputs = keras.Input((12, 10, 3))
    states = shared(shared(inner(inputs)))
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalMaxPooling2D()(states)))
    net = tunable(model)
    names = [name for stage in net.stages for name in stage.parameters]
    assert len(names) == len(set(names)) == 8
    assert [stage.name for stage in net.stages] == ["stem", "block.0", "head"]


@pytest.mark.parametrize("shape", [(12, 10), (120,)])
def test_grey_images_fit_inputs_without_an_axis_for_channels(shape):
    model = keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(2)])
    expected = {"size": [12, 10], "channels": 1} if len(shape) == 2 else {}
    assert adapter.expects(model) == expected
    net = KerasNetwork(adapter.opened("", model), images=True)
    assert net(torch.zeros(3, 1, 12, 10)).shape == (3, 2)


def test_size_channels_and_the_range_of_pixels_are_read_from_the_model():
    assert adapter.expects(sequential()) == {"size": [12, 10], "channels": 3}
    scaled = keras.Sequential([keras.Input((None, None, 1)), layers.Rescaling(1 / 255), layers.Dense(2)])
    assert adapter.expects(scaled) == {"channels": 1, "mean": [0.0], "std": [1 / 255]}
    shares = keras.Sequential([keras.Input((8, 8, 1)), layers.Normalization(mean=0.5, variance=0.1), layers.Dense(2)])
    assert adapter.expects(shares)["std"] == [1.0]


def test_what_normalization_learnt_is_there_when_weights_are_loaded():
    norm = layers.Normalization()
    model = keras.Sequential([keras.Input((4,)), norm, layers.Dense(2)])
    norm.adapt(np.arange(40.0).reshape(10, 4))
    net = KerasNetwork(adapter.opened("", model))
    again = KerasNetwork(adapter.of_architecture(net.architecture, "run"))
    again.double().float()  # What it computed of its first weights lies in other memory now.
    again.load_state_dict(net.state_dict())
    rows = torch.randn(3, 4)
    assert torch.equal(net(rows), again(rows))


def test_what_is_no_safe_keras_file_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"")
    for name in ("old.h5", "old.hdf5", "saved"):
        assert adapter.is_file(str(tmp_path / name))
        with pytest.raises(ModelError, match=r'model\.save\("model\.keras"\)'):
            adapter.opened(str(tmp_path / name))
    with pytest.raises(ModelError, match="no such file"):
        adapter.opened(str(tmp_path / "model.keras"))
    (tmp_path / "model.keras").write_bytes(b"PK no zip")
    with pytest.raises(ModelError, match="damaged"):
        adapter.opened(str(tmp_path / "model.keras"))
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as file:
        file.writestr("config.json", "{")
    with pytest.raises(ModelError, match="cannot be opened by Keras"):
        adapter.opened(str(tmp_path / "model.keras"))


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
@pytest.mark.parametrize("kind", ["layer", "activation"])
def test_code_in_a_model_is_refused_in_a_file_and_in_memory(kind, tmp_path):
    code = (
        layers.Lambda(lambda rows: rows * 2) if kind == "layer" else layers.Dense(4, activation=lambda rows: rows * 2)
    )
    model = keras.Sequential([keras.Input((4,)), code, layers.Dense(2)])
    model.save(tmp_path / "model.keras")
    for given in (None, model):
        with pytest.raises(ModelError, match=r"code in a file|activation function"):
            adapter.opened(str(tmp_path / "model.keras"), given)


def test_code_in_a_file_does_not_run(tmp_path, monkeypatch):
    code = layers.Lambda(lambda rows: rows * len(__import__("os").environ.setdefault("RAN", "1")))
    keras.Sequential([keras.Input((4,)), code, layers.Dense(2)]).save(tmp_path / "model.keras")
    monkeypatch.delenv("RAN")
    with pytest.raises(ModelError, match="code in a file"):
        adapter.opened(str(tmp_path / "model.keras"))
    assert "RAN" not in os.environ


def test_a_layer_that_keras_does_not_know_is_named(tmp_path):
    class Own(layers.Layer):
        def call(self, rows):
            return rows

    keras.Sequential([keras.Input((4,)), Own(), layers.Dense(2)]).save(tmp_path / "model.keras")
    with pytest.raises(ModelError, match="Keras does not know: Own"):
        adapter.opened(str(tmp_path / "model.keras"))


def test_a_model_whose_layers_cannot_be_told_apart_is_refused():
    with pytest.raises(ModelError, match="no built Sequential"):
        adapter.opened("", keras.Sequential([layers.Dense(2)]))


def test_a_model_without_a_head_is_told_how_to_get_one():
    with pytest.raises(ModelError, match=r"end it with keras\.layers\.Dense"):
        KerasNetwork(adapter.opened("", keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3)])))


def test_another_backend_is_told_with_what_to_set(tmp_path, monkeypatch):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    model.save(tmp_path / "model.keras")
    lines = f"from tunesmith.models.loaders import keras; keras.opened({str(tmp_path / 'model.keras')!r})"
    environment = os.environ | {"KERAS_BACKEND": "numpy"}
    told = subprocess.run([sys.executable, "-c", lines], env=environment, capture_output=True, text=True)
    assert "keras works with numpy here" in told.stderr and "KERAS_BACKEND=torch" in told.stderr
    monkeypatch.setattr(keras.backend, "backend", lambda: "tensorflow")
    with pytest.raises(MachineError, match="keras works with tensorflow here"):
        adapter.opened("", model)


def test_the_backend_is_set_where_nobody_did_and_keras_is_not_imported_before_it_is_needed():
    lines = (
        "import sys, tunesmith; assert 'keras' not in sys.modules;"
        "from tunesmith.models.loaders.keras import library; print(library('this').backend.backend())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    told = subprocess.run([sys.executable, "-c", lines], env=environment, capture_output=True, text=True)
    assert told.stdout.strip() == "torch", told.stderr
