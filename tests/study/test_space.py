"""The space of a search: its arms and ranges by task, rows and model; what a person fixes or asks; what trains."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace

import optuna
import pytest

import tunesmith
from tunesmith import plugins
from tunesmith.assemble import job as jobs
from tunesmith.assemble.rows import Objects
from tunesmith.errors import RecipeError
from tunesmith.recipe import file as recipe_file
from tunesmith.recipe.check import check_recipe
from tunesmith.recipe.facts import Facts
from tunesmith.recipe.resolve import resolve
from tunesmith.study.arms import arms_of, backbones, situation_of
from tunesmith.study.default_space import Situation
from tunesmith.study.space import Range, distribution, whole, with_settings
from tunesmith.testing import tiny_model, tiny_rows
from tunesmith.training.machine import start

STAGES = ("stem", *(f"block.{number}" for number in range(6)), "neck")
KINDS = frozenset({"weight", "bias", "norm"})
MINILM = Situation(
    "classification", "text", 400, 8, 6, True, STAGES, ("mean", "cls", "max"), True, False, KINDS, True, 0.1, 1
)
RESNET = replace(
    MINILM,
    modality="image",
    num_train=195,
    smallest_class=90,
    num_classes=2,
    poolings=("mean",),
    reads_vector=True,
    adapters=False,
    dropout=None,
    least=None,
)
NOTHING = Situation("classification", "table", 1500, 600, 2, False, ("stem", "block.0", "neck"), ("mean",), True, True)
SITUATIONS = {
    "trec, 500 rows": (MINILM, "m"),
    "8 rows a class": (replace(MINILM, num_train=48), "m"),
    "many rows": (replace(MINILM, num_train=6000, smallest_class=3000, num_classes=2), "m"),
    "several labels": (replace(MINILM, task="multilabel"), "m"),
    "a value of texts": (replace(MINILM, task="regression", num_classes=1), "m"),
    "one block": (replace(MINILM, stages=("stem", "block.0"), least=None), "m"),
    "photographs": (RESNET, "torchvision:resnet18"),
    "sounds": (replace(MINILM, modality="sound", poolings=("mean", "max"), least=3), "m"),
    "a table": (NOTHING, "new:mlp"),
    "values of a table": (replace(NOTHING, task="regression", num_classes=1, num_train=20_000), "new:mlp"),
    "a table, transformer": (NOTHING, "new:ft_transformer"),
    "pictures from nothing": (replace(NOTHING, modality="image"), "new:cnn"),
}


def recipe_of(model="m", **fields):
    return recipe_file.build({"data": "rows.csv", "model": model, **fields})


def made(situation=MINILM, model="m", **fields):
    recipe = recipe_of(model, **fields)
    return {arm.name: arm for arm in arms_of(recipe, dict.fromkeys(backbones(recipe), situation))}


def filled(recipe, situation=MINILM):
    """The recipe with every "auto" filled, as the search fills it."""
    options = recipe.strategy.options
    plan = plugins.get("strategy", recipe.strategy.name)([*situation.stages, "head"], **options)
    pairs = recipe.objective.name == "contrastive"
    if pairs:
        from tunesmith.strategies.plan import then_head

        plan = then_head(plan, "contrastive")
    facts = Facts(
        name="rows",
        task=situation.task,
        inputs=("text",),
        target="label",
        num_train=situation.num_train,
        num_valid=50,
        num_outputs=situation.num_classes,
        num_parameters=22_000_000,
        phases=tuple((phase.name, phase.moves) for phase in plan.phases),
        max_positions=512,
        longest=40,
        seconds=2.0,
        device="cpu",
        precision="fp32",
        split="hash",
        select="accuracy",
        metrics=("accuracy",),
        modality=situation.modality,
        pairs=pairs,
        pretrained=situation.pretrained,
    )
    return resolve(recipe, facts)[0]


def drawn(arm, seed):
    """A draw of an arm by Optuna's own random sampler."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    trial = study.ask()
    return arm.draw(lambda asked: trial._suggest(asked.path, distribution(asked)))


