"""The arms of a search: which strategies, objectives and backbones are tried, the likely first, with their ranges."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from tunesmith import plugins
from tunesmith.assemble.job import Job
from tunesmith.errors import Problem, RecipeError
from tunesmith.models.edits import lora, trim
from tunesmith.models.kinds import kind_of
from tunesmith.objectives.objective import reads
from tunesmith.recipe.check import CHOICES, check_recipe
from tunesmith.recipe.schema import Choice, Part, Recipe
from tunesmith.strategies.plan import Phase, Plan, then_head
from tunesmith.study.asked_space import Asked, asked_space
from tunesmith.study.default_space import FEW, SOME, Situation, default_ranges
from tunesmith.study.space import RATE, Arm, Range, covers, name_of, with_settings

PROMISES = {
    "few": {"contrastive": 0.38, "probe_then_full": 0.19, "full": 0.18, "discriminative": 0.17, "lora": 0.17},
    "some": {"probe_then_full": 0.47, "full": 0.43, "discriminative": 0.44, "lora": 0.44, "contrastive": 0.4},
    "many": {"full": 0.5, "probe_then_full": 0.45, "discriminative": 0.46, "lora": 0.44},
}
"""Rows per class -> strategy -> the share of the errors of a head on the frozen body that it took away: the mean of
TREC and SST-2 with MiniLM (bench/LOG.md), at 8 rows, at 17 to 170, at more. Under 17 only full and contrastive were
measured, contrastive not above 8: Tunstall et al. 2022 have it level with full at 64."""
OTHERS = {"unfreeze": 0.9, "last": 0.7, "stages": 0.7, "norms": 0.5, "biases": 0.5}
"""Of what `full` promises, what others do: `last` and `unfreeze` measured, the rest not."""
PICTURES = {"last": 0.1, "probe_then_full": 0.09, "full": 0.08, "lora": 0.08, "discriminative": 0.07, "stages": 0.07}
"""On 219 photographs with ImageNet's bodies nothing took errors from a head; on bodies of CIFAR full and last did."""


def arms_of(recipe: Recipe, situations: Mapping[str, Situation]) -> tuple[Arm, ...]:
    """The arms: the head on a frozen body, then what promises most for so many rows of a class.

    `situations`: backbone -> its Situation, one for each of `backbones(recipe)`. What the recipe fixes is not searched,
    unless `search.space` names it. RecipeError for what `search.space` says wrongly, and for what no arm could use."""
    asked = asked_space(recipe)
    found = [
        arm
        for name, situation in situations.items()
        for arm in _of_backbone(recipe, asked, name, situation, several=len(situations) > 1)
    ]
    used = {r.path for arm in found for r in arm.ranges}
    tuned = [r for r in asked.ranges if r.kind in recipe.search.tune]
    if idle := [r for r in tuned if r.path not in used]:
        remedy = "let it be of a strategy, a network or a choice that is tried, or leave it out"
        raise RecipeError([Problem("has no effect on any trial", f'search.space."{r.path}"', remedy) for r in idle])
    if not found:
        raise RecipeError("no strategy fits", where="search", remedy="fix one in the recipe: strategy = ...")
    return tuple(sorted(found, key=lambda arm: (name_of(arm.settings["strategy"]) != "head", -arm.promise)))


def backbones(recipe: Recipe) -> tuple[str, ...]:
    """The models that are tried: those of `search.space."model.name"`, else the recipe's."""
    asked = asked_space(recipe)
    fixed = asked.fixed.get("model.name", recipe.model.name)
    names = asked.arms.get("model.name", (fixed,)) if "architecture" in recipe.search.tune else (fixed,)
    return tuple(map(str, names))


def given(recipe: Part, above: str = "") -> set[str]:
    """The dotted fields that the recipe sets itself, and the options of its choices; "auto" sets nothing."""
    found: set[str] = set()
    for name in recipe.model_fields_set:
        value, path = getattr(recipe, name), f"{above}{name}"
        if isinstance(value, Choice):
            found |= {path, *(f"{path}.{option}" for option in value.options)}
        elif isinstance(value, Part):
            found |= given(value, f"{path}.")
        elif isinstance(value, dict) and path.startswith("model."):
            found |= set(_leaves(value, path))
        elif value != "auto":
            found.add(path)
    return found


def _leaves(tree: Mapping[str, Any], above: str) -> Iterator[str]:
    for name, value in tree.items():
        yield from _leaves(value, f"{above}.{name}") if isinstance(value, dict) and value else (f"{above}.{name}",)


