"""The frozen prefix: where a net can be entered in the middle, so that leading frozen stages need not run again.

The model's own forward pass runs; the frozen modules in it are replaced by ones that return what they returned before.
What later parts do not read of it (found by giving NaN in its place) is not kept, only its shape."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from tunesmith.models.pooling import Pooled
from tunesmith.models.pretrained import PLACES
from tunesmith.models.stages import evaluating
from tunesmith.models.tunable import Tunable

Form = Literal["row", "tokens"]
"""How an output is kept: one array a row, or one a row and token, only of the tokens that count."""
MOST_LEAVES = 4
"""A model whose later stages read more than so many outputs of the prefix is left uncached."""


class Uncacheable(Exception):
    """Why a prefix cannot be kept, in words."""


class _Reached(Exception):
    """The prefix has run: the rest of the forward pass is not needed."""


@dataclass(frozen=True)
class Leaf:
    """One tensor among the outputs of a module: which, its shape with "rows" and "tokens" by name (None: what follows
    from neither), its dtype, and how often the module is called in a forward pass."""

    module: str
    index: int
    shape: tuple[int | str | None, ...]
    dtype: torch.dtype
    calls: int = 1

    @property
    def form(self) -> Form | None:
        """How the tensor can be kept row by row, or None."""
        if self.shape[:1] != ("rows",) or not self.dtype.is_floating_point or None in self.shape:
            return None
        ragged = [place for place, size in enumerate(self.shape) if size == "tokens"]
        return "row" if not ragged else "tokens" if ragged == [1] else None

    @property
    def shared(self) -> bool:
        """Whether all rows have it in common, such as T5's bias between places; one for fewer tokens is its corner."""
        return "rows" not in self.shape and None not in self.shape and self.dtype.is_floating_point

    def blank(self, rows: int, tokens: int, device: torch.device) -> Tensor:
        """A tensor of this shape that nobody reads; a size that follows from neither rows nor tokens (inside the
        convolutions of wav2vec 2.0) is 1, and the net is tried with that."""
        sizes = [rows if size == "rows" else tokens if size == "tokens" else size for size in self.shape]
        # Not a view of one zero: wav2vec 2.0 writes into the states that it masks.
        return torch.zeros([1 if size is None else int(size) for size in sizes], dtype=self.dtype, device=device)