@pytest.fixture(autouse=True, scope="module")
def _silent():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(before)


@pytest.mark.parametrize("name", SITUATIONS)
def test_defaults_and_200_random_draws_pass_the_recipes_check_and_survive_a_file(name):
    situation, model = SITUATIONS[name]
    recipe = recipe_of(model)
    arms = arms_of(recipe, {model: situation})
    draws = [(arm, arm.first()) for arm in arms]
    draws += [(arms[seed % len(arms)], drawn(arms[seed % len(arms)], seed)) for seed in range(200)]
    for arm, params in draws:
        settings = whole(arm, params, recipe, lambda asked: filled(asked, situation))
        tried = with_settings(recipe, settings)
        check_recipe(tried)
        assert recipe_file.build(recipe_file.tomllib.loads(recipe_file.dump(tried))) == tried
        assert json.loads(json.dumps(params)) == params, "a record is JSON"
        assert with_settings(recipe, json.loads(json.dumps(settings))) == tried
        stated = situation.stages[: 1 + settings.get("model.edits.trim.keep", 99)]
        plugins.get("strategy", tried.strategy.name)([*stated, "head"], **tried.strategy.options)


@pytest.mark.parametrize("name", SITUATIONS)
def test_the_first_trial_of_an_arm_is_the_published_recipe(name):
    situation, model = SITUATIONS[name]
    recipe = recipe_of(model)
    for arm in arms_of(recipe, {model: situation}):
        settings = whole(arm, arm.first(), recipe, lambda asked: filled(asked, situation))
        usual = filled(with_settings(recipe, arm.settings), situation)
        tried = filled(with_settings(recipe, settings), situation)
        assert (tried.train.lr, tried.train.length, tried.train.batch) == (
            usual.train.lr,
            usual.train.length,
            usual.train.batch,
        )
        for path in ("optimizer", "schedule", "penalty", "average", "warmup", "clip"):
            assert getattr(tried.train, path) in (getattr(usual.train, path), _with_defaults(usual, path)), path
        if model.startswith("new:"):
            defaults = plugins.options(plugins.get("net", model[4:]))
            for option, value in tried.model.options.items():
                default = defaults[option].default
                assert value == (pytest.approx(default, rel=0.03) if isinstance(default, float) else default), option
        for option, value in tried.strategy.options.items():
            default = plugins.options(plugins.get("strategy", tried.strategy.name))[option].default
            assert value == default or (option, value) in (("rank", 8), ("count", 2))


def _with_defaults(recipe, path):
    """A choice as the space writes it, with its options' defaults."""
    choice = getattr(recipe.train, path)
    if path != "optimizer":
        return choice
    known = inspect.signature(plugins.get("optimizer", choice.name)).parameters
    options = {"weight_decay": known["weight_decay"].default, "betas": list(known["betas"].default)}
    return choice.model_copy(update={"options": options})


def test_the_head_comes_first_and_then_what_usually_wins_for_so_many_rows_a_class():
    def order(**fields):
        return list(made(replace(MINILM, **fields)))

    assert order(num_train=48)[:3] == ["head", "contrastive", "probe_then_full"]
    assert order(num_train=400)[:2] == ["head", "probe_then_full"]
    many = order(num_train=6000)
    assert many[:2] == ["head", "full"] and "contrastive" not in many
    assert {"last", "lora", "discriminative", "unfreeze", "norms", "biases", "stages"} <= {*many}


def test_an_arm_needs_what_its_strategy_moves():
    assert "lora" not in made(RESNET) and "lora" in made()
    assert "norms" not in made(replace(MINILM, kinds=frozenset({"weight"})))
    assert not {"last", "unfreeze", "stages"} & {*made(replace(MINILM, stages=("stem", "block.0")))}
    assert list(made(NOTHING, "new:mlp")) == ["full"]
    assert "contrastive" not in made(replace(MINILM, task="multilabel"))
    assert "contrastive" not in made(replace(MINILM, poolings=()))


