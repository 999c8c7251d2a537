"""A Keras model as Keras saves it: `model.keras`, which reads pixels of 0 to 255 and gives probabilities or values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tunesmith.data.encoded import Encoder
from tunesmith.data.encoders.image import ImageEncoder
from tunesmith.models.loaders.keras import KerasNetwork, library
from tunesmith.models.pooling import Pooled

ENDS = {"classification": "softmax", "multilabel": "sigmoid"}
"""Task -> the activation that makes probabilities of its outputs."""


def write(network: KerasNetwork, head: Any, task: str, encoder: Encoder, folder: Path) -> None:
    """Write the model with its new head; normalisation stands in front, and the task's activation at the end."""
    keras = library("model.keras")
    with keras.device("cpu"):
        model = _with_head(keras, network, head)
        inputs = model.inputs[0] if len(model.inputs) == 1 else model.input
        outputs = model.outputs[0]
        if front := _normalisation(keras, network, encoder):
            inputs = outputs = keras.Input(network.shape)
            for layer in (*front, model):
                outputs = layer(outputs)
        outputs = keras.layers.Flatten()(outputs) if len(outputs.shape) > 2 else outputs
        outputs = keras.layers.Activation(ENDS[task])(outputs) if task in ENDS else outputs
        keras.Model(inputs, outputs).save(folder / "model.keras")


def _normalisation(keras: Any, network: KerasNetwork, encoder: Encoder) -> list[Any]:
    """The layers that make of pixels what the encoder does; none where that leaves them as they are."""
    if not isinstance(encoder, ImageEncoder):
        return []
    mean, variance = list(encoder.mean), [std**2 for std in encoder.std]
    if not any(mean) and all(abs(255 * std - 1) < 1e-6 for std in encoder.std):
        return []
    axis = None if len(mean) == 1 else -1 if network.channels_last else 1
    moments = (mean[0], variance[0]) if axis is None else (mean, variance)
    return [keras.layers.Rescaling(1 / 255), keras.layers.Normalization(axis, *moments)]


def _with_head(keras: Any, network: KerasNetwork, head: Any) -> Any:
    """The model anew, with the head in its place and without the activations that stood behind it."""
    replaced, silent = network.replaced
    copies: list[tuple[Any, list[Any]]] = []

    def copied(layer: Any) -> Any:
        if layer is replaced:
            made, linear = _head(keras, head, layer.name)
            copies.extend((copy, [one.weight.T, *([] if one.bias is None else [one.bias])]) for copy, one in linear)
        elif any(layer is one for one in silent):
            made = keras.layers.Activation("linear", name=layer.name)
        else:
            made = type(layer).from_config(layer.get_config())
            if hasattr(layer, "get_weights"):  # An addition is an operation of the graph, and no layer.
                copies.append((made, layer.get_weights()))
        return made

    model = keras.models.clone_model(network.model, clone_function=copied, recursive=True)
    for made, weights in copies:
        made.set_weights([weight.detach() if isinstance(weight, Tensor) else weight for weight in weights])
    return model


def _head(keras: Any, head: Any, name: str) -> tuple[Any, list[tuple[Any, nn.Linear]]]:
    """A head of torch as layers of Keras, and each of them with the linear layer whose weights it takes."""
    if not isinstance(head, Pooled):
        made = keras.layers.Dense(head.out_features, name=name, use_bias=head.bias is not None)
        return made, [(made, head)]
    linear = [*head.hidden, head.output]
    layers = [keras.layers.Dense(one.out_features, "tanh" if one is not head.output else None) for one in linear]
    return keras.Sequential(layers, name=name), list(zip(layers, linear, strict=True))
