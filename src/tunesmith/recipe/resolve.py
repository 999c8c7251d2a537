"""Every "auto" that facts about data, weights and machine decide, with its reason; pure, so that it can be tested."""

from __future__ import annotations

import math
from typing import Any

from tunesmith.recipe.facts import Facts
from tunesmith.recipe.schema import Recipe

SMALL_CLASS = 50
"""Under this many rows per class, choices are made by cross-validation and all rows train at the end."""
SMALL_SET = 200
"""Under this many rows too: a tenth of them, set aside, would choose the head and the best step almost by lot."""

MEASURED = dict.fromkeys(
    ("model.head", "train.micro", "data.augment", "evaluate.threshold", "evaluate.temperature"),
    "measured on the rows: see measured.json",
) | {"evaluate.slices": "columns of few values, of the rows that are judged: see scores.json"}
"""Left on "auto" here, and why: what only the rows can tell."""


SCALES = {
    "sgd": (100.0, "SGD: a hundred times AdamW's rate, whose steps do not shrink with the gradient"),
    "gradient_descent": (100.0, "gradient descent: a hundred times AdamW's rate, as for SGD"),
    "adagrad": (10.0, "Adagrad: ten times AdamW's rate, its steps shrink with their number"),
    "lion": (0.2, "Lion: a fifth of AdamW's rate (Chen et al. 2023: 3 to 10 times smaller)"),
}
"""Optimizer -> its rate as a multiple of AdamW's, and why. A start to search from, not a law."""
RISING = ("one_cycle", "slanted_triangular")
"""Schedules that begin below the peak: a warm-up before them would rise twice."""


def resolve(recipe: Recipe, facts: Facts) -> tuple[Recipe, dict[str, str]]:
    """The recipe with nothing left on "auto" but what must be measured, and for each filled field the reason."""
    batch = _batch(recipe, facts)
    chosen: dict[str, tuple[Any, str]] = {
        "name": (facts.name, "from the data's name"),
        "task": (facts.task, "from the target column"),
        "data.inputs": (facts.inputs, f"{facts.modality} columns found"),
        "data.target": (facts.target, "target column found"),
        "data.split": (facts.split, "how the rows were split"),
        "train.batch": (batch, f"{facts.num_train} training rows"),
        "train.length": _length(facts, batch),
        "train.lr": _rates(recipe, facts, batch),
        "train.clip": _clip(recipe),
        "train.warmup": _warmup(recipe),
        "train.precision": (facts.precision, f"what {facts.device} is fast at"),
        "train.cache": (facts.precision, "the run's precision"),
        "train.device": (facts.device, "found on this machine"),
        "train.patience": _patience(recipe, facts),
        "train.every.evaluate": ("1 epoch", "once per pass over the rows"),
        "train.every.save": ("1 epoch", "once per pass over the rows"),
        "evaluate.metrics": (facts.metrics, "what the task reports"),
        "evaluate.select": (facts.select, "what the task is judged by"),
    }
    if facts.modality == "text":
        chosen["data.max_length"] = _max_length(facts)
    if facts.modality == "sound":
        chosen["data.max_length"] = (facts.seconds, f"seconds; the longest sound has {facts.longest}")
    if facts.task == "regression":
        chosen["evaluate.temperature"] = (1.0, "a value has no probability")
    tree = recipe.model_dump()
    reasons = {path: why for path, why in MEASURED.items() if _get(tree, path) == "auto"}
    for path, (value, reason) in chosen.items():
        if _get(tree, path) in ("auto", "all"):
            _put(tree, path, value)
            reasons[path] = reason
    return Recipe.model_validate(tree), reasons


def _batch(recipe: Recipe, facts: Facts) -> int:
    """Small sets need steps more than wide batches; 32 is the published choice for BERT (Devlin et al. 2019), 256 for
    nets on tables that begin from nothing (Gorishniy et al. 2021)."""
    batch = recipe.train.batch
    if batch == "all":
        return facts.num_train
    if batch == "auto" and not facts.pretrained and facts.modality == "table":
        return next(size for most, size in ((2000, 32), (10_000, 128), (math.inf, 256)) if facts.num_train < most)
    return batch if batch != "auto" else 16 if facts.num_train < 2000 else 32


def _length(facts: Facts, batch: int) -> tuple[str, str]:
    """At least 3 epochs (Devlin et al. 2019), and on small sets about 500 steps (Mosbach et al. 2021: few rows
    need more steps, not a smaller rate), at most 20 epochs. A frozen body needs more passes: only its head moves; and
    so does a network that begins from nothing, on tables still more. With pairs, half of the length is a head's, and
    half makes one pair a row and epoch: on small sets 20 of one class and 20 of two for each row, as in SetFit
    (Tunstall et al. 2022: R = 20)."""
    steps_per_epoch = math.ceil(facts.num_train / batch)
    if not facts.pretrained and facts.modality == "table":
        epochs = max(20, min(100, math.ceil(6000 / steps_per_epoch)))
        return f"{epochs} epochs", f"{steps_per_epoch} steps per epoch, from nothing: about 6,000 steps"
    frozen = all(moves == "head" for _, moves in facts.phases)
    wanted, most = (3000, 80) if facts.pairs else (1500, 40) if frozen or not facts.pretrained else (300, 20)
    epochs = max(3, min(most, math.ceil(wanted / steps_per_epoch)))
    return f"{epochs} epochs", f"{steps_per_epoch} steps per epoch"


