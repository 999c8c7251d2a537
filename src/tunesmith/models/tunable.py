"""Tunable: the net that is tuned, a pretrained body with its heads by name, addressed by stage."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith import plugins
from tunesmith.errors import ModelError
from tunesmith.models.kinds import Kind, has_statistics, kind_of
from tunesmith.models.pooling import Pooled, output_layer, pool, read_by
from tunesmith.models.pretrained import Pretrained
from tunesmith.models.stages import Stage

HEAD = "label"
"""The name of the one head that today's tasks use."""
STORED = "stored."
"""Inputs whose names begin so are outputs of the frozen prefix, by number: the net is entered behind it."""


class Tunable(nn.Module):
    """`forward(inputs)` -> outputs (rows, num_outputs), in the unit of the target.

    `inputs` are the tensors that the body expects (`input_ids`, `attention_mask`, ...)."""

    def __init__(self, pretrained: Pretrained, head: str, options: Mapping[str, Any], num_outputs: int) -> None:
        super().__init__()
        self.own = head == "own" or bool(pretrained.head_path)
        """Whether the outputs are those of the whole network of its library."""
        self.num_outputs = num_outputs
        self.head_name, self.head_options = head, dict(options)
        self.calling, self.head_path = pretrained.calling, pretrained.head_path
        self.body: nn.Module = pretrained.module if self.own else pretrained.body
        self.heads = nn.ModuleDict()
        if head != "own":
            made = plugins.get("head", head)(pretrained.width, num_outputs, **options)
            if pretrained.head_choice.get("weights") and pretrained.head_choice["options"] == dict(options):
                made.load_state_dict(pretrained.head_choice["weights"])
            if not self.head_path:
                self.heads[HEAD] = made
        if self.head_path:
            # Every net shares the body: the layer that its head was, or the new one, stands in the head's place.
            self.body.set_submodule(self.head_path, made if head != "own" else pretrained.own_layer)
        self.stages = _with_head(self, pretrained)
        self.body_name = next(name for name, module in self.named_modules() if module is pretrained.body)
        self.added, self.fixed_statistics = pretrained.added, pretrained.fixed_statistics
        self.entrance: Any = None
        """The `prefix.Cut` that stored inputs belong to."""
        # What acts at random over the parts below it, and is switched off while any of them is frozen: a switch as a
        # module or its configuration holds it, and what it stands on.
        holders = {
            id(holder): holder for module in self.modules() for holder in (module, getattr(module, "config", None))
        }
        found = [
            (holder, name, getattr(holder, name))
            for holder in holders.values()
            for name in ("layerdrop", "apply_spec_augment")
            if isinstance(getattr(holder, name, None), float | bool)
        ]
        # A body that an earlier net froze has them off: what counts is how they were at first.
        pretrained.switches = self.switches = found if pretrained.switches is None else pretrained.switches

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        live, stored = _parted(inputs)
        if not stored:
            return self.run(live)
        outputs: Tensor = self.entrance.enter(self, live, stored)
        return outputs

    def run(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """The whole net, every stage."""
        output = self.calling.run(self.body, inputs)
        if self.own:
            return self.calling.outputs(output)
        result: Tensor = self.heads[HEAD](*self.calling.states(output, inputs))
        return result

    @property
    def head(self) -> nn.Module | None:
        """The one module that turns a vector a row into outputs; None where the model's own head is more than that."""
        return self.body.get_submodule(self.head_path) if self.head_path else self.heads[HEAD] if self.heads else None

    def features(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """What the head reads: one vector a row, (rows, width)."""
        head = self.head
        if head is None or not (self.head_path or isinstance(head, Pooled)):
            raise ModelError("this head has no pooled features", remedy="use --set model.head=pooled")
        live, stored = _parted(inputs)
        if stored and not live:
            return stored[0].float()
        with self.entrance.entered(self, live, stored) if stored else contextlib.nullcontext():
            if self.head_path:
                return read_by(head, lambda: self.calling.run(self.body, live))
            assert isinstance(head, Pooled)
            return pool(*self.calling.states(self.calling.run(self.body, live), live), head.pooling)

    def answer(self, features: Tensor) -> Tensor:
        """The outputs from what `features` gives."""
        head = self.head
        outputs: Tensor = head.answer(features) if isinstance(head, Pooled) else head(features)  # type: ignore[misc]
        return outputs

    def address(self) -> dict[str, nn.Parameter]:
        """`stage/parameter` -> parameter, in depth order: what a strategy's rules match."""
        named = dict(self.named_parameters())
        return {f"{stage.name}/{name}": named[name] for stage in self.stages for name in stage.parameters}

    def kinds(self) -> dict[str, Kind]:
        """`stage/parameter` -> what it is, in depth order."""
        named, modules = dict(self.named_parameters()), dict(self.named_modules())
        found: dict[str, Kind] = {}
        for stage in self.stages:
            for name in stage.parameters:
                owner, _, own = name.rpartition(".")
                new = id(named[name]) in self.added
                found[f"{stage.name}/{name}"] = "adapter" if new else kind_of(modules[owner], own)
        return found

    def settle(self) -> None:
        """Training mode where something trains; evaluation mode in frozen stages and whatever is all frozen there:
        no dropout, BatchNorm statistics fixed; over a frozen part no layers dropped and no inputs masked."""
        self.train()
        named = dict(self.named_parameters())
        modules = dict(self.named_modules(remove_duplicate=False))  # A pooling layer may stand in several stages.
        some_frozen = False
        for stage in self.stages:
            if not any(named[name].requires_grad for name in stage.parameters):
                some_frozen = True
                for name in stage.modules:
                    modules[name].eval()
        for module in modules.values():
            parameters = list(module.parameters())
            fixed = self.fixed_statistics and has_statistics(module)
            if fixed or (parameters and not any(parameter.requires_grad for parameter in parameters)):
                module.eval()
        for holder, name, value in self.switches:
            holder.__dict__[name] = type(value)(0) if some_frozen else value

    def output_layer(self) -> Any:
        """The last linear layer: where a regression's unit, or a temperature, is folded in."""
        return output_layer(self.head or self.body, self.num_outputs)

    @torch.no_grad()
    def fold_scale(self, mean: float, std: float) -> None:
        """Make the net answer in another unit: outputs become `outputs * std + mean`."""
        layer = self.output_layer()
        if layer.bias is None and mean:
            raise ValueError("the output layer has no bias to hold the mean")
        layer.weight.mul_(std)
        if layer.bias is not None:
            layer.bias.mul_(std).add_(mean)


def _parted(inputs: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[Tensor]]:
    """What the body reads, and what the frozen prefix gave."""
    live = {name: value for name, value in inputs.items() if not name.startswith(STORED)}
    return live, [inputs[name] for name in inputs if name.startswith(STORED)]


def _with_head(net: Tunable, pretrained: Pretrained) -> tuple[Stage, ...]:
    """The body's stages under the names they have in the Tunable, then the head: all that the body does not hold."""
    body = pretrained.body
    prefix = next(name for name, module in net.named_modules() if module is body)
    names = {parameter: name for name, parameter in net.named_parameters()}
    inside = f"{prefix}.{pretrained.head_path}"
    moved = [
        Stage(
            stage.name,
            tuple(f"{prefix}.{name}" for name in stage.modules),
            tuple(names[body.get_parameter(name)] for name in stage.parameters),
        )
        for stage in pretrained.stages
    ]
    held = {name for stage in moved for name in stage.parameters}
    parameters = tuple(name for name in names.values() if name not in held)
    return (*moved, Stage("head", (inside,) if pretrained.head_path else tuple(_beside(net, prefix)), parameters))


def _beside(net: nn.Module, prefix: str) -> Iterator[str]:
    """The outermost modules that neither hold the module called `prefix` nor lie in it."""
    kept: set[str] = {prefix}
    for name, _ in net.named_modules():
        if name.rpartition(".")[0] in kept and name:
            kept.add(name)
        elif not f"{prefix}.".startswith(f"{name}." if name else ""):
            kept.add(name)
            yield name