def _of_backbone(recipe: Recipe, asked: Asked, name: str, situation: Situation, *, several: bool) -> Iterator[Arm]:
    """The arms of one backbone that the recipe's own check accepts."""
    candidates = list(_candidates(recipe, asked, situation))
    for strategy, objective, promise in candidates:
        settings = {**asked.fixed, "strategy": strategy, "objective": objective}
        settings |= {"model.name": name} if several else {}
        chosen = _chosen(recipe, asked)
        try:
            tried = with_settings(recipe, settings)
            check_recipe(tried)
            phases = _phases(tried, situation)
        except RecipeError:
            if chosen and len(candidates) == 1:
                raise
            continue
        ranges = tuple(_ranges(recipe, tried, asked, situation, phases))
        called = _name(strategy, objective) + (f" @ {name}" if several else "")
        yield Arm(called, settings, ranges, promise)


def _chosen(recipe: Recipe, asked: Asked) -> bool:
    """Whether a person says which strategy it is."""
    fixed = given(recipe) | {*asked.fixed, *asked.arms}
    return "strategy" in fixed or "training" not in recipe.search.tune


def _candidates(recipe: Recipe, asked: Asked, situation: Situation) -> Iterator[tuple[Any, Any, float]]:
    """Strategy, objective, and what they promise."""
    promises, fixed = _promises(situation), given(recipe) | {*asked.fixed}
    tuned = "training" in recipe.search.tune
    own = {path: asked.fixed.get(path, getattr(recipe, path).model_dump()) for path in ("strategy", "objective")}
    objectives = [own["objective"]]
    if tuned and "objective" in asked.arms:
        objectives = list(asked.arms["objective"])
    strategies: list[Any] = [own["strategy"]]
    if tuned and "strategy" in asked.arms:
        strategies = list(asked.arms["strategy"])
    elif tuned and "strategy" not in fixed and not isinstance(recipe.train.lr, dict):
        strategies = [name for name in ("head", *promises) if name != "contrastive" and _fits(name, situation)]
    for objective in objectives:
        for strategy in strategies:
            kind = "contrastive" if name_of(objective) == "contrastive" else str(name_of(strategy))
            yield strategy, objective, promises.get(kind, 0.0)
    free = tuned and not {"objective", "strategy"} & {*fixed, *asked.arms} and len(strategies) > 1
    if free and "contrastive" in promises and not recipe.data.unlabelled:
        yield "full", "contrastive", promises["contrastive"]


def _promises(situation: Situation) -> dict[str, float]:
    """Strategy -> what it promises for these rows; a network from nothing can only be trained whole."""
    if not situation.pretrained:
        return {"full": 1.0}
    rows = situation.rows_per_class
    size = "few" if rows <= FEW else "some" if rows <= SOME else "many"
    if situation.modality == "image":
        found = dict(PICTURES)
    else:
        found = dict(PROMISES[size])
        found |= {name: share * found["full"] for name, share in OTHERS.items()}
    if situation.task != "classification" or not (situation.poolings or situation.reads_vector):
        found.pop("contrastive", None)
    return found


def _fits(strategy: str, situation: Situation) -> bool:
    """Whether the network has what the strategy moves."""
    if not situation.pretrained:
        return strategy == "full"
    if strategy in ("last", "discriminative", "unfreeze", "stages"):
        return situation.blocks > 1
    if strategy == "lora":
        return situation.adapters
    return {"norms": "norm", "biases": "bias"}.get(strategy, "weight") in situation.kinds


def _name(strategy: Any, objective: Any) -> str:
    """`full`, `lora rank=4`, `contrastive`, `contrastive last`."""
    told = name_of(strategy)
    options = strategy if isinstance(strategy, dict) else {}
    words = [str(told), *(f"{key}={value}" for key, value in options.items() if key != "name")]
    if name_of(objective) != "supervised":
        words = [str(name_of(objective)), *(words if words != ["full"] else [])]
    return " ".join(words)


def _phases(recipe: Recipe, situation: Situation) -> tuple[Phase, ...]:
    """The phases of the recipe's strategy for the stages of this backbone."""
    plan: Plan = plugins.get("strategy", recipe.strategy.name)([*situation.stages, "head"], **recipe.strategy.options)
    return (then_head(plan, recipe.objective.name) if reads(recipe.objective.name) == "pairs" else plan).phases


