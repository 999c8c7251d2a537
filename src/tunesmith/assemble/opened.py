"""Rows + recipe -> the pretrained model, and the encoder that makes of a row what the model reads."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_model

from tunesmith.assemble.feeds import PLURALS
from tunesmith.assemble.rows import Objects, Rows
from tunesmith.data.encoded import Encoder
from tunesmith.data.encoders import image, sound, table
from tunesmith.data.encoders.tensor import TensorEncoder
from tunesmith.data.encoders.text import TextEncoder
from tunesmith.data.items import Modality
from tunesmith.errors import ModelError, RecipeError
from tunesmith.models.loaders import keras, named, network, transformers
from tunesmith.models.loaders.channels import fit_channels
from tunesmith.models.loaders.weights import load_weights
from tunesmith.models.pretrained import Pretrained
from tunesmith.models.tabular import carry
from tunesmith.models.tunable import Tunable
from tunesmith.recipe.schema import Choice, Model, Recipe
from tunesmith.run import Run, is_run
from tunesmith.seeds import fold, seed_everything
from tunesmith.tasks.task import Target

ENCODERS: dict[str, Callable[[dict[str, Any]], Encoder]] = {
    "image": image.ImageEncoder.from_json,
    "sound": sound.SoundEncoder.from_json,
    "table": table.TableEncoder.from_json,
    "tensor": TensorEncoder.from_json,
}
"""Modality -> the encoder that a Run kept."""


def reads(recipe: Recipe, objects: Objects) -> Callable[[Modality], Modality]:
    """What the columns hold -> what a row is to the recipe's model, as far as its name tells."""
    model, run = recipe.model, network_run(recipe.model.name)
    if run is not None:
        kept = cast(Modality, run.network["encoder"]["modality"])
        return lambda _columns: kept
    built = objects.model is not None or named.matches(model.name)
    known = cast("Modality | None", named.modality_of(model.name))

    def modality(columns: Modality) -> Modality:
        if known is not None:
            return known
        if columns == "text" and built:
            return "table"
        if columns in ("image", "sound") and not built:
            return cast(Modality, transformers.modality_of(model.name, model.revision, model.trust))
        return columns

    return modality


def opened(recipe: Recipe, objects: Objects, rows: Rows, known: Encoder | None = None) -> tuple[Pretrained, Encoder]:
    """The model with a head for the rows' labels, and the encoder of its inputs, unless that is `known`."""
    model = recipe.model
    seed_everything(fold(recipe.seed, "head"))
    if (run := network_run(model.name)) is not None:
        return _tuned_further(run, objects, rows)
    if rows.modality not in ("text", "sound") and recipe.data.max_length != "auto":
        what = f'"data.max_length" has no effect on {PLURALS[rows.modality]}'
        raise RecipeError(what, where="recipe", remedy="leave it out")
    if objects.model is None and not named.matches(model.name):
        unread = ("weights", "options", *(["expects"] if rows.modality != "sound" else []))
        if idle := [key for key in unread if getattr(model, key)]:
            what = f'"model.{idle[0]}" has no effect on a model of the transformers library'
            raise RecipeError(what, where="recipe", remedy="leave it out")
        pretrained = transformers.load(
            model.name, rows.target.labels, rows.task.problem_type, revision=model.revision, trust=model.trust
        )
        if pretrained.modality != rows.modality:
            what = f"reads {PLURALS[pretrained.modality]}, and the data are {PLURALS[rows.modality]}"
            remedy = "give another model, or say which columns it reads with --set 'data.inputs=[\"NAME\"]'"
            raise ModelError(what, where=model.name, remedy=remedy)
        return pretrained, known or encoder_of(pretrained, recipe, rows)
    head = recipe.model.head
    layer = head.options.get("layer") if isinstance(head, Choice) and head.name == "own" else None
    if (source := keras.opened(model.name, objects.model)) is not None:
        encoder, module, told = _of_keras(source, recipe, rows, layer, known)
    else:
        encoder = known or _stated_encoder(recipe, objects, rows)
        module, told = _module(model, objects.model, encoder, rows.target.num_outputs, pretrained=True)
    pretrained = network.of_module(
        module, encoder.blank(2), rows.target.labels, name=model.name, modality=rows.modality, head=layer, told=told
    )
    return pretrained, encoder


