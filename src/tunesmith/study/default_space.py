"""The default space: what is searched of a strategy where a person says nothing, by task, rows and model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tunesmith.strategies.plan import Phase
from tunesmith.study.space import Range, kind_of

FEW, SOME = 16, 200
"""Rows per class up to which rows are few, and not yet many (bench/LOG.md has 8, 17 to 50, 170 to 500, and more)."""


@dataclass(frozen=True)
class Situation:
    """What the space depends on: the rows, and what the model is made of."""

    task: str
    modality: str
    num_train: int
    smallest_class: int
    """Rows of the rarest class; of a regression all rows."""
    num_classes: int
    """Classes or labels; of a regression 1."""
    pretrained: bool = True
    stages: tuple[str, ...] = ()
    """Of the body, in execution order, without the head."""
    poolings: tuple[str, ...] = ()
    own_head: bool = False
    reads_vector: bool = False
    """Whether its own head reads one vector a row."""
    kinds: frozenset[str] = frozenset()
    """Of the parameters of the body: weight, bias, norm."""
    adapters: bool = False
    """Whether a layer takes an adapter."""
    dropout: float | None = None
    """The rate that its body was published with; None where it has none."""
    least: int | None = None
    """The fewest blocks that may be kept of it; None where none can go."""
    packages: frozenset[str] = field(default_factory=frozenset)
    """Optional packages that are installed, such as lion_pytorch."""

    @property
    def blocks(self) -> int:
        return sum(name.startswith("block.") for name in self.stages)

    @property
    def rows_per_class(self) -> float:
        return self.num_train / max(1, self.num_classes)


def default_ranges(
    situation: Situation, net: str, strategy: str, objective: str, phases: tuple[Phase, ...]
) -> list[Range]:
    """What is searched of a strategy, whose phases these are. `net`: of a network from nothing, what it is called."""
    frozen = all(phase.moves == "head" for phase in phases)
    return [
        *_rates(situation, phases),
        *_lengths(situation, frozen),
        *_optimizers(situation, frozen),
        *_regularization(situation, objective, phases),
        *_strategy(situation, strategy),
        *_NETS.get(net, ()),
        *_architecture(situation, objective, frozen),
        *_augmentation(situation, objective, frozen),
    ]


def _choice(path: str, priority: int, *choices: Any, only: tuple[str, ...] = ()) -> Range:
    """One of `choices`, of which the first is the default."""
    return Range(path, kind_of(path), choices, priority=priority, only=only)


def _number(path: str, priority: int, low: float, high: float, default: float, **more: Any) -> Range:
    """A number from `low` to `high`."""
    return Range(path, kind_of(path), low=low, high=high, default=default, priority=priority, **more)


def _rates(situation: Situation, phases: tuple[Phase, ...]) -> list[Range]:
    """Multiples of the published rate. The body: Turc et al. 2019 search small models from a half to three times it,
    Devlin et al. 2019 BERT from 2/3 to 5/3. A head stands more (Kumar et al. 2022), and so does what begins from
    nothing (Gorishniy et al. 2021)."""
    spans = {"head": (0.2, 5.0), "vectors": (0.3, 5.0), "adapters": (0.3, 3.0), "body": (0.5, 3.0)}
    if not situation.pretrained:
        spans["body"] = (0.3, 5.0)

    def rate(path: str, moves: str, priority: int) -> Range:
        return _number(path, priority, *spans[moves], 1.0, log=True, relative=True)

    if len(phases) != 2:
        return [rate("train.lr", phases[-1].moves, 1)]
    return [rate(f"train.lr.{phase.name}", phase.moves, 3 if phase.moves == "head" else 1) for phase in phases]


def _lengths(situation: Situation, frozen: bool) -> list[Range]:
    """Half to twice the usual length (Mosbach et al. 2021: on few rows longer is safer), and the batch. A network from
    nothing ends by its patience."""
    rows = situation.num_train
    usual = 16 if rows < 2000 else 32
    if not situation.pretrained and situation.modality == "table":
        usual = 32 if rows < 2000 else 128 if rows < 10_000 else 256
    factor = _number("train.length", 1, 0.5, 2.0, 1.0, log=True, relative=True)
    return [
        *[factor] * situation.pretrained,
        _choice("train.batch", 3 if frozen else 1, usual, 2 * usual, usual // 2),
        _choice("train.schedule", 3, "linear", "cosine", "constant"),
        _choice("train.warmup", 4, "10 %", "never", "20 %"),
    ]


def _optimizers(situation: Situation, frozen: bool) -> list[Range]:
    """AdamW and its options, SGD with momentum and its, Lion where it is installed; Muon for nets on tables from
    nothing, which are made of matrices."""
    others: list[Any] = [{"name": "sgd", "momentum": 0.9, "nesterov": True}]
    others += ["lion"] * ("lion_pytorch" in situation.packages)
    others += ["muon"] * (not situation.pretrained and situation.modality == "table")
    betas = ([0.9, 0.999], [0.9, 0.98], [0.9, 0.95])
    return [
        _choice("train.optimizer", 4 if situation.pretrained else 3, "adamw", *others),
        _number("train.optimizer.weight_decay", 2 if frozen else 3, 1e-3, 0.3, 0.01, log=True, only=("adamw",)),
        _choice("train.optimizer.betas", 4, *betas, only=("adamw",)),
        _number("train.optimizer.momentum", 4, 0.8, 0.98, 0.9, only=("sgd",)),
        _choice("train.clip", 5, 1.0, 0.0, {"name": "adaptive"}),
    ]


def _regularization(situation: Situation, objective: str, phases: tuple[Phase, ...]) -> list[Range]:
    moves_body = situation.pretrained and any(phase.moves == "body" for phase in phases)
    pulls = [{"name": "l2_sp", "strength": 0.01}, {"name": "l2_sp", "strength": 0.1}] * moves_body
    penalties = (None, *pulls, {"name": "l1", "strength": 1e-5}, {"name": "l2", "strength": 1e-3})
    found = [_choice("train.penalty", 4, *penalties), _choice("train.average", 4, None, {"name": "ema", "decay": 0.99})]
    if objective == "supervised" and situation.task == "classification":
        found.append(_number("objective.label_smoothing", 3, 0.0, 0.2, 0.0))
        if 2 * situation.smallest_class < situation.rows_per_class:
            found.append(_choice("objective.class_weights", 3, None, "balanced"))
    if situation.dropout is not None and moves_body:
        found.append(_number("model.edits.dropout.rate", 3, 0.0, 0.3, min(0.3, situation.dropout)))
    if situation.modality == "text" and moves_body and situation.rows_per_class <= SOME:
        # The top drawn anew (Zhang et al. 2021).
        found.append(_choice("model.edits.reinit", 4, None, {}))
    return found


def _strategy(situation: Situation, strategy: str) -> list[Range]:
    """The options of a strategy, by its name."""
    half = max(1, (situation.blocks + 1) // 2)

    def some(option: str, high: int, default: int) -> list[Range]:
        span = (1, high, min(default, high))
        return [_number(f"strategy.{option}", 2, *span, whole=True)] if high > 1 else []

    decay = _number("strategy.decay", 2, 0.65, 0.95, 0.9)
    methods = ("lora", "rslora", "dora")
    options = {
        "last": some("stages", min(4, half), 2),
        "discriminative": [decay],
        "probe_then_full": [_number("strategy.probe", 2, 0.1, 0.5, 0.3)],
        "unfreeze": [
            *some("stages_per_phase", min(3, half), 1),
            decay,
            _number("strategy.final", 3, 0.3, 0.7, 0.5),
        ],
        "stages": some("count", min(4, half), 2),
        "lora": [
            _choice("strategy.rank", 2, 8, 4, 16, 32),
            _choice("strategy.method", 3, *methods),
            _number("strategy.dropout", 4, 0.0, 0.2, 0.0),
            *[_choice("strategy.last", 4, None, half)] * (half < situation.blocks),
        ],
    }
    return options.get(strategy, [])


def _architecture(situation: Situation, objective: str, frozen: bool) -> list[Range]:
    """The head, and how many blocks of the backbone are kept."""
    if not situation.pretrained:
        return []
    found = []
    if pooled := [{"name": "pooled", "pooling": pooling} for pooling in situation.poolings]:
        hidden = [{**pooled[0], "layers": 1, "hidden": 256}, {**pooled[0], "layers": 2, "hidden": 128}]
        own = ["own"] * (situation.own_head and (objective == "supervised" or situation.reads_vector))
        found.append(_choice("model.head", 1 if frozen else 3, "auto", *pooled, *hidden, *own))
        found.append(_number("model.head.dropout", 2 if frozen else 4, 0.0, 0.5, 0.1, only=("pooled",)))
    least = max(situation.least or situation.blocks, (situation.blocks + 1) // 2)
    if least < situation.blocks:
        found.append(_number("model.edits.trim.keep", 4, least, situation.blocks, situation.blocks, whole=True))
    return found


def _augmentation(situation: Situation, objective: str, frozen: bool) -> list[Range]:
    """The ways that fit the rows; none where the body is frozen, whose outputs would have to be computed in each step,
    and none of pairs of rows. Words changed brought nothing on texts (bench/LOG.md), so they come last."""
    mixed = [{"name": "images", "mixup": 0.2}] * (situation.task == "classification")
    ways: dict[str, tuple[int, list[Any]]] = {
        "image": (2, ["images", "trivialaugment", "randaugment", *mixed]),
        "sound": (3, ["sounds"]),
        "table": (4, ["columns"]),
        "text": (5, ["words"]),
    }
    if frozen or objective != "supervised" or situation.modality not in ways:
        return []
    priority, choices = ways[situation.modality]
    return [_choice("data.augment", priority, None, *choices)]


_OPTION = "model.options"
_ACTIVATION = _choice(f"{_OPTION}.activation", 4, "relu", "gelu", "silu", "leaky_relu")
_NETS = {
    "mlp": (
        _number(f"{_OPTION}.width", 1, 64, 512, 256, log=True, whole=True),
        _number(f"{_OPTION}.dropout", 1, 0.0, 0.5, 0.1),
        _number(f"{_OPTION}.layers", 2, 1, 4, 3, whole=True),
        _choice(f"{_OPTION}.embedding", 2, 16, 0, 8, 32),
        _number(f"{_OPTION}.spread", 3, 0.02, 1.0, 0.1, log=True),
        _choice(f"{_OPTION}.norm", 3, "none", "layer"),
        _ACTIVATION,
    ),
    "ft_transformer": (
        _choice(f"{_OPTION}.width", 1, 192, 64, 128),
        _number(f"{_OPTION}.blocks", 1, 1, 4, 3, whole=True),
        _number(f"{_OPTION}.dropout", 2, 0.0, 0.4, 0.1),
        _number(f"{_OPTION}.attention_dropout", 2, 0.0, 0.4, 0.2),
        _number(f"{_OPTION}.hidden", 3, 1.0, 2.7, 4 / 3),
    ),
    "cnn": (
        _number(f"{_OPTION}.layers", 1, 2, 4, 3, whole=True),
        _choice(f"{_OPTION}.channels", 1, 32, 16, 64),
        _number(f"{_OPTION}.dropout", 2, 0.0, 0.5, 0.0),
        _choice(f"{_OPTION}.kernel", 2, 3, 5),
        _choice(f"{_OPTION}.dense", 2, 128, 0, 64, 256),
        _choice(f"{_OPTION}.pooling", 3, "max", "average"),
        _choice(f"{_OPTION}.norm", 3, "batch", "none"),
        _ACTIVATION,
    ),
}
"""The architecture of each network from nothing; of tables as Gorishniy et al. 2021 and 2022 search it."""