def _ranges(
    recipe: Recipe, tried: Recipe, asked: Asked, situation: Situation, phases: tuple[Phase, ...]
) -> Iterator[Range]:
    """The default ranges that are not fixed, then those asked for, as far as they have an effect in this arm."""
    net = tried.model.name.removeprefix("new:") if tried.model.name.startswith("new:") else ""
    fixed = given(recipe) | {*asked.fixed}
    taken = {r.path for r in asked.ranges}
    defaults = [
        r
        for r in default_ranges(situation, net, tried.strategy.name, tried.objective.name, phases)
        if r.kind in recipe.search.tune and not _is_fixed(r.path, fixed) and not _is_taken(r.path, taken)
    ]
    defaults = _going_together(recipe, tried, defaults, fixed)
    own = [r for r in asked.ranges if r.kind in recipe.search.tune]
    own = [r for r in own if _is_of_net(r, net) and _is_of_phase(r, phases)]
    drawn = {r.path: r for r in (*own, *defaults)}
    for asked_range in (*own, *defaults):
        above = drawn.get(asked_range.above)
        if not asked_range.only or (above is not None and {*map(name_of, above.choices)} & {*asked_range.only}):
            yield asked_range
        elif above is None and _named(tried, asked_range):
            yield replace(asked_range, only=())


def _is_fixed(path: str, fixed: set[str]) -> bool:
    """Whether the path, or a field above it that is no choice, is fixed; options of a fixed choice are not."""
    return path in fixed or covers([other for other in fixed if other not in CHOICES], path)


def _is_taken(path: str, taken: set[str]) -> bool:
    """Whether a person's range stands for this default one; the rates of phases stand for the one of all."""
    of_phases = path == RATE and any(other.startswith(f"{RATE}.") for other in taken)
    return of_phases or path in taken or covers(taken - {*CHOICES}, path)


def _going_together(recipe: Recipe, tried: Recipe, ranges: list[Range], fixed: set[str]) -> list[Range]:
    """Without what makes no sense beside what is fixed."""
    without: set[str] = set()
    if RATE in fixed:
        without |= {"train.optimizer"}  # Each wants a rate of its own size.
    if tried.train.optimizer.name == "lbfgs" or tried.train.batch == "all":
        without |= {r.path for r in ranges if r.path.startswith("train.")}
    options = tried.model.options
    if any(isinstance(options.get(name), list) for name in ("width", "channels", "kernel")):
        without |= {"model.options.layers"}
    if tried.objective.options.get("loss", "cross_entropy") != "cross_entropy":
        without |= {"objective.label_smoothing"}
    if tried.data.sampler == "balanced":
        without |= {"objective.class_weights"}
    return [r for r in ranges if r.path not in without]


def _is_of_net(asked: Range, net: str) -> bool:
    """Whether an option of a network is one of this network."""
    option = asked.path.removeprefix("model.options.")
    return option == asked.path or not net or option in plugins.options(plugins.get("net", net))


def _is_of_phase(asked: Range, phases: tuple[Phase, ...]) -> bool:
    phase = asked.path.removeprefix(f"{RATE}.")
    return phase == asked.path or phase in {p.name for p in phases}


def _named(recipe: Recipe, asked: Range) -> bool:
    """Whether the recipe's choice above an option has it: as it is called, or because no other has it."""
    value: Any = recipe
    for part in asked.above.split("."):
        value = getattr(value, part)
    return value.name in asked.only if isinstance(value, Choice) else len(asked.only) == 1


def situation_of(job: Job) -> Situation:
    """The Situation of a Job, as prepared."""
    rows, pretrained = job.rows, job.pretrained
    counts = [count for count in rows.target.counts if count] if rows.task.name != "regression" else []
    modules = dict(pretrained.body.named_modules())
    kinds = {
        kind_of(modules[path.rpartition(".")[0]], path.rpartition(".")[2])
        for stage in pretrained.stages
        for path in stage.parameters
    }
    rates = [module.p for module in modules.values() if isinstance(module, nn.modules.dropout._DropoutNd)]
    return Situation(
        task=rows.task.name,
        modality=rows.modality,
        num_train=len(rows.split.train),
        smallest_class=min(counts, default=len(rows.split.train)),
        num_classes=rows.target.num_outputs,
        pretrained=not pretrained.origin.name.startswith("new:"),
        stages=tuple(stage.name for stage in pretrained.stages),
        poolings=tuple(pretrained.poolings),
        own_head=pretrained.own_head,
        reads_vector=bool(pretrained.head_path),
        kinds=frozenset(kinds),
        adapters=lora.fits(pretrained),
        dropout=max(rates, default=None),
        least=trim.least(pretrained),
        packages=frozenset(name for name in ("lion_pytorch",) if importlib.util.find_spec(name)),
    )
