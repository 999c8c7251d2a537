"""Muon beside AdamW, L-BFGS over groups, and Schedule-Free's two points, each against its formula worked by hand."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from torch import nn

from tunesmith.errors import RecipeError
from tunesmith.training.optimizers import adamw, lbfgs, muon, schedule_free
from tunesmith.training.stepping import evaluated, finish

RATES = [0.1, 0.05, 0.02, 0.08]
START = {
    "block.0/weight": np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]]),
    "block.0/tall": np.array([[0.4, -0.2], [0.1, 0.9], [-0.5, 0.3]]),
    "block.0/bias": np.array([0.3, -0.6, 1.2]),
    "stem/table": np.array([[0.2, 0.1], [-0.4, 0.8]]),
    "head/weight": np.array([[1.0, -0.5], [0.3, 0.7]]),
    "block.0/kernel": np.arange(8.0).reshape(2, 1, 2, 2) / 8 - 0.4,
}
DECAYING = ("block.0/weight", "block.0/tall")


def curve(point):
    """How steep the loss sum(curve / 2 p^2 + p / 10) is, a different number for each coordinate."""
    return 0.5 + np.arange(point.size).reshape(point.shape) / 3


def started(make, names=tuple(START), multiple=0.25, **options):
    """The parameters of these names in two groups: what decays at the whole rate, the others at `multiple` of it."""
    points = {name: nn.Parameter(torch.from_numpy(START[name].copy())) for name in names}
    groups = []
    for decays, share in ((True, 1.0), (False, multiple)):
        chosen = [name for name in names if (name in DECAYING) == decays]
        if chosen:
            params = [points[name] for name in chosen]
            groups.append({"params": params, "addresses": chosen, "multiple": share, "decay": float(decays)})
    return points, make(groups, **options)


def stepped(points, optimizer, rate):
    """One step as the loop makes it; the losses it looked at."""
    looks = []

    def look():
        optimizer.zero_grad(set_to_none=True)
        with torch.enable_grad():
            parts = [(torch.from_numpy(curve(p.detach().numpy())) / 2 * p**2 + p / 10).sum() for p in points.values()]
            loss = torch.stack(parts).sum()
            loss.backward()
        looks.append(float(loss.detach()))
        return loss.detach()

    for group in optimizer.param_groups:
        group["lr"] = rate * group["multiple"]
    optimizer.step(look)
    return looks


def same(points, expected):
    for name, value in expected.items():
        np.testing.assert_allclose(points[name].detach().numpy(), value, rtol=0, atol=1e-12, err_msg=name)


def orthogonalized(matrix, steps):
    """Newton-Schulz with the published coefficients, in bfloat16; each sum of products is rounded once."""
    x = torch.from_numpy(matrix).bfloat16()
    turned = x.shape[0] > x.shape[1]
    x = x.T if turned else x
    x = x / x.norm()
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return (x.T if turned else x).double().numpy()


def muon_by_hand(p, g, rate, decay, t, s, nesterov=True, ns_steps=5, adjust_lr="match_rms_adamw"):
    s["B"] = 0.95 * s.get("B", 0) + 0.05 * g
    direction = orthogonalized(0.05 * g + 0.95 * s["B"] if nesterov else s["B"], ns_steps)
    rows, columns = p.shape
    scale = 0.2 * np.sqrt(max(rows, columns)) if adjust_lr == "match_rms_adamw" else np.sqrt(max(1, rows / columns))
    return (1 - rate * decay) * p - rate * scale * direction


def adamw_by_hand(p, g, rate, decay, t, s, betas=(0.9, 0.95), eps=1e-8):
    s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * g**2
    return (1 - rate * decay) * p - rate * s["m"] / (1 - betas[0] ** t) / (np.sqrt(s["v"] / (1 - betas[1] ** t)) + eps)


@pytest.mark.parametrize(
    ("options", "of_muon", "multiple"),
    [
        ({}, {}, 1.0),
        ({"adjust_lr": "original", "adamw_multiple": 0.1}, {"adjust_lr": "original"}, 0.1),
        ({"nesterov": False, "ns_steps": 3}, {"nesterov": False, "ns_steps": 3}, 1.0),
    ],
)
def test_muon_moves_hidden_matrices_and_adamw_all_else(options, of_muon, multiple):
    points, optimizer = started(muon, weight_decay=0.1, **options)
    expected, memories = {name: value.copy() for name, value in START.items()}, {name: {} for name in START}
    for t, rate in enumerate(RATES, 1):
        assert len(stepped(points, optimizer, rate)) == 1
        for name, p in expected.items():
            args = (p, curve(p) * p + 0.1)
            if name in DECAYING:
                expected[name] = muon_by_hand(*args, rate, 0.1, t, memories[name], **of_muon)
            else:
                expected[name] = adamw_by_hand(*args, rate * 0.25 * multiple, 0.0, t, memories[name])
    same(points, expected)


def test_the_singular_values_of_a_step_of_muon_are_near_one():
    points, optimizer = started(muon, weight_decay=0.0)
    stepped(points, optimizer, 1.0)
    moved = START["block.0/weight"] - points["block.0/weight"].detach().numpy()
    values = np.linalg.svd(moved / (0.2 * np.sqrt(3)), compute_uv=False)
    assert values.min() > 0.5 and values.max() < 1.5


def test_muon_needs_neither_a_matrix_nor_a_vector():
    for names in (("block.0/weight",), ("head/weight", "block.0/bias")):
        points, optimizer = started(muon, names)
        stepped(points, optimizer, 0.1)
        assert not any(np.array_equal(point.detach().numpy(), START[name]) for name, point in points.items())


def test_the_state_of_several_optimizers_is_one_and_is_carried_like_that_of_one():
    points, optimizer = started(muon)
    stepped(points, optimizer, 0.1)
    kept = {name: set(optimizer.state[point]) for name, point in points.items()}
    assert kept["block.0/weight"] == {"momentum_buffer"} and kept["stem/table"] == {"step", "exp_avg", "exp_avg_sq"}
    stored = optimizer.state_dict()
    assert len(stored["state"]) == len(points)
    assert sorted(group["part"] for group in stored["param_groups"]) == ["adamw", "muon"]
    later, after = started(muon)
    with torch.no_grad():
        for name, point in later.items():
            point.copy_(points[name])
    after.state.clear()
    for name, point in later.items():
        after.state[point] = {key: value.clone() for key, value in optimizer.state[points[name]].items()}
    stepped(points, optimizer, 0.1)
    stepped(later, after, 0.1)
    assert all(torch.equal(points[name], later[name]) for name in points)


def two_loops(g, pairs):
    """Nocedal & Wright 2006, algorithm 7.4: the inverse Hessian of the pairs (s, y) times g."""
    q, alphas = g.copy(), []
    for s, y in reversed(pairs):
        alphas.append(s @ q / (y @ s))
        q -= alphas[-1] * y
    s, y = pairs[-1]
    r = (s @ y) / (y @ y) * q
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        r += s * (alpha - y @ r / (y @ s))
    return r


def test_lbfgs_steps_are_those_of_the_two_loops_on_scaled_variables():
    names, weight_decay, history = ("block.0/weight", "block.0/bias"), 0.3, 2
    points, optimizer = started(
        lbfgs, names, iterations=1, history=history, line_search=False, weight_decay=weight_decay
    )
    root = np.concatenate([np.ones(6), np.full(3, 0.5)])
    decay = np.concatenate([np.full(6, weight_decay), np.zeros(3)])
    curves = np.concatenate([curve(START[name]).ravel() for name in names])
    p, pairs, last = np.concatenate([START[name].ravel() for name in names]), [], None
    for rate in [*RATES, 0.5, 1.0]:
        g = root * (curves * p + 0.1 + decay * p)
        if last is None:
            s = -min(1, 1 / np.abs(g).sum()) * rate * g
        else:
            pairs = [*pairs, (last[0], g - last[1])][-history:]
            s = -rate * two_loops(g, pairs)
        p, last = p + root * s, (s, g)
        assert len(stepped(points, optimizer, rate)) == 1
        same(points, {names[0]: p[:6].reshape(2, 3), names[1]: p[6:]})


def test_lbfgs_searches_along_its_line_and_finds_the_minimum_in_few_steps():
    names = ("block.0/weight", "block.0/bias")
    points, optimizer = started(lbfgs, names, iterations=1)
    looks = stepped(points, optimizer, 1.0)
    gradient = np.concatenate([(curve(START[name]) * START[name] + 0.1).ravel() for name in names])
    root = np.concatenate([np.ones(6), np.full(3, 0.5)])
    moved = np.concatenate([points[name].detach().numpy().ravel() - START[name].ravel() for name in names]) / root
    after = np.concatenate([(curve(START[n]) * points[n].detach().numpy() + 0.1).ravel() for n in names])
    slope, later = moved @ (root * gradient), moved @ (root * after)
    assert len(looks) > 1 and min(looks) < looks[0] + 1e-4 * slope and abs(later) <= 0.9 * abs(slope)
    points, optimizer = started(lbfgs, names)
    for _ in range(3):
        stepped(points, optimizer, 1.0)
    for name in names:
        np.testing.assert_allclose(points[name].detach().numpy(), -0.1 / curve(START[name]), atol=1e-5)


def test_lbfgs_minimises_the_loss_and_its_weight_decay_together():
    points, optimizer = started(lbfgs, ("block.0/weight",), weight_decay=0.3)
    for _ in range(3):
        stepped(points, optimizer, 1.0)
    expected = -0.1 / (curve(START["block.0/weight"]) + 0.3)
    np.testing.assert_allclose(points["block.0/weight"].detach().numpy(), expected, atol=1e-5)


def test_lbfgs_leaves_alone_what_has_no_rate():
    points, optimizer = started(lbfgs, ("block.0/weight", "block.0/bias"), multiple=0.0)
    stepped(points, optimizer, 1.0)
    same(points, {"block.0/bias": START["block.0/bias"]})
    assert not np.array_equal(points["block.0/weight"].detach().numpy(), START["block.0/weight"])
    points, optimizer = started(lbfgs, ("block.0/bias",), multiple=0.0)
    assert len(stepped(points, optimizer, 1.0)) == 1
    same(points, {"block.0/bias": START["block.0/bias"]})


def test_lbfgs_forgets_the_curvature_of_other_variables_and_keeps_that_of_the_same():
    def continued(first, then, multiple=0.25):
        points, optimizer = started(lbfgs, first, iterations=2)
        stepped(points, optimizer, 1.0)
        others, new = started(lbfgs, then, multiple=multiple, iterations=2)
        for name in set(first) & set(then):
            new.state[others[name]] = optimizer.state[points[name]]
        stepped(others, new, 1.0)
        return new.state[others[then[0]]]["n_iter"]

    weight, bias, tall = "block.0/weight", "block.0/bias", "block.0/tall"
    assert continued((weight, bias), (weight, bias)) == 4
    assert continued((weight, bias), (weight,)) == 2, "fewer"
    assert continued((weight,), (weight, bias)) == 2, "more"
    assert continued((weight, tall), (tall, weight)) == 2, "in another order"
    assert continued((weight, bias), (weight, bias), multiple=0.5) == 2, "at another multiple"


def test_the_state_of_lbfgs_is_saved_with_the_parameters():
    points, optimizer = started(lbfgs, ("block.0/weight", "block.0/bias"))
    stepped(points, optimizer, 1.0)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    _, again = started(lbfgs, ("block.0/weight", "block.0/bias"))
    again.load_state_dict(torch.load(file, weights_only=True))
    stored = again.state[again.param_groups[0]["params"][0]]
    assert stored["old_dirs"] and stored["n_iter"] > 1


def test_schedule_free_is_scored_at_the_average_of_its_steps():
    name, decay, (beta1, beta2), eps = "block.0/weight", 0.1, (0.9, 0.999), 1e-8
    points, optimizer = started(schedule_free, (name,), weight_decay=decay)
    x = z = START[name]
    v = total = most = 0
    for t, rate in enumerate(RATES, 1):
        y = (1 - beta1) * z + beta1 * x
        same(points, {name: y})
        assert len(stepped(points, optimizer, rate)) == 1
        g = curve(y) * y + 0.1
        v = beta2 * v + (1 - beta2) * g**2
        z = z - rate * (g / (np.sqrt(v / (1 - beta2**t)) + eps) + decay * y)
        most = max(most, rate)
        total += most**2
        x = (1 - most**2 / total) * x + most**2 / total * z
        with evaluated(optimizer):
            same(points, {name: x})
    finish(optimizer)
    same(points, {name: x})


def test_scoring_leaves_the_weights_and_the_state_of_training_to_the_bit():
    points, optimizer = started(schedule_free)
    other, plain = started(schedule_free)
    for rate in RATES:
        stepped(points, optimizer, rate)
        stepped(other, plain, rate)
        with evaluated(optimizer), evaluated(optimizer):
            assert not torch.equal(points["block.0/weight"], other["block.0/weight"]) or rate == RATES[0]
    with pytest.raises(RecipeError), evaluated(optimizer):
        raise RecipeError("in the middle")
    assert all(torch.equal(points[name], other[name]) for name in START)
    assert all(group["train_mode"] for group in optimizer.param_groups)


def test_an_optimizer_that_does_not_average_is_scored_where_it_stands():
    points, optimizer = started(adamw)
    stepped(points, optimizer, 0.1)
    before = {name: point.detach().clone() for name, point in points.items()}
    for other in (optimizer, None):
        with evaluated(other):
            assert all(torch.equal(points[name], before[name]) for name in points)
        finish(other)
    assert all(torch.equal(points[name], before[name]) for name in points)


def test_weights_stay_at_the_average_once_training_has_ended():
    points, optimizer = started(schedule_free)
    for rate in RATES:
        stepped(points, optimizer, rate)
    finish(optimizer)
    ended = {name: point.detach().clone() for name, point in points.items()}
    with evaluated(optimizer):
        pass
    finish(optimizer)
    assert all(torch.equal(points[name], ended[name]) for name in points)
