"""The Recipe: everything a run depends on, as one frozen, typed value."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    model_serializer,
    model_validator,
)

from tunesmith.duration import Duration, seconds_of

Auto = Literal["auto"]


def _length(text: str) -> str:
    return text if text == "auto" else str(Duration.parse(text))


def _budget(text: str) -> str:
    seconds_of(text)
    return text


Length = Annotated[str, AfterValidator(_length)]
Budget = Annotated[str, AfterValidator(_budget)]
Reached = Annotated[str, Field(pattern=r"^(precision|recall) >= (0?\.\d+|1(\.0*)?)$")]
Names = Annotated[tuple[str, ...], Strict(False)]


class Part(BaseModel):
    """A frozen piece of the recipe: unknown keys and wrong types are errors, nothing is converted silently."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class Choice(Part):
    """A name plus options for the function it names: `"head"`, or `{ name = "pooled", pooling = "max" }`."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_name_or_table(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, dict) and set(value) != {"name", "options"}:
            return {"name": value.get("name"), "options": {key: item for key, item in value.items() if key != "name"}}
        return value

    @model_serializer
    def _as_name_or_table(self) -> str | dict[str, Any]:
        return {"name": self.name, **self.options} if self.options else self.name

    @classmethod
    def __get_pydantic_json_schema__(cls, _core: Any, _handler: Any) -> dict[str, Any]:
        """A name, or a table with a name and options: what a person writes, not how it is kept."""
        table = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
        return {"anyOf": [{"type": "string"}, table], "description": (cls.__doc__ or "").strip()}


class Clean(Part):
    """What happens to rows that cannot be used."""

    missing: Literal["error", "drop"] = "error"
    """Rows without an input or a target: stop with their numbers, or leave them out and say how many."""
    duplicates: Literal["keep", "drop"] = "keep"
    """Training rows that repeat the inputs and the target of another one: tell of them, or keep one of each."""
    conflicts: Literal["keep", "drop"] = "keep"
    """Rows with the inputs of another one and another target: tell of them, or leave those that train out."""
    leaks: Literal["keep", "drop", "move"] = "keep"
    """Rows nearly the same in two parts: tell of them, leave out those of the earlier part (and columns that give the
    target away), or bring them together."""


class Data(Part):
    """Which rows, which columns, and how they are split."""

    source: str
    """A file (CSV, TSV, JSON Lines, Parquet), a folder of them, or a Hugging Face `datasets` folder or hub name."""
    valid: str | None = None
    """A separate file of validation rows; choices (head, when to stop) are made on them."""
    test: str | None = None
    """A separate file of test rows; they choose nothing and are scored once."""
    inputs: Names | Auto = "auto"
    """The text column, or two of them for text pairs."""
    target: str | Names | Auto = "auto"
    """The column to predict; several 0/1 columns make a multi-label task."""
    limit: int | None = Field(None, ge=1)
    """Use only so many rows of the source (those with the lowest hashes)."""
    max_length: Annotated[int, Field(gt=0)] | Annotated[float, Field(gt=0)] | Auto = "auto"
    """Tokens of a text, or seconds of a sound, at most; longer rows are cut, and it is said how many."""
    unlabelled: str | None = None
    """A file of rows without a target, for an objective that reads such rows; they belong to no part of the split."""
    sampler: Literal["shuffle", "balanced"] = "shuffle"
    """An epoch has each training row once, or each class as often as any other: rows of small classes come again."""
    augment: Auto | Choice | None = Field(None, union_mode="left_to_right")
    """How training rows are changed at random, others never: `words`, `images`, `randaugment`, `trivialaugment`,
    `sounds`, `columns`; "auto" tries the usual way and keeps it only if validation accepts it."""
    clean: Clean = Clean()
    limits: dict[str, float] = Field(default_factory=dict)
    """The largest share of rows that may be `dropped`, `duplicates`, `conflicts` or `leaks`, or of tokens `cut`."""
    split: Auto | Choice = Field("auto", union_mode="left_to_right")
    """How train, valid and test are made: a name from `tunesmith list split`, with its options: `{ name = "group",
    by = "speaker" }`."""

    @model_validator(mode="before")
    @classmethod
    def _from_path(cls, value: Any) -> Any:
        return {"source": value} if isinstance(value, str) else value


class Model(Part):
    """The pretrained model and its new head."""

    name: str
    """A folder in transformers format, a hub name, `package:NAME`, `torchvision:NAME`, `timm:NAME`, `new:NAME` (not
    pretrained), `code:MODULE:FUNCTION`, a file `.keras`, or an earlier Run."""
    weights: str | None = None
    """A file of weights (.safetensors, .pth) for a network that is no transformers folder."""
    options: dict[str, Any] = Field(default_factory=dict)
    """What a network is built with: of `new:cnn` its layers, channels ...; of `code:` the function's arguments."""
    expects: dict[str, Any] = Field(default_factory=dict)
    """What a network that does not say so reads: of images `size`, `channels`, `mean`, `std`, `resize`; of
    sounds `rate` (which arrays do not tell), `mels`, `mean`, `std`."""
    revision: str | None = None
    """The commit, tag or branch on the hub."""
    head: Auto | Choice = Field("auto", union_mode="left_to_right")
    """`own` (the model's classification head) or `pooled`; "auto" measures the candidates on frozen features."""
    edits: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Changes of the network before anything trains, by name: `edits.reinit = { stages = ["block.5"] }`."""
    trust: bool = False
    """Run Python code that comes with the model."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class Every(Part):
    """How often to evaluate and to save."""

    evaluate: Length = "auto"
    """How often the validation rows are scored: `"1 epoch"`, `"100 steps"` or `"never"`."""
    save: Length = "auto"
    """How often a checkpoint is written, from which `--resume` continues."""