def encoder_of(pretrained: Pretrained, recipe: Recipe, rows: Rows | None = None) -> Encoder:
    """The encoder of a model of the transformers library; `rows` tell what an unresolved recipe does not."""
    if pretrained.modality == "image":
        channels = getattr(pretrained.module.config, "num_channels", 3)
        return image.of_processor(pretrained.processor, "pixel_values", channels)
    asked = recipe.data.max_length
    if pretrained.modality == "sound":
        train = None if rows is None else (rows.table.take(rows.split.train), rows.inputs[0])
        config = pretrained.module.config
        return sound.of_extractor(pretrained.processor, config, recipe.model.expects, _seconds(recipe), train)
    if isinstance(asked, float):
        raise RecipeError(f"data.max_length = {asked:g}, and texts are counted in whole tokens")
    most = min(pretrained.max_positions, 512) if asked == "auto" else asked
    if most > pretrained.max_positions:
        what = f"data.max_length = {most}, but {recipe.model.name} reads {pretrained.max_positions} tokens at most"
        raise RecipeError(what, remedy="leave data.max_length out")
    return TextEncoder(pretrained.processor, most)


def rebuilt(run: Run, target: Target, given: torch.nn.Module | None = None) -> tuple[Pretrained, Encoder]:
    """The network of a Run that is no transformers folder, without its weights, and its encoder."""
    kept = run.network
    model = Model.model_validate(kept["model"])
    encoder = ENCODERS[kept["encoder"]["modality"]](kept["encoder"])
    if "architecture" in kept:
        source = keras.of_architecture(kept["architecture"], str(run.path))
        module: torch.nn.Module = keras.KerasNetwork(source, kept["layer"], images=encoder.modality == "image")
    elif model.name.startswith(named.MEMORY) and given is None:
        what = f"was made from a network in memory ({model.name.removeprefix(named.MEMORY)})"
        remedy = "hand it over in Python: tunesmith.load(RUN, model=NETWORK)"
        raise ModelError(what, where=str(run.path), remedy=remedy)
    else:
        module, _ = _module(model, given, encoder, target.num_outputs, pretrained=False)
    pretrained = network.of_module(
        module, encoder.blank(2), target.labels, name=model.name, modality=encoder.modality, head=kept["layer"]
    )
    return pretrained, encoder


def _tuned_further(run: Run, objects: Objects, rows: Rows) -> tuple[Pretrained, Encoder]:
    """The network of an earlier Run with its weights; its head is kept where it was trained for the same labels."""
    measured = run.measured
    before, head = Target.from_json(measured["target"]), measured["head"]
    pretrained, encoder = rebuilt(run, before, objects.model)
    net = Tunable(pretrained, head["name"], head["options"], before.num_outputs)
    load_model(net, run.weights)
    labels, columns = rows.target.labels, ""
    if isinstance(encoder, table.TableEncoder):
        now = table.learnt(rows.table, rows.inputs, rows.split.train, {}, known=encoder)
        columns = f"; {table.account(encoder, now)}"
        if now != encoder:
            pretrained, net = _of_other_columns(run, net, table.shared(encoder, now), now, before)
        encoder = now
    pretrained.told = f"loaded {run.path} ({type(pretrained.module).__name__}){columns}"
    pretrained.origin = network.origin(str(run.path), pretrained.module, pretrained.head_path)
    # A number of another name is of another unit: what the head says of it would mean nothing.
    if sorted(before.labels) == sorted(labels) and (rows.task.name != "regression" or before.columns == rows.columns):
        pretrained.labels = before.labels
        if head["name"] != "own" and net.head is not None:
            pretrained.head_choice = {"options": head["options"], "weights": net.head.state_dict()}
        pretrained.told += "; its head is kept" if columns else "; nothing newly made"
    else:
        pretrained.own_layer = network.anew(pretrained.own_layer, len(labels))
        pretrained.told += f"; newly made: {pretrained.head_path}"
    return pretrained, encoder


def _of_other_columns(
    run: Run, net: Tunable, shared: dict[str, list[tuple[int, int]]], encoder: Encoder, before: Target
) -> tuple[Pretrained, Tunable]:
    """The network of an earlier Run for columns that differ: what columns have in common keeps its weights."""
    model = Model.model_validate(run.network["model"])
    if not model.name.startswith("new:"):
        what = f"{model.name} was tuned on other columns, and it does not tell which weights belong to which"
        raise ModelError(what, where=str(run.path), remedy="give its own columns, or use new:mlp or new:ft_transformer")
    module = named.build(model, encoder.blank(2), before.num_outputs, pretrained=False)
    pretrained = network.of_module(
        module, encoder.blank(2), before.labels, name=model.name, modality="table", head=run.network["layer"]
    )
    made = Tunable(pretrained, net.head_name, net.head_options, before.num_outputs)
    carry(net.state_dict(), made, shared)
    return pretrained, made


