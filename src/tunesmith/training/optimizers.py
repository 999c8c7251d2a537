"""Optimizers: a function each, from torch.optim; its keyword-only parameters are the options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch

from tunesmith.errors import Problem, RecipeError
from tunesmith.extras import need
from tunesmith.training.stepping import Joined, ScaledLBFGS

Groups = list[dict[str, Any]]


def gradient_descent(groups: Groups, *, weight_decay: float = 0.0) -> torch.optim.Optimizer:
    """Gradient descent without momentum, p - lr g: meant for all rows as one batch, `train.batch = "all"`."""
    _check(weight_decay=weight_decay)
    return torch.optim.SGD(_decayed(groups, weight_decay), fused=_can_fuse(groups))


def sgd(
    groups: Groups,
    *,
    momentum: float = 0.9,
    dampening: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """Stochastic gradient descent with momentum (Polyak 1964; `nesterov`: Sutskever et al. 2013).

    `dampening = 0` is v = m v + g; `dampening` equal to `momentum` is v = m v + (1 - m) g. The first v is g in both."""
    _check(momentum=momentum, dampening=dampening, weight_decay=weight_decay)
    _effect(not dampening or momentum > 0, "dampening", "no momentum to dampen: set momentum above 0")
    _effect(not nesterov or (momentum > 0 and not dampening), "nesterov", "it needs momentum above 0, and dampening 0")
    return torch.optim.SGD(
        _decayed(groups, weight_decay),
        momentum=momentum,
        dampening=dampening,
        nesterov=nesterov,
        fused=_can_fuse(groups),
    )


def adagrad(
    groups: Groups, *, lr_decay: float = 0.0, initial: float = 0.0, eps: float = 1e-10, weight_decay: float = 0.0
) -> torch.optim.Optimizer:
    """Adagrad: each coordinate's rate falls with the sum of its squared gradients (Duchi et al. 2011)."""
    _check(lr_decay=lr_decay, initial=initial, eps=eps, weight_decay=weight_decay)
    # Not fused on CUDA: torch 2.10 has no such kernel.
    fused = _can_fuse(groups, "cpu")
    return torch.optim.Adagrad(
        _decayed(groups, weight_decay), lr_decay=lr_decay, initial_accumulator_value=initial, eps=eps, fused=fused
    )


def rmsprop(
    groups: Groups,
    *,
    alpha: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
    centered: bool = False,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """RMSprop: the gradient over the root of its mean square (Tieleman & Hinton 2012); `centered`: Graves 2013."""
    _check(alpha=alpha, eps=eps, momentum=momentum, weight_decay=weight_decay)
    return torch.optim.RMSprop(
        _decayed(groups, weight_decay), alpha=alpha, eps=eps, momentum=momentum, centered=centered
    )


def adam(
    groups: Groups, *, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0
) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2015); its weight decay is an L2 penalty, added to the gradient."""
    _check(betas=betas, eps=eps, weight_decay=weight_decay)
    return torch.optim.Adam(_decayed(groups, weight_decay), betas=_two(betas), eps=eps, fused=_can_fuse(groups))


def adamw(
    groups: Groups, *, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.01
) -> torch.optim.Optimizer:
    """AdamW: Adam with decoupled weight decay (Loshchilov & Hutter 2019); none on biases and norms."""
    _check(betas=betas, eps=eps, weight_decay=weight_decay)
    return torch.optim.AdamW(_decayed(groups, weight_decay), betas=_two(betas), eps=eps, fused=_can_fuse(groups))


def nadam(
    groups: Groups,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    momentum_decay: float = 4e-3,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> torch.optim.Optimizer:
    """NAdam: Adam with Nesterov's momentum (Dozat 2016); `decoupled` decays weights as AdamW does."""
    _check(betas=betas, eps=eps, momentum_decay=momentum_decay, weight_decay=weight_decay)
    _effect(not decoupled or weight_decay > 0, "decoupled", "no weight decay to decouple: set weight_decay above 0")
    return torch.optim.NAdam(
        _decayed(groups, weight_decay),
        betas=_two(betas),
        eps=eps,
        momentum_decay=momentum_decay,
        decoupled_weight_decay=decoupled,
    )


