"""Every optimizer against its formula, worked in numpy in float64; and what it does to groups, state and options."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import nn

from tunesmith import plugins
from tunesmith.errors import MachineError, RecipeError
from tunesmith.training import optimizers

RATES = [0.1, 0.05, 0.02, 0.08, 0.1, 0.03, 0.04, 0.06]
WEIGHT, BIAS = np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]]), np.array([0.3, -0.6, 1.2])
CURVES, SLOPES = (np.array([[1.0, 2.0, 0.5], [3.0, 1.0, 0.2]]), np.array([0.7, 1.1, 2.0])), (0.1, -0.3)
MULTIPLES, DECAYS = (1.0, 0.25), (1.0, 0.0)


def gradients(points):
    """Those of sum(curve / 2 p^2 + slope p)."""
    return [curve * point + slope for curve, point, slope in zip(CURVES, points, SLOPES, strict=True)]


def started(name, **options):
    """A matrix and a vector in groups of their own, and the optimizer."""
    points = [nn.Parameter(torch.from_numpy(start.copy())) for start in (WEIGHT, BIAS)]
    groups = [
        {"params": [point], "addresses": [f"block.0/{number}"], "multiple": multiple, "decay": decay}
        for number, (point, multiple, decay) in enumerate(zip(points, MULTIPLES, DECAYS, strict=True))
    ]
    return points, getattr(optimizers, name)(groups, **options)


def stepped(points, optimizer, rate):
    """One step as the loop makes it; how often the loss was looked at."""
    looks = 0

    def look():
        nonlocal looks
        looks += 1
        optimizer.zero_grad(set_to_none=True)
        with torch.enable_grad():
            parts = [
                (torch.from_numpy(curve) / 2 * point**2 + slope * point).sum()
                for curve, slope, point in zip(CURVES, SLOPES, points, strict=True)
            ]
            loss = parts[0] + parts[1]
            loss.backward()
        return loss.detach()

    for group in optimizer.param_groups:
        group["lr"] = rate * group["multiple"]
    optimizer.step(look)
    return looks


def ours(name, options, rates=RATES):
    points, optimizer = started(name, **options)
    looks = [stepped(points, optimizer, rate) for rate in rates]
    assert looks == [1] * len(rates), "one look at the loss a step"
    return [point.detach().numpy() for point in points]


def by_hand(rule, weight_decay, rates=RATES, **options):
    """`rule(p, g, rate, decay, t, memory)` gives the next p; each parameter has a memory of its own."""
    points, memories = [WEIGHT.copy(), BIAS.copy()], [{}, {}]
    for t, rate in enumerate(rates, 1):
        slopes = gradients(points)
        points = [
            rule(p, g, rate * multiple, weight_decay * decay, t, memory, **options)
            for p, g, multiple, decay, memory in zip(points, slopes, MULTIPLES, DECAYS, memories, strict=True)
        ]
    return points


def momentum_by_hand(p, g, rate, decay, t, s, momentum=0.0, dampening=0.0, nesterov=False):
    g = g + decay * p
    s["v"] = g if t == 1 else momentum * s["v"] + (1 - dampening) * g
    return p - rate * (g + momentum * s["v"] if nesterov else s["v"])


def adagrad_by_hand(p, g, rate, decay, t, s, lr_decay=0.0, initial=0.0, eps=1e-10):
    g = g + decay * p
    s["G"] = s.get("G", initial) + g**2
    return p - rate / (1 + (t - 1) * lr_decay) * g / (np.sqrt(s["G"]) + eps)


def rmsprop_by_hand(p, g, rate, decay, t, s, alpha=0.99, eps=1e-8, momentum=0.0, centered=False):
    g = g + decay * p
    s["E"] = alpha * s.get("E", 0) + (1 - alpha) * g**2
    s["a"] = alpha * s.get("a", 0) + (1 - alpha) * g
    spread = s["E"] - s["a"] ** 2 if centered else s["E"]
    s["v"] = momentum * s.get("v", 0) + g / (np.sqrt(spread) + eps)
    return p - rate * s["v"]


def moments(g, s, betas):
    s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * g**2


def adam_by_hand(p, g, rate, decay, t, s, betas=(0.9, 0.999), eps=1e-8):
    moments(g + decay * p, s, betas)
    return p - rate * s["m"] / (1 - betas[0] ** t) / (np.sqrt(s["v"] / (1 - betas[1] ** t)) + eps)


def adamw_by_hand(p, g, rate, decay, t, s, betas=(0.9, 0.999), eps=1e-8):
    return adam_by_hand(p, g, rate, 0, t, s, betas, eps) - rate * decay * p


def nadam_by_hand(p, g, rate, decay, t, s, betas=(0.9, 0.999), eps=1e-8, psi=4e-3, decoupled=False):
    g, p = (g, p - rate * decay * p) if decoupled else (g + decay * p, p)
    moments(g, s, betas)
    now, then = (betas[0] * (1 - 0.96 ** (k * psi) / 2) for k in (t, t + 1))
    # torch keeps this product in float32.
    s["product"] = s.get("product", np.float32(1)) * np.float32(now)
    product = float(s["product"])
    bar = (1 - now) / (1 - product) * g + then / (1 - product * then) * s["m"]
    return p - rate * bar / (np.sqrt(s["v"] / (1 - betas[1] ** t)) + eps)


def radam_by_hand(p, g, rate, decay, t, s, betas=(0.9, 0.999), eps=1e-8, decoupled=False):
    g, p = (g, p - rate * decay * p) if decoupled else (g + decay * p, p)
    moments(g, s, betas)
    mean, longest = s["m"] / (1 - betas[0] ** t), 2 / (1 - betas[1]) - 1
    length = longest - 2 * t * betas[1] ** t / (1 - betas[1] ** t)
    if length <= 5:
        return p - rate * mean
    rectify = np.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
    return p - rate * rectify * mean * np.sqrt(1 - betas[1] ** t) / (np.sqrt(s["v"]) + eps)


def adafactor_by_hand(p, g, rate, decay, t, s, beta2_decay=-0.8, eps1=2.0**-52, eps2=1e-3, clip_threshold=1.0):
    new = t**beta2_decay
    alpha = max(eps2, np.sqrt((p**2).mean())) * min(rate, 1 / np.sqrt(t))
    p = p - rate * decay * p
    if p.ndim == 2:
        s["R"] = (1 - new) * s.get("R", 0) + new * (g**2).mean(1, keepdims=True)
        s["C"] = (1 - new) * s.get("C", 0) + new * (g**2).mean(0, keepdims=True)
        v = s["R"] * s["C"] / max(s["R"].mean(), eps1)
    else:
        v = s["V"] = (1 - new) * s.get("V", 0) + new * g**2
    u = g / np.sqrt(np.maximum(v, eps1**2))
    return p - alpha * u / max(1, np.sqrt((u**2).mean()) / clip_threshold)


def lion_by_hand(p, g, rate, decay, t, s, betas=(0.9, 0.99)):
    c = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["m"] = betas[1] * s.get("m", 0) + (1 - betas[1]) * g
    return p - rate * decay * p - rate * np.sign(c)


CASES = [
    ("gradient_descent", momentum_by_hand, 0.1, {}, {}),
    ("sgd", momentum_by_hand, 0.0, {"momentum": 0.0}, {}),
    ("sgd", momentum_by_hand, 0.1, {}, {"momentum": 0.9}),
    ("sgd", momentum_by_hand, 0.1, {"momentum": 0.8, "nesterov": True}, {"momentum": 0.8, "nesterov": True}),
    ("sgd", momentum_by_hand, 0.0, {"momentum": 0.9, "dampening": 0.9}, {"momentum": 0.9, "dampening": 0.9}),
    ("adagrad", adagrad_by_hand, 0.1, {}, {}),
    ("adagrad", adagrad_by_hand, 0.0, *[{"lr_decay": 0.5, "initial": 0.2, "eps": 1e-3}] * 2),
    ("rmsprop", rmsprop_by_hand, 0.1, {}, {}),
    ("rmsprop", rmsprop_by_hand, 0.0, *[{"alpha": 0.9, "momentum": 0.7, "centered": True, "eps": 1e-3}] * 2),
    ("adam", adam_by_hand, 0.1, {}, {}),
    ("adam", adam_by_hand, 0.0, *[{"betas": (0.8, 0.95), "eps": 1e-3}] * 2),
    ("adamw", adamw_by_hand, 0.1, {}, {}),
    ("adamw", adamw_by_hand, 0.0, *[{"betas": (0.8, 0.95), "eps": 1e-3}] * 2),
    ("nadam", nadam_by_hand, 0.1, {}, {}),
    ("nadam", nadam_by_hand, 0.1, {"decoupled": True, "momentum_decay": 0.1}, {"decoupled": True, "psi": 0.1}),
    ("radam", radam_by_hand, 0.1, {}, {}),
    ("radam", radam_by_hand, 0.1, *[{"decoupled": True, "betas": (0.8, 0.95), "eps": 1e-3}] * 2),
    ("adafactor", adafactor_by_hand, 0.1, {}, {}),
    (
        "adafactor",
        adafactor_by_hand,
        0.0,
        *[{"beta2_decay": -0.5, "eps1": 0.9, "eps2": 0.8, "clip_threshold": 1.1}] * 2,
    ),
    ("lion", lion_by_hand, 0.1, {}, {}),
    ("lion", lion_by_hand, 0.0, *[{"betas": (0.5, 0.6)}] * 2),
]


@pytest.mark.parametrize(("name", "rule", "weight_decay", "options", "same"), CASES)
def test_steps_are_those_of_the_formula_and_the_vector_does_not_decay(name, rule, weight_decay, options, same):
    found = ours(name, {"weight_decay": weight_decay, **options})
    for tensor, expected in zip(found, by_hand(rule, weight_decay, **same), strict=True):
        np.testing.assert_allclose(tensor, expected, rtol=0, atol=1e-12)


def test_dampening_chooses_between_the_two_forms_of_momentum():
    (one, two), first = gradients([WEIGHT, BIAS]), 0.9
    plain = ours("sgd", {"momentum": first}, [0.1, 0.1])[0]
    mean = ours("sgd", {"momentum": first, "dampening": first}, [0.1, 0.1])[0]
    second = gradients([WEIGHT - 0.1 * one, BIAS - 0.025 * two])[0]
    np.testing.assert_allclose(plain, WEIGHT - 0.1 * one - 0.1 * (0.9 * one + second), rtol=0, atol=1e-12)
    np.testing.assert_allclose(mean, WEIGHT - 0.1 * one - 0.1 * (0.9 * one + 0.1 * second), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("gradient_descent", {"weight_decay": -0.1}, "weight_decay"),
        ("sgd", {"momentum": 1.0}, "momentum"),
        ("sgd", {"dampening": 1.5}, "dampening"),
        ("sgd", {"momentum": 0.0, "dampening": 0.5}, "dampening"),
        ("sgd", {"momentum": 0.0, "nesterov": True}, "nesterov"),
        ("sgd", {"dampening": 0.5, "nesterov": True}, "nesterov"),
        ("adagrad", {"lr_decay": -1.0}, "lr_decay"),
        ("adagrad", {"initial": -1.0}, "initial"),
        ("rmsprop", {"alpha": 1.0}, "alpha"),
        ("adam", {"betas": (0.9, 1.0)}, "betas"),
        ("adam", {"betas": [-0.1, 0.9]}, "betas"),
        ("adamw", {"eps": 0.0}, "eps"),
        ("nadam", {"momentum_decay": -1.0}, "momentum_decay"),
        ("nadam", {"decoupled": True}, "decoupled"),
        ("radam", {"decoupled": True}, "decoupled"),
        ("adafactor", {"beta2_decay": 0.0}, "beta2_decay"),
        ("adafactor", {"eps1": 0.0}, "eps1"),
        ("adafactor", {"eps2": 0.0}, "eps2"),
        ("adafactor", {"clip_threshold": 0.5}, "clip_threshold"),
        ("muon", {"ns_steps": 0}, "ns_steps"),
        ("muon", {"adamw_multiple": 0.0}, "adamw_multiple"),
        ("lion", {"betas": (1.0, 0.9)}, "betas"),
        ("schedule_free", {"betas": (0.0, 0.9)}, "betas"),
        ("lbfgs", {"iterations": 0}, "iterations"),
        ("lbfgs", {"history": 0}, "history"),
    ],
)
def test_an_option_out_of_its_range_or_without_effect_is_an_error_that_names_it(name, options, named):
    with pytest.raises(RecipeError, match=f"train.optimizer.{named}"):
        started(name, **options)


def test_every_option_out_of_range_is_told_at_once():
    with pytest.raises(RecipeError, match="betas") as caught:
        started("adam", betas=(2.0, 0.9), eps=-1.0, weight_decay=-1.0)
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(("name", "module"), [("lion", "lion_pytorch"), ("schedule_free", "schedulefree")])
def test_without_the_package_the_error_says_what_to_install(name, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        MachineError, match=rf"the optimizer {name} needs the package {module}(.|\n)*tunesmith\[optim\]"
    ):
        started(name)


def test_every_optimizer_that_ships_has_its_formula_here_or_in_test_stepping():
    shipped = {
        name for name in plugins.names("optimizer") if plugins.get("optimizer", name).__module__ == optimizers.__name__
    }
    assert shipped == {case[0] for case in CASES} | {"muon", "schedule_free", "lbfgs"}
