"""How far a body has moved: linear CKA between what two nets make of the same rows, and the distance of weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from tunesmith.data.order import passes
from tunesmith.evaluation.predict import Ranks, Rows
from tunesmith.models.prefix import places
from tunesmith.models.stages import Stage, evaluating
from tunesmith.models.tunable import Tunable


def linear_cka(first: Tensor, second: Tensor) -> float | None:
    """Linear CKA of two sets of features (rows, width) of the same rows: 1 where they differ by no more than a
    rotation, a scale and an offset, about 0 where they have nothing to do with each other (Kornblith et al. 2019).

    HSIC is estimated without bias (Song et al. 2012, as in Nguyen et al. 2021): the plain estimate of two unrelated
    sets is near width / (rows + width), so that with few rows nothing would seem to have moved. What noise brings below
    0 is 0. None for fewer than four rows, and for features that are the same for all rows.

    >>> features = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [3.0, 1.0], [0.0, 3.0]])
    >>> round(linear_cka(features, -2 * features.flip(1) + 5), 6)
    1.0
    """
    if len(first) < 4 or not (_varies(first) and _varies(second)):
        return None
    one, other = _centred_products(first), _centred_products(second)
    value = (one * other).sum() / (one.norm() * other.norm())
    return float(value.clamp(0, 1))


def distance(start: Sequence[Tensor], tuned: Sequence[Tensor]) -> float | None:
    """|tuned - start| / |start|, of all tensors as one vector; None where the start is zero.

    >>> distance([torch.tensor([3.0]), torch.tensor([4.0])], [torch.tensor([3.0]), torch.tensor([5.0])])
    0.2
    """
    far = sum(float((new.double() - old.double()).square().sum()) for old, new in zip(start, tuned, strict=True))
    own = sum(float(old.double().square().sum()) for old in start)
    return (far / own) ** 0.5 if own else None


@torch.no_grad()
def stage_features(net: Tunable, encoded: Rows, rows: np.ndarray, machine: Ranks) -> dict[str, Tensor]:
    """Stage of the body -> what it gives for each of `rows`, (rows, width): the mean over the places that count.

    A stage whose output has no row of one width for each row of data is left out."""
    order, batches = passes(encoded.lengths, rows, machine.tokens)
    positions = {int(row): position for position, row in enumerate(rows)}
    found: dict[str, list[tuple[np.ndarray, Tensor]]] = {}
    with evaluating(net):
        for batch in batches:
            inputs = machine.put(encoded.batch(order[batch]))
            with machine.autocast(), _given(net, net.stages[:-1]) as given:
                net(inputs)
            mask, at = places(inputs), np.array([positions[int(row)] for row in order[batch]])
            for stage, output in given.items():
                if len(output) == len(batch):
                    found.setdefault(stage, []).append((at, _pooled(output.float(), mask).cpu()))
    return {stage: _in_order(parts) for stage, parts in found.items() if _is_whole(parts, len(rows))}


def _in_order(parts: Sequence[tuple[np.ndarray, Tensor]]) -> Tensor:
    at = torch.from_numpy(np.concatenate([places for places, _ in parts]))
    return torch.cat([values for _, values in parts])[at.argsort()]


def _is_whole(parts: Sequence[tuple[np.ndarray, Tensor]], num_rows: int) -> bool:
    return sum(len(at) for at, _ in parts) == num_rows and len({values.shape[1:] for _, values in parts}) == 1


@contextlib.contextmanager
def _given(net: nn.Module, stages: Sequence[Stage]) -> Iterator[dict[str, Tensor]]:
    """Stage -> the first tensor of what its last module to run gave, once the net has run."""
    found: dict[str, Tensor] = {}

    def keep(stage: str, output: object) -> None:
        tensors = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
        if tensors and tensors[0].is_floating_point() and tensors[0].dim() > 1:
            found[stage] = tensors[0]

    handles = [
        net.get_submodule(name).register_forward_hook(
            lambda _module, _args, output, stage=stage.name: keep(stage, output)
        )
        for stage in stages
        for name in stage.modules
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _pooled(output: Tensor, mask: Tensor | None) -> Tensor:
    """(rows, width) of (rows, places, width), of maps (rows, channels, height, width), or of maps whose channels are
    last, which is how maps are read where that alone makes them square."""
    if output.dim() == 3 and mask is not None and mask.shape == output.shape[:2]:
        kept = mask.unsqueeze(-1).to(output.dtype)
        return (output * kept).sum(1) / kept.sum(1).clamp(min=1)
    if output.dim() <= 3:
        return output.mean(1) if output.dim() == 3 else output
    shape = output.shape
    last = output.dim() == 4 and shape[1] == shape[2] != shape[3]
    return output.flatten(1, -2).mean(1) if last else output.flatten(2).mean(2)


def _varies(features: Tensor) -> bool:
    """Whether rows differ by more than rounding."""
    features = features.double()
    return bool((features - features.mean(0)).norm() > 1e-6 * features.norm())


def _centred_products(features: Tensor) -> Tensor:
    """Products of the rows, U-centred (Szekely & Rizzo 2014): the mean of what is off the diagonal is 0 in each row."""
    features = features.double() - features.double().mean(0)
    products, rows = features @ features.T, len(features)
    products.fill_diagonal_(0)
    sums = products.sum(0) / (rows - 2)
    centred = products - sums[:, None] - sums[None, :] + products.sum() / ((rows - 1) * (rows - 2))
    return centred.fill_diagonal_(0)