def radam(
    groups: Groups,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> torch.optim.Optimizer:
    """RAdam: Adam that waits until its second moment can be trusted (Liu et al. 2020); `decoupled` as in AdamW."""
    _check(betas=betas, eps=eps, weight_decay=weight_decay)
    _effect(not decoupled or weight_decay > 0, "decoupled", "no weight decay to decouple: set weight_decay above 0")
    return torch.optim.RAdam(
        _decayed(groups, weight_decay), betas=_two(betas), eps=eps, decoupled_weight_decay=decoupled
    )


def adafactor(
    groups: Groups,
    *,
    beta2_decay: float = -0.8,
    eps1: float | None = None,
    eps2: float = 1e-3,
    clip_threshold: float = 1.0,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """Adafactor: second moments of a matrix as row and column means, steps relative to its size (Shazeer & Stern 2018).

    `eps1` left out is the machine epsilon of the parameter's dtype."""
    smallest = {} if eps1 is None else {"eps1": eps1}
    _check(beta2_decay=beta2_decay, eps2=eps2, clip_threshold=clip_threshold, weight_decay=weight_decay, **smallest)
    return torch.optim.Adafactor(
        _decayed(groups, weight_decay), beta2_decay=beta2_decay, eps=(eps1, eps2), d=clip_threshold
    )


def muon(
    groups: Groups,
    *,
    momentum: float = 0.95,
    nesterov: bool = True,
    ns_steps: int = 5,
    adjust_lr: Literal["match_rms_adamw", "original"] = "match_rms_adamw",
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
    weight_decay: float = 0.1,
    adamw_multiple: float = 1.0,
) -> torch.optim.Optimizer:
    """Muon: orthogonalized momentum for hidden matrices, AdamW for all else (Jordan et al. 2024; Liu et al. 2025).

    Hidden is a matrix (2-D) of any stage but the stem, which holds the embeddings, and the head. `betas`, `eps` and
    `adamw_multiple` (of the rate) are those of AdamW. Beside "params", a group holds their "addresses"."""
    _check(momentum=momentum, ns_steps=ns_steps, betas=betas, eps=eps, weight_decay=weight_decay)
    _check(adamw_multiple=adamw_multiple)
    matrices, others = [], []
    for group in groups:
        assert "addresses" in group, "muon must know where a parameter stands"
        pairs = list(zip(group["addresses"], group["params"], strict=True))
        hidden = [p for address, p in pairs if _is_hidden(address, p)]
        rest = [p for address, p in pairs if not _is_hidden(address, p)]
        matrices += [group | {"params": hidden}] if hidden else []
        others += [group | {"params": rest, "multiple": group["multiple"] * adamw_multiple}] if rest else []
    parts: dict[str, torch.optim.Optimizer] = {}
    if matrices:
        parts["muon"] = torch.optim.Muon(
            _decayed(matrices, weight_decay),
            momentum=momentum,
            nesterov=nesterov,
            ns_steps=ns_steps,
            adjust_lr_fn=adjust_lr,
        )
    if others:
        parts["adamw"] = adamw(others, betas=betas, eps=eps, weight_decay=weight_decay)
    return Joined(parts)


def lion(
    groups: Groups, *, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0
) -> torch.optim.Optimizer:
    """Lion: the sign of an interpolated momentum (Chen et al. 2023); needs the extra `optim`.

    The paper advises rates 3 to 10 times below AdamW's, and weight decays as many times above."""
    _check(betas=betas, weight_decay=weight_decay)
    made: torch.optim.Optimizer = need("lion_pytorch", "the optimizer lion").Lion(
        _decayed(groups, weight_decay), betas=_two(betas)
    )
    return made


def schedule_free(
    groups: Groups, *, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0
) -> torch.optim.Optimizer:
    """Schedule-Free AdamW: averaging instead of a falling rate (Defazio et al. 2024); needs the extra `optim`.

    Meant for `train.schedule = "constant"`. What is scored and kept is an average: see `stepping.evaluated`."""
    _check(betas=betas, eps=eps, weight_decay=weight_decay)
    _effect(betas[0] > 0, "betas", "the first is the share of the average in the point of the gradient: above 0")
    made: Any = need("schedulefree", "the optimizer schedule_free").AdamWScheduleFree(
        _decayed(groups, weight_decay), betas=_two(betas), eps=eps
    )
    made.train()
    optimizer: torch.optim.Optimizer = made
    return optimizer


def lbfgs(
    groups: Groups,
    *,
    iterations: int = 20,
    history: int = 10,
    line_search: bool = True,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """L-BFGS: quasi-Newton steps, several looks at the loss each (Liu & Nocedal 1989); for small heads and all rows.

    Meant for `train.lr = 1`, `train.batch = "all"`, a constant schedule and no clipping."""
    _check(iterations=iterations, history=history, weight_decay=weight_decay)
    # Torch's own limit, 5/4 as many looks as iterations, ends line searches in the middle.
    search = {"line_search_fn": "strong_wolfe", "max_eval": 10 * iterations} if line_search else {}
    return ScaledLBFGS(_decayed(groups, weight_decay), max_iter=iterations, history_size=history, **search)


_Range = tuple[Callable[[float], bool], str]
_SHARE: _Range = (lambda x: 0 <= x < 1, "at least 0 and below 1")
_COUNT: _Range = (lambda x: x >= 1, "at least 1")
_POSITIVE: _Range = (lambda x: x > 0, "above 0")
_NOT_NEGATIVE: _Range = (lambda x: x >= 0, "at least 0")
_RANGES: dict[str, _Range] = {
    "betas": _SHARE,
    "momentum": _SHARE,
    "alpha": _SHARE,
    "dampening": (lambda x: 0 <= x <= 1, "between 0 and 1"),
    "beta2_decay": (lambda x: x < 0, "below 0"),
    "eps": _POSITIVE,
    "eps1": _POSITIVE,
    "eps2": _POSITIVE,
    "adamw_multiple": _POSITIVE,
    "clip_threshold": _COUNT,
    "ns_steps": (lambda x: 1 <= x < 100, "from 1 to 99"),
    "iterations": _COUNT,
    "history": _COUNT,
    "lr_decay": _NOT_NEGATIVE,
    "initial": _NOT_NEGATIVE,
    "momentum_decay": _NOT_NEGATIVE,
    "weight_decay": _NOT_NEGATIVE,
}
"""What an option of that name may be, in words and as a condition: the same for every optimizer that has it."""


def _check(**options: float | tuple[float, ...]) -> None:
    """Raise one RecipeError that names every option out of its range."""
    problems = []
    for name, given in options.items():
        fits, words = _RANGES[name]
        if not all(fits(value) for value in (given if isinstance(given, tuple | list) else (given,))):
            problems.append(Problem(f'"train.optimizer.{name}" = {given} is not {words}', "recipe"))
    if problems:
        raise RecipeError(problems)


def _effect(has: bool, name: str, remedy: str) -> None:
    """Raise RecipeError where an option has no effect or no meaning beside the others."""
    if not has:
        raise RecipeError(f'"train.optimizer.{name}" does not go with the other options', where="recipe", remedy=remedy)


def _decayed(groups: Groups, weight_decay: float) -> Groups:
    """The groups with their weight decay in the place of its scale, and without the addresses."""
    for group in groups:
        group["weight_decay"] = weight_decay * group.pop("decay")
        group.pop("addresses", None)
    return groups


def _is_hidden(address: str, parameter: torch.Tensor) -> bool:
    return parameter.dim() == 2 and address.partition("/")[0] not in ("stem", "head")


def _two(betas: tuple[float, float]) -> tuple[float, float]:
    """A pair of floats, which a file may give as a list of integers."""
    return float(betas[0]), float(betas[1])


def _can_fuse(groups: Groups, *devices: str) -> bool:
    """Whether torch has one kernel for the whole step where all parameters are."""
    devices = devices or ("cpu", "cuda")
    return all(parameter.device.type in devices for group in groups for parameter in group["params"])