@dataclass(frozen=True)
class Cut:
    """Where the net is entered: behind its first `depth` stages."""

    depth: int
    stages: tuple[str, ...]
    """The frozen stages that need not run."""
    kept: tuple[Leaf, ...]
    """What later parts read; empty for the pooled features of a wholly frozen body."""
    forms: tuple[Form, ...]
    shapes: tuple[tuple[int, ...], ...]
    """Of each kept array, for one row or token."""
    shared: Mapping[tuple[str, int], Tensor]
    """Module and index -> what all rows have in common, for as many tokens as there are."""
    outputs: Mapping[str, tuple[Any, tuple[Leaf | None, ...]]]
    """Replaced module -> the structure of its output and its tensors (None: what is no tensor is left out)."""

    @torch.no_grad()
    def compute(self, net: Tunable, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """What is kept of some rows, from the live prefix; what comes after it does not run."""
        if not self.kept:
            return [net.features(inputs)]
        with (
            _captured(net, {leaf.module: leaf.calls for leaf in self.kept}, stop=True) as found,
            contextlib.suppress(_Reached),
        ):
            net.run(inputs)
        return [pytree.tree_leaves(found[leaf.module][-1])[leaf.index] for leaf in self.kept]

    def enter(self, net: Tunable, inputs: Mapping[str, Tensor], stored: Sequence[Tensor]) -> Tensor:
        """The net's outputs from what was kept of the rows of `inputs`."""
        if not self.kept:
            return net.answer(stored[0].float())
        with self.entered(net, inputs, stored):
            return net.run(inputs)

    @contextlib.contextmanager
    def entered(self, net: Tunable, inputs: Mapping[str, Tensor], stored: Sequence[Tensor]) -> Iterator[None]:
        """The net with its frozen modules giving what was kept of the rows of `inputs`."""
        values = {(leaf.module, leaf.index): value for leaf, value in zip(self.kept, stored, strict=True)}
        rows, tokens = _extent(inputs)
        device = next(iter(inputs.values())).device
        made = {}
        for name, (spec, leaves) in self.outputs.items():
            filled: list[Any] = []
            for index, leaf in enumerate(leaves):
                value = values.get((name, index))
                if leaf is None:
                    filled.append(None)
                elif value is not None:
                    filled.append(value.to(leaf.dtype))
                elif (common := self.shared.get((name, index))) is not None:
                    filled.append(common[tuple(slice(tokens if size == "tokens" else None) for size in leaf.shape)])
                else:
                    filled.append(leaf.blank(rows, tokens, device))
            made[name] = pytree.tree_unflatten(filled, spec)
        with _replaced(net, made):
            yield


def frozen_depth(net: Tunable) -> int:
    """How many leading stages of the body are wholly frozen."""
    named = dict(net.named_parameters())
    for depth, stage in enumerate(net.stages[:-1]):
        if any(named[name].requires_grad for name in stage.parameters):
            return depth
    return len(net.stages) - 1


def find_cut(net: Tunable, probes: Sequence[Mapping[str, Tensor]]) -> Cut:
    """The deepest point at which the net can be entered, tried on two batches of unlike shape (2 and 3 rows).

    Raises Uncacheable with the reason where the frozen stages cannot be skipped without changing the result: entered
    there, the outputs must be equal to the bit, and another row's outputs must not."""
    depth = frozen_depth(net)
    names = tuple(stage.name for stage in net.stages[:depth])
    if not any(name.startswith("block.") for name in names):
        raise Uncacheable("no block is frozen from the bottom up")
    with evaluating(net), torch.no_grad():
        if depth == len(net.stages) - 1 and (whole := _features(net, depth, names, probes)) is not None:
            return whole
        cut = _search(net, depth, names, probes)
        try:
            _verify(net, cut, probes)
        except (RuntimeError, ValueError, IndexError, TypeError):
            raise Uncacheable("a frozen stage gives a shape that does not follow from rows and tokens") from None
        return cut


def _features(net: Tunable, depth: int, names: tuple[str, ...], probes: Sequence[Mapping[str, Tensor]]) -> Cut | None:
    """The cut before the head, where that reads one vector a row and nothing changes its outputs."""
    if not (net.head_path or isinstance(net.head, Pooled)):
        return None
    shape = tuple(net.features(probes[0]).shape[1:])
    cut = Cut(depth, names, (), ("row",), (shape,), {}, {})
    try:
        _verify(net, cut, probes)
    except (Uncacheable, RuntimeError):
        return None  # Something comes after the head, as in SqueezeNet: the net is entered in the usual way.
    return cut


def _search(net: Tunable, depth: int, names: tuple[str, ...], probes: Sequence[Mapping[str, Tensor]]) -> Cut:
    modules = _outermost(net, depth)
    seen: list[dict[str, list[Any]]] = []
    for inputs in probes:
        with _captured(net, dict.fromkeys(modules, 1)) as found:
            expected = net.run(inputs)
        seen.append({name: found[name] for name in modules if name in found})
    found = seen[-1]
    outputs = {name: _described(name, [one[name] for one in seen], probes) for name in found}
    blocks = _blocks(net, depth)
    live: set[str] = set()
    needed: list[Leaf] = []
    shared = {}
    for name, (_, leaves) in outputs.items():
        for leaf in filter(None, leaves):
            tried = _run_with(net, probes[-1], {n: found[n][-1] for n in found if n not in live}, leaf)
            if tried is not None and torch.equal(tried, expected):
                continue
            if name not in blocks and (leaf.form is None or leaf.calls > 1):
                live.add(name)
                break
            if leaf.shared:
                shared[name, leaf.index] = pytree.tree_leaves(found[name][-1])[leaf.index]
            elif leaf.form is None:
                raise Uncacheable("its blocks pass on more than states of rows and tokens")
            else:
                needed.append(leaf)
    if not needed or len(needed) > MOST_LEAVES:
        raise Uncacheable("its later stages read the outputs of too many frozen ones")
    replaced = {name: output for name, output in outputs.items() if name not in live}
    return Cut(
        depth,
        names,
        tuple(needed),
        tuple(leaf.form for leaf in needed if leaf.form),
        tuple(tuple(int(size) for size in leaf.shape if isinstance(size, int)) for leaf in needed),
        shared,
        replaced,
    )


def _verify(net: Tunable, cut: Cut, probes: Sequence[Mapping[str, Tensor]]) -> None:
    for inputs in probes:
        expected, stored = net.run(inputs), cut.compute(net, inputs)
        if not torch.equal(cut.enter(net, inputs, stored), expected):
            raise Uncacheable("entered behind its frozen stages it gives other outputs")
        if torch.equal(cut.enter(net, inputs, [value.roll(1, 0) for value in stored]), expected):
            raise Uncacheable("it gives the same outputs whatever its frozen stages gave")


def digest(net: Tunable, cut: Cut) -> str:
    """What the kept outputs depend on beside the row: the frozen weights, the network's form, where it is cut."""
    if not cut.kept:
        what = getattr(net.head, "pooling", "") if not net.head_path else net.head_path
        return digest_of_body(net.get_submodule(net.body_name), what, net.head if net.head_path else None)
    body = f"{net.body_name}."
    frozen = {name.removeprefix(body) for stage in net.stages[: cut.depth] for name in stage.parameters}
    inside = tuple(f"{name.removeprefix(body)}." for stage in net.stages[: cut.depth] for name in stage.modules)
    kept = [(leaf.module, leaf.index) for leaf in cut.kept]
    return _digest(net.get_submodule(net.body_name), frozen, inside, [cut.stages, kept])


def digest_of_body(body: nn.Module, what: str, but: nn.Module | None = None) -> str:
    """What a vector a row depends on that is made by all of `body`, or all but one module of it: a pooling of its
    states, or whatever `what` names."""
    left_out = set() if but is None else {id(parameter) for parameter in but.parameters()}
    frozen = {name for name, parameter in body.named_parameters() if id(parameter) not in left_out}
    return _digest(body, frozen, ("",), ["features", what])


def _digest(body: nn.Module, frozen: set[str], inside: tuple[str, ...], more: list[Any]) -> str:
    import transformers

    found = hashlib.blake2b(digest_size=16)
    for name, tensor in [*body.named_parameters(), *body.named_buffers()]:
        if name in frozen or (not isinstance(tensor, nn.Parameter) and name.startswith(inside)):
            found.update(name.encode())
            found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    config = getattr(body, "config", None)
    described = {} if config is None else {key: repr(value) for key, value in sorted(config.to_dict().items())}
    for key in ("_name_or_path", "architectures", "transformers_version", "id2label", "label2id", "problem_type"):
        described.pop(key, None)
    form = getattr(config, "_attn_implementation", "") if config is not None else repr(body)
    parts = [described, form, *more, torch.__version__, transformers.__version__]
    found.update(json.dumps([repr(part) for part in parts]).encode())
    return found.hexdigest()


def _outermost(net: Tunable, depth: int) -> list[str]:
    """The largest modules with weights that lie in the frozen stages; the whole body where all of it is frozen."""
    if depth == len(net.stages) - 1 and not net.head_path:
        return [net.body_name]
    named = dict(net.named_modules(remove_duplicate=False))
    modules = [name for stage in net.stages[:depth] for name in stage.modules]
    # What has no weights (rotary angles, activations) is no work worth saving, and later stages may read it.
    return [name for name in modules if any(True for _ in named[name].parameters())]


def _blocks(net: Tunable, depth: int) -> set[str]:
    return {name for stage in net.stages[:depth] if stage.name.startswith("block.") for name in stage.modules}


def _described(
    name: str, results: Sequence[list[Any]], probes: Sequence[Mapping[str, Tensor]]
) -> tuple[Any, tuple[Leaf | None, ...]]:
    """The structure of a module's output, and its tensors with what their sizes mean."""
    flat = [pytree.tree_flatten(result[-1]) for result in results]
    extents = [_extent(inputs) for inputs in probes]
    leaves: list[Leaf | None] = []
    for index, values in enumerate(zip(*(leaves for leaves, _ in flat), strict=True)):
        tensors = [value for value in values if isinstance(value, Tensor)]
        shapes = [tuple(value.shape) for value in tensors]
        known = Leaf(name, index, _meaning(shapes, extents), tensors[-1].dtype, len(results[-1])) if tensors else None
        leaves.append(known)
    return flat[-1][1], tuple(leaves)


def places(inputs: Mapping[str, Tensor]) -> Tensor | None:
    """Which hidden states of a batch count (rows, places); None where rows are not ragged."""
    return inputs.get(PLACES, inputs.get("attention_mask"))


def _extent(inputs: Mapping[str, Tensor]) -> tuple[int, int]:
    """Rows and padded tokens of a batch; 0 tokens where rows are not ragged."""
    mask = places(inputs)
    first = next(iter(inputs.values()))
    return len(first), 0 if mask is None else int(mask.shape[1])


def _meaning(shapes: Sequence[tuple[int, ...]], extents: Sequence[tuple[int, int]]) -> tuple[Any, ...]:
    """Each size as "rows", "tokens", a number that does not change, or None for what follows from none of them."""
    if len({len(shape) for shape in shapes}) > 1:
        return (None,)
    named: list[int | str | None] = []
    for sizes in zip(*shapes, strict=True):
        if sizes == tuple(rows for rows, _ in extents):
            named.append("rows")
        elif len(set(sizes)) == 1:
            named.append(sizes[0])
        elif sizes == tuple(tokens for _, tokens in extents):
            named.append("tokens")
        else:
            named.append(None)
    return tuple(named)


def _run_with(net: Tunable, inputs: Mapping[str, Tensor], found: Mapping[str, Any], spoiled: Leaf) -> Tensor | None:
    """The outputs with the modules replaced by what they gave, but NaN for one tensor; None where that is an error."""
    made = {}
    for name, result in found.items():
        leaves, spec = pytree.tree_flatten(result)
        values: list[Any] = [value if isinstance(value, Tensor) else None for value in leaves]
        if name == spoiled.module:
            value = leaves[spoiled.index]
            values[spoiled.index] = value * float("nan") if value.is_floating_point() else torch.zeros_like(value)
        made[name] = pytree.tree_unflatten(values, spec)
    try:
        with _replaced(net, made):
            return net.run(inputs)
    except (RuntimeError, ValueError, IndexError, TypeError):
        return None


@contextlib.contextmanager
def _replaced(net: Tunable, outputs: Mapping[str, Any]) -> Iterator[None]:
    """Modules that give these outputs instead of running."""
    named = dict(net.named_modules(remove_duplicate=False))
    modules = {name: named[name] for name in outputs}
    for name, module in modules.items():
        module.__dict__["forward"] = lambda *_args, _output=outputs[name], **_kwargs: _output
    try:
        yield
    finally:
        for module in modules.values():
            del module.__dict__["forward"]


@contextlib.contextmanager
def _captured(net: Tunable, calls: Mapping[str, int], *, stop: bool = False) -> Iterator[dict[str, list[Any]]]:
    """What the named modules give, call by call, in the order of their first; with `stop` the pass ends when each has
    been called so often."""
    named = dict(net.named_modules(remove_duplicate=False))
    found: dict[str, list[Any]] = {}
    handles = []

    def take(name: str) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            found.setdefault(name, []).append(output)
            if stop and all(len(found.get(other, ())) >= count for other, count in calls.items()):
                raise _Reached

        return hook

    try:
        for name in calls:
            handles.append(named[name].register_forward_hook(take(name)))
        yield found
    finally:
        for handle in handles:
            handle.remove()