class Train(Part):
    """How the parameters move."""

    length: Length = "auto"
    """Total over all phases: `"3 epochs"` or `"500 steps"`."""
    batch: int | Literal["auto", "all"] = "auto"
    """Rows per optimizer step, over all ranks; "all" = the whole training set (plain gradient descent)."""
    micro: int | Auto = "auto"
    """Rows per forward and backward pass; the gradients of a step's passes add up to those of the whole batch."""
    lr: float | dict[str, float] | Auto = "auto"
    """Peak learning rate, or one for each phase of the strategy by its name; a strategy's rules multiply it."""
    optimizer: Choice = Choice(name="adamw")
    """A name from `tunesmith list optimizer`, or with options: `{ name = "sgd", momentum = 0.9, nesterov = true }`."""
    schedule: Choice = Choice(name="linear")
    """How the rate goes on after the warm-up: a name from `tunesmith list schedule`."""
    warmup: Length = "auto"
    """How long the rate rises linearly from zero."""
    clip: Auto | Annotated[float, Field(ge=0)] | Choice = Field("auto", union_mode="left_to_right")
    """Largest norm of the gradient (0 = no clipping), or a choice: `norm`, `value` or `adaptive`."""
    penalty: Choice | None = None
    """What is added to the loss: `l1`, `l2`, or `l2_sp` (a pull towards the pretrained weights)."""
    average: Choice | None = None
    """Averaged weights in place of the last: `ema`, `swa`, `soup` or `wise_ft`."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`fp32`, or `bf16` where the processor is fast at it; scores are always computed in fp32."""
    cache: Literal["auto", "off", "fp32", "bf16"] = "auto"
    """Compute what frozen stages give once and keep it on disk: in the run's precision, `fp32`, `bf16`; or `off`."""
    patience: int | Auto = "auto"
    """Evaluations without a better score before training stops; 0 = no early stop."""
    on_collapse: Literal["restart", "stop", "continue"] = "restart"
    """When the training collapses early: once more with a lower rate and a longer warm-up, an error, or go on."""
    every: Every = Every()
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1` or `mps`."""
    deterministic: bool = False
    """Refuse operations whose result may differ from run to run (CUDA only: CPU runs are always repeatable)."""


class Evaluate(Part):
    """What is reported and what decides."""

    metrics: Names | Auto = "auto"
    """Names from `tunesmith list metric`."""
    select: str = "auto"
    """The metric that chooses the head, the best step and when to stop."""
    threshold: Annotated[float, Field(gt=0, lt=1)] | Auto | Reached | None = None
    """From which probability on the positive label, or each of several labels, is decided: a number, "auto", the one at
    which `select` is best on the validation rows, or "precision >= 0.95" (or recall), the one at which these rows have
    that. Without it the most probable label, or 0.5 for each of several."""
    temperature: Auto | Annotated[float, Field(gt=0)] = "auto"
    """By what the outputs are divided before they become probabilities: a number (1 leaves them as they are), or
    "auto": the one of the least log loss on the validation rows, where rows that did not choose it accept it."""
    slices: Names | Auto = "auto"
    """Columns whose values are held against the rest, beside labels, lengths and sizes; "auto": columns of few values
    that are neither input nor target."""
    seeds: int = Field(1, ge=1)
    """How often the recipe is run, each time with another seed: the scores then say how much they differ by."""
    source_task: str | None = None
    """What the model could do before: labelled rows that its own head knows, scored before and after; or a text (.txt)
    on which a language model is judged."""
    keep: Annotated[float, Field(gt=0, le=1)] | None = None
    """Go back from the tuned weights to the pretrained ones as far as this share of the old score asks (WiSE-FT)."""


class Deliver(Part):
    """What leaves the Run."""

    report: Literal["en", "zh", "none"] = "en"
    """The language of `report.html`, written at the end; "none": no report, and no row is kept for one."""
    push: str | None = None
    """Upload `model/` to this hub repository after the run (`owner/name`); off by default."""
    observers: Annotated[tuple[Choice, ...], Strict(False)] = ()
    """Programs that draw the curves while it runs, beside events.jsonl: `["tensorboard"]`, or with options."""


class Search(Part):
    """What `tunesmith search` may spend and may change; a fit has no use for it."""

    budget: Budget = "20m"
    """The time for all of it, to the report: `"90s"`, `"20m"`, `"1h30m"`."""
    trials: int | None = Field(None, ge=1)
    """At most so many trials, within the time."""
    memory: Annotated[float, Field(gt=0)] | None = None
    """GB of memory that a trial may need, or it is not begun; by default what is free."""
    disk: Annotated[float, Field(gt=0)] | None = None
    """GB that the search may write; by default what is free."""
    tune: Annotated[tuple[Literal["parameters", "architecture", "training"], ...], Strict(False)] = (
        "parameters",
        "architecture",
        "training",
    )
    """What is searched: optimization and regularization, the network, or the strategy."""
    space: dict[str, Any] = Field(default_factory=dict)
    """A field of the recipe -> what it may be: `{ low = 1e-5, high = 1e-3, log = true }`, a list, or one value."""
    workers: Annotated[int, Field(ge=1)] | Annotated[str, Field(pattern=r"^ray(:[1-9]\d*)?$")] = 1
    """Processes of this machine that run trials, each with its share of the cores; or `ray`, `ray:8`: of a cluster."""
    earlier: bool = False
    """Begin with what was best in earlier searches on tasks alike."""


class Recipe(Part):
    """One run, as asked for. Everything left out is "auto" or the default that stands here."""

    name: str = "auto"
    """What the run is called: part of the folder's name and the title of its card."""
    task: Auto | Choice = Field("auto", union_mode="left_to_right")
    """`classification`, `multilabel` or `regression`; "auto" looks at the target column."""
    objective: Choice = Choice(name="supervised")
    """What is minimised: `supervised`, `contrastive` (pairs of rows) or `consistency` (rows without a target too)."""
    strategy: Choice = Choice(name="full")
    """What trains, how fast and when: a name from `tunesmith list strategy`, or `{ name = "last", stages = 2 }`."""
    seed: int = 0
    """The seed of everything random."""
    data: Data
    model: Model
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    deliver: Deliver = Deliver()
    search: Search = Search()