def network_run(name: str) -> Run | None:
    """The Run of this name, if it keeps a network that is no transformers folder."""
    path = Path(name)
    run = Run(path) if is_run(path) else None
    return run if run is not None and (path / "network.json").is_file() else None


def _stated_encoder(recipe: Recipe, objects: Objects, rows: Rows) -> Encoder:
    """The encoder that the network's library states, or that the training rows tell."""
    model = recipe.model
    stated = named.inputs_of(model.name) if objects.model is None else None
    if stated is not None:
        return image.stated(stated, model.expects)
    return _learnt_encoder(recipe, model.expects, objects.model, rows)


def _learnt_encoder(recipe: Recipe, expects: dict[str, Any], given: torch.nn.Module | None, rows: Rows) -> Encoder:
    """The encoder that the training rows tell, but for what is stated."""
    if rows.modality == "image":
        return image.learnt(rows.table, rows.inputs, rows.split.train, expects)
    if rows.modality == "sound":
        return sound.learnt(rows.table, rows.inputs, rows.split.train, expects, _seconds(recipe))
    if rows.modality == "tensor":
        return TensorEncoder.learnt(rows.table, rows.inputs)
    if rows.modality == "table":
        flat = not recipe.model.name.startswith("new:") and not _takes_columns(given)
        return table.learnt(rows.table, rows.inputs, rows.split.train, expects, flat=flat)
    what = f"reads no {PLURALS[rows.modality]}"
    remedy = "give images, sounds, tables, tensors, or another model"
    raise ModelError(what, where=recipe.model.name, remedy=remedy)


def _seconds(recipe: Recipe) -> float | None:
    """What the recipe says of the longest sound."""
    asked = recipe.data.max_length
    return None if asked == "auto" else float(asked)


def _takes_columns(given: torch.nn.Module | None) -> bool:
    """Whether a person's own network names numbers and categories apart, as the inputs of its forward pass."""
    return given is not None and bool({"numbers", "categories"} & {*inspect.signature(given.forward).parameters})


def _of_keras(
    source: Any, recipe: Recipe, rows: Rows, layer: str | None, encoder: Encoder | None
) -> tuple[Encoder, torch.nn.Module, list[str]]:
    """A Keras model as a network, the encoder of its inputs, and what there is to tell of the two."""
    model, own = recipe.model, keras.expects(source)
    if idle := [key for key in ("weights", "options") if getattr(model, key)]:
        what = f'"model.{idle[0]}" has no effect on a Keras model: it brings its own'
        raise RecipeError(what, where="recipe", remedy="leave it out")
    stated = {**own, **model.expects} if rows.modality == "image" else model.expects
    encoder = encoder or _learnt_encoder(recipe, stated, source, rows)
    told = ["its own layers scale the pixels"] if "std" in own and "std" not in model.expects else []
    return encoder, keras.KerasNetwork(source, layer, images=rows.modality == "image"), told


def _module(
    model: Model, given: torch.nn.Module | None, encoder: Encoder, num_outputs: int, *, pretrained: bool
) -> tuple[torch.nn.Module, list[str]]:
    """The network, with the account of a file of weights where one is named; a person's own is copied first."""
    if given is not None:
        module = copy.deepcopy(given)
    else:
        module = named.build(model, encoder.blank(2), num_outputs, pretrained=pretrained)
    told = load_weights(module, model.weights) if pretrained and model.weights is not None else []
    if isinstance(encoder, image.ImageEncoder):
        told += filter(None, [fit_channels(module, encoder.channels)])
    return module, told


def with_places(recipe: Recipe, objects: Objects) -> Recipe:
    """The recipe with whole paths, so that a Run can be resumed and read from anywhere."""

    def whole(text: str | None) -> str | None:
        return str(Path(text).expanduser().resolve()) if text is not None and Path(text).expanduser().exists() else text

    data = recipe.data
    places = {"valid": whole(data.valid), "test": whole(data.test), "unlabelled": whole(data.unlabelled)}
    places["source"] = data.source if objects.data is not None else whole(data.source)
    model = recipe.model.model_copy(update={"name": whole(recipe.model.name), "weights": whole(recipe.model.weights)})
    judging = recipe.evaluate.model_copy(update={"source_task": whole(recipe.evaluate.source_task)})
    return recipe.model_copy(update={"data": data.model_copy(update=places), "model": model, "evaluate": judging})