def _rates(recipe: Recipe, facts: Facts, batch: int) -> tuple[float | dict[str, float], str]:
    """One rate where all phases agree, else one for each; for AdamW, and other optimizers relative to it."""
    name = recipe.train.optimizer.name
    if name == "lbfgs":
        return 1.0, "a line search finds its own step"
    scale, why = SCALES.get(name, (1.0, ""))
    rates, reason = _adamw_rates(facts, batch)
    if scale == 1.0:
        return rates, reason
    scaled = (
        {phase: _round(rate * scale) for phase, rate in rates.items()} if isinstance(rates, dict) else rates * scale
    )
    return scaled if isinstance(scaled, dict) else _round(scaled), f"{reason}; {why}"


def _adamw_rates(facts: Facts, batch: int) -> tuple[float | dict[str, float], str]:
    if not facts.pretrained and facts.modality == "table":
        # At 256 rows a step the default of Adam (Kingma & Ba 2015), up to which Gorishniy et al. 2021 search for nets
        # on tables; with fewer it falls as the square root of their number (Malladi et al. 2022).
        return _round(1e-3 * min(1.0, math.sqrt(batch / 256))), f"nothing is pretrained; {batch} rows a step"
    found = {name: _rate(moves, facts.num_parameters, facts.pretrained) for name, moves in facts.phases}
    first = next(iter(found.values()))
    if all(rate == first for rate in found.values()):
        return first
    return {name: rate for name, (rate, _) in found.items()}, "; ".join(
        f"{name}: {why}" for name, (_, why) in found.items()
    )


def _rate(moves: str, num_parameters: int, pretrained: bool) -> tuple[float, str]:
    """The published rate for what moves, with AdamW.

    A head on a frozen body: 3e-3, linear models on fixed features stand high rates (Kumar et al. 2022 search up to
    1e-2). The body: 2e-5 to 5e-5 for base-size encoders (Devlin et al. 2019, Liu et al. 2019), less for billions, more
    for small ones (1e-4: Jiao et al. 2020, Turc et al. 2019). Under half a million parameters, and for a network
    without pretrained weights, Adam's own 1e-3 (Kingma & Ba 2015; bench/LOG.md). Vectors (biases, norms): 1e-3, the
    most of what Ben Zaken et al. 2022 search. Adapters: ten times the body's rate (Hu et al. 2022: 2e-4 to 5e-4 at base
    size)."""
    if moves == "head":
        return 3e-3, "only the new head moves"
    if moves == "vectors":
        return 1e-3, "only small vectors and the head move"
    if not pretrained:
        return 1e-3, "a network that is not pretrained"
    known = ((5e5, 1e-3), (5e7, 1e-4), (2e8, 3e-5), (1e9, 2e-5))
    rate = next((rate for most, rate in known if num_parameters < most), 1e-5)
    scale = f"{num_parameters / 1e6:.0f}M" if num_parameters < 1e9 else f"{num_parameters / 1e9:.1f}B"
    if moves == "adapters":
        return _round(10 * rate), f"adapters of a model of {scale} parameters"
    return rate, f"full fine-tuning of {scale} parameters"


def _round(rate: float) -> float:
    return float(f"{rate:.1e}")


def _clip(recipe: Recipe) -> tuple[float, str]:
    if recipe.train.optimizer.name == "lbfgs":
        return 0.0, "a line search needs the gradient as it is"
    return 1.0, "the usual limit for Transformers (Devlin et al. 2019)"


def _warmup(recipe: Recipe) -> tuple[str, str]:
    if recipe.train.schedule.name in RISING:
        return "never", f"{recipe.train.schedule.name} rises by itself"
    if recipe.train.optimizer.name == "lbfgs":
        return "never", "a line search finds its own step"
    return "10 %", "a tenth of the steps (Devlin et al. 2019)"


def _patience(recipe: Recipe, facts: Facts) -> tuple[int, str]:
    if recipe.train.every.evaluate == "never":
        return 0, "nothing is evaluated while training"
    if facts.num_valid == 0:
        return 0, "no validation rows: the length comes from cross-validation"
    if not facts.pretrained:
        return 16, "evaluations without a better score (Gorishniy et al. 2021, for nets on tables)"
    if all(moves == "head" for _, moves in facts.phases):
        # Up to 40 epochs, of which the warm-up takes 4: on few rows a head has learnt nothing by then.
        return 16, "evaluations without a better score, many because a head learns slowly"
    return 4, "evaluations without a better score"


def _max_length(facts: Facts) -> tuple[int, str]:
    """As long as the longest row, as far as the model reads and no further than 512 tokens."""
    most = min(facts.max_positions, 512)
    return min(most, facts.longest), f"longest row {facts.longest} tokens, model reads {facts.max_positions}"


def _get(tree: dict[str, Any], path: str) -> Any:
    for key in path.split("."):
        tree = tree[key]
    return tree


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for key in parents:
        tree = tree[key]
    tree[last] = value