def test_every_point_of_the_issue_is_in_the_default_space():
    arms = made()
    paths = {r.path for arm in arms.values() for r in arm.ranges}
    assert {
        *("strategy.stages", "strategy.rank", "strategy.method", "strategy.decay", "strategy.probe", "strategy.final"),
        *("train.lr", "train.lr.full", "train.lr.probe", "train.length", "train.batch", "train.schedule"),
        *("train.warmup", "train.optimizer", "train.optimizer.betas", "train.optimizer.momentum"),
        *("train.optimizer.weight_decay", "train.penalty", "objective.label_smoothing", "objective.class_weights"),
        *("model.head", "model.head.dropout", "model.edits.dropout.rate", "model.edits.trim.keep", "data.augment"),
    } <= paths
    penalties = {str(choice) for r in arms["full"].ranges if r.path == "train.penalty" for choice in r.choices}
    assert all(any(name in said for said in penalties) for name in ("l1", "'l2'", "l2_sp"))
    nets = {r.path for r in made(NOTHING, "new:cnn")["full"].ranges}
    nets |= {r.path for r in made(NOTHING, "new:mlp")["full"].ranges}
    options = ("layers", "width", "channels", "kernel", "activation", "norm", "dense", "dropout")
    assert {f"model.options.{option}" for option in options} <= nets


def test_few_trials_search_the_few_ranges_that_matter_most():
    arm = made()["full"]
    assert [r.path for r in arm.within(1).ranges] == ["train.lr"]
    assert {r.path for r in arm.within(10).ranges} == {"train.lr", "train.length", "train.batch"}
    assert arm.within(1000).ranges == arm.ranges
    asked = made(search={"space": {"train.clip": [0.5, 1.0]}})["full"]
    assert {r.path for r in asked.within(1).ranges} == {"train.lr", "train.clip"}, "what is asked for stays"


def test_an_option_is_drawn_only_beside_the_choice_that_has_it():
    arm = made()["full"]
    for seed in range(40):
        params = drawn(arm, seed)
        name = json.loads(params["train.optimizer"])["name"] if "{" in params["train.optimizer"] else "adamw"
        assert ("train.optimizer.momentum" in params) == (name == "sgd")
        assert ("train.optimizer.betas" in params) == (name == "adamw")
        assert ("model.head.dropout" in params) == ("pooled" in params["model.head"])
        assert params.keys() <= arm.distributions().keys()
    order = list(arm.distributions())
    assert order.index("train.optimizer") < order.index("train.optimizer.momentum")
    stray = {"train.optimizer": "adamw", "train.optimizer.momentum": 0.9}
    assert "train.optimizer.momentum" not in whole(arm, stray, recipe_of(), filled), "it would have no effect"
    few = arm.within(30)
    assert "train.optimizer" not in {r.path for r in few.ranges}
    assert "train.optimizer.weight_decay" in few.first(), "AdamW is the default, and has one"
    assert "train.optimizer.momentum" not in {r.path for r in arm.within(1000).ranges if not r.only}


def test_a_relative_rate_is_a_multiple_of_what_is_published_for_that_optimizer_and_phase():
    recipe, arms = recipe_of(), made()
    params = {**arms["full"].first(), "train.lr": 2.0}
    assert whole(arms["full"], params, recipe, filled)["train.lr"] == pytest.approx(2e-4)
    sgd = next(r for r in arms["full"].ranges if r.path == "train.optimizer").choices[1]
    params = {"train.lr": 2.0, "train.optimizer": json.dumps(sgd)}
    assert whole(arms["full"], params, recipe, filled)["train.lr"] == pytest.approx(2e-2)
    params = {"train.lr.full": 2.0, "train.lr.probe": 0.5}
    rates = whole(arms["probe_then_full"], params, recipe, filled)["train.lr"]
    assert rates == pytest.approx({"probe": 1.5e-3, "full": 2e-4})
    assert whole(arms["probe_then_full"], {"train.lr.full": 2.0}, recipe, filled)["train.lr"]["probe"] == 3e-3


def test_a_relative_length_is_of_the_batch_that_is_drawn_with_it():
    arm, recipe = made()["full"], recipe_of()
    lengths = [
        whole(arm, {"train.length": 0.5, "train.batch": batch}, recipe, filled)["train.length"] for batch in (16, 32)
    ]
    assert lengths == ["6 epochs", "10 epochs"], "300 steps are 12 epochs of 25, and 20 at most of 13"


def test_what_the_recipe_fixes_is_not_searched():
    paths = {r.path for r in made(train={"lr": 1e-4, "batch": 8})["full"].ranges}
    assert not {"train.lr", "train.batch", "train.optimizer"} & paths and "train.length" in paths
    assert "train.lr.full" not in {r.path for r in made(train={"lr": 1e-4})["probe_then_full"].ranges}
    assert "train.length" in {r.path for r in made(train={"length": "auto"})["full"].ranges}, "auto fixes nothing"
    arms = made(strategy={"name": "lora", "rank": 4})
    assert list(arms) == ["lora rank=4"] and arms["lora rank=4"].settings["strategy"] == {"name": "lora", "rank": 4}
    options = {r.path for r in arms["lora rank=4"].ranges}
    assert "strategy.rank" not in options and "strategy.method" in options
    assert next(iter(made(objective="contrastive"))).startswith("contrastive")
    assert list(made(train={"lr": {"probe": 1e-3, "full": 1e-4}}, strategy="probe_then_full")) == ["probe_then_full"]
    width = made(NOTHING, {"name": "new:mlp", "options": {"width": [8, 8], "layers": 2}})["full"]
    assert not {"model.options.width", "model.options.layers"} & {r.path for r in width.ranges}


def test_each_kind_of_tuning_can_be_switched_on_alone():
    kinds = {}
    for kind in ("parameters", "architecture", "training"):
        arms = made(search={"tune": [kind]})
        kinds[kind] = {r.kind for arm in arms.values() for r in arm.ranges}
        assert kinds[kind] == {kind}
        assert (len(arms) > 1) == (kind == "training"), "another strategy is another way of training"
    assert list(made(search={"tune": ["parameters"]}, strategy="last")) == ["last"]


def test_a_person_s_range_stands_for_the_default_one_and_new_ones_are_added():
    space = {
        "train.lr": {"low": 1e-5, "high": 1e-3, "log": True},
        "train.length": {"low": "2 epochs", "high": "8 epochs"},
        "train.optimizer.eps": [1e-8, 1e-6],
        "train.batch": 8,
        "model.head": [{"name": "pooled", "pooling": "cls"}, "own"],
    }
    recipe, arms = recipe_of(search={"space": space}), made(search={"space": space})
    for name in ("full", "probe_then_full"):
        ranges = {r.path: r for r in arms[name].ranges}
        assert ranges["train.lr"] == Range("train.lr", "parameters", low=1e-5, high=1e-3, log=True, priority=0)
        assert "train.lr.full" not in ranges and "train.batch" not in ranges
        assert ranges["model.head"].choices == ({"name": "pooled", "pooling": "cls"}, "own")
    params = arms["full"].first() | {"train.length": 5, "train.lr": 3e-4}
    settings = whole(arms["full"], params, recipe, filled)
    assert (settings["train.batch"], settings["train.length"], settings["train.lr"]) == (8, "5 epochs", 3e-4)
    assert with_settings(recipe, settings).train.optimizer.options["eps"] == 1e-8


def test_lists_of_strategies_and_models_make_arms():
    space = {"strategy": [{"name": "lora", "rank": 4}, {"name": "lora", "rank": 16}, "full"], "model.name": ["a", "b"]}
    assert backbones(recipe_of(search={"space": space})) == ("a", "b")
    arms = made(search={"space": space})
    wanted = {f"{name} @ {model}" for name in ("lora rank=4", "lora rank=16", "full") for model in "ab"}
    assert {*arms} == wanted and arms["full @ b"].settings["model.name"] == "b"
    assert list(made(search={"space": {"strategy": "last"}})) == ["last"]


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"train.lrr": [1e-4, 1e-3]}, 'did you mean "train.lr"'),
        ({"train.optimizer.momentun": [0.8, 0.9]}, 'did you mean "train.optimizer.momentum"'),
        ({"data.split": ["hash", "kfold"]}, "would not be judged alike"),
        ({"seed": [1, 2]}, "would not be judged alike"),
        ({"train.lr": {"low": 1e-3, "high": 1e-5}}, "is not below high"),
        ({"train.lr": {"low": 0, "high": 1e-5, "log": True}}, "has no logarithm"),
        ({"train.lr": {"low": 1e-5}}, "both low and high"),
        ({"train.lr": {"low": 1e-5, "high": 1e-3, "logg": True}}, '"logg" says nothing of a range'),
        ({"train.lr": {"low": 1e-5, "high": "2 epochs"}}, "is no range of numbers"),
        ({"train.length": {"low": "2 epochs", "high": "500 steps"}}, "of two units"),
        ({"train.batch": []}, "empty list"),
        ({"train.batch": [8, 16.5]}, "train.batch"),
        ({"train.optimizer": ["adamw", "adamww"]}, 'did you mean "adamw"'),
        ({"train.optimizer.weight_decay": ["much", "little"]}, "weight_decay"),
        ({"strategy.rank": {"low": 4, "high": 8}, "strategy": ["full", "last"]}, "has no effect on any trial"),
        ({"train.optimizer.ns_steps": [3, 5], "train.optimizer": ["adamw", "sgd"]}, "has no effect on any trial"),
        ({"train.lr.nowhere": {"low": 1e-5, "high": 1e-3}}, "has no effect on any trial"),
    ],
)
def test_what_search_space_says_wrongly_is_named_with_the_right_word(space, said):
    with pytest.raises(RecipeError) as raised:
        made(search={"space": space})
    assert said in str(raised.value) and "search.space" in str(raised.value)


def test_an_option_that_the_network_does_not_have_is_no_option():
    with pytest.raises(RecipeError, match=r'did you mean "model.options.width"'):
        made(NOTHING, "new:mlp", search={"space": {"model.options.widht": [8, 16]}})


def test_all_mistakes_are_told_at_once():
    with pytest.raises(RecipeError) as raised:
        made(search={"space": {"train.lrr": 1, "train.batch": []}})
    assert len(raised.value.problems) == 2


@pytest.fixture(scope="module")
def rows():
    return tiny_rows(60)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("models") / "bert", num_hidden_layers=3)


def prepared(recipe, rows, device="cpu"):
    return jobs.prepare(recipe, Objects(data=rows), start(device), lambda _line: None)


def test_the_situation_is_read_off_a_prepared_job(rows, bert):
    recipe = recipe_of(str(bert), data="memory:rows")
    found = situation_of(prepared(recipe, rows))
    assert (found.task, found.modality, found.num_classes) == ("classification", "text", 2)
    assert found.num_train == 60 and found.smallest_class == 30
    assert found.stages == ("stem", "block.0", "block.1", "block.2", "neck")
    assert (found.adapters, found.dropout, found.least, found.kinds) == (True, 0.1, 1, KINDS)
    assert found.pretrained and found.own_head and found.poolings == ("mean", "cls", "max")


@pytest.mark.slow
def test_a_draw_of_every_arm_trains_from_its_recipe_file(rows, bert, tmp_path):
    lines = [f"{text},{label}" for text, label in zip(rows["text"], rows["label"], strict=True)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *lines]))
    recipe = recipe_of(str(bert), data={"source": str(tmp_path / "rows.csv"), "split": "hash"})
    prepared_job = prepared(recipe, rows)
    for seed, arm in enumerate(arms_of(recipe, {str(bert): situation_of(prepared_job)})):
        for number, params in enumerate((arm.first(), drawn(arm, seed))):
            settings = whole(arm, params, recipe, lambda asked: prepared(asked, rows).recipe)
            tried = with_settings(recipe, settings | {"train.length": "2 epochs"})
            file = tmp_path / f"{seed}-{number}.toml"
            file.write_text(recipe_file.dump(tried))
            run = tunesmith.fit(file, device="cpu", out=tmp_path / f"run-{seed}-{number}", quiet=True)
            assert run.scores["valid"]["accuracy"]["value"] >= 0, arm.name
