"""The report of real Runs: every section, its words in both languages, what is absent, what data may not do to it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tunesmith as package
from tunesmith.delivery import mistakes
from tunesmith.delivery.reporting import page
from tunesmith.errors import TunesmithError
from tunesmith.run import Run
from tunesmith.testing import tiny_pictures, tiny_rows

ALWAYS = ["results", "curves", "answers", "classes", "data", "plan", "cost", "reproduce"]
SECTIONS = [make.__name__ for make in page.SECTIONS]
VOID = {"meta", "link", "img", "br", "hr"}
EVIL = "<script>alert(1)</script>"


class Page(HTMLParser):
    """What a test asks of a page: is it balanced, what are its headings, its links, its charts and their tables."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        self.wrong += [f"never closed: {tag}" for tag in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]

    @property
    def sections(self) -> list[str | None]:
        return [attributes["id"] for attributes in self.all("h2")][1:]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def parsed(text: str) -> Page:
    """The page, which must be well formed."""
    found = Page(text)
    assert not found.wrong
    return found


def interval(value: float, reach: float = 0.05) -> dict[str, float]:
    return {"value": value, "low": value - reach, "high": value + reach}


@pytest.fixture(scope="session")
def told_all(fitted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Run with all that other parts write: calibration, slices, a diagnosis, drift, paired differences, mistakes."""
    path = tmp_path_factory.mktemp("runs") / "told-all"
    shutil.copytree(fitted, path)
    run = Run(path)
    scores = run.scores
    scores["test"] |= {
        "against": {"majority": interval(0.4) | {"share_better": 1.0}},
        "calibration": _calibration(),
        "slices": _slices(),
    }
    run.write("scores.json", scores)
    run.write("diagnosis.json", _diagnosis())
    run.write("drift.json", _drift())
    wrong = {"target": "apple", "prediction": "bread", "confidence": 0.9, "id": "a", "where": "messages.csv, row 1"}
    contents = [{"texts": {"text": "a bread"}}, {"texts": {"one": "1", "two": "2"}}, {"picture": "1.png"}]
    contents += [{"sound": "1.wav"}, {"sound": "gone.wav"}]
    (path / mistakes.FOLDER).mkdir(exist_ok=True)
    for name in ("1.png", "1.wav"):
        (path / mistakes.FOLDER / name).write_bytes(b"as it is")
    run.write(f"{mistakes.FOLDER}/{mistakes.FILE}", {"split": "test", "rows": [wrong | one for one in contents]})
    return path


def _calibration() -> dict[str, Any]:
    bins = [
        {"low": low, "high": low + 0.1, "rows": 5, "confidence": low + 0.05, "accuracy": low, "accuracy_low": low - 0.1}
        | {"accuracy_high": low + 0.1}
        for low in (0.5, 0.7, 0.9)
    ]
    points = [{"coverage": share, "accuracy": 1.1 - share / 4, "confidence": 1 - share} for share in (0.5, 1.0)]
    asked = {"label": "bread", "asked": "precision >= 0.95", "threshold": 0.8, "precision": 0.96, "recall": 0.4}
    return {
        "ece": interval(0.04, 0.01),
        "binning": "15 bins of equal mass",
        "brier": interval(0.1),
        "bins": bins,
        "temperature": {"value": 1.7, "applied": True, "why": "", "fitted_on": "valid", "rows": 23}
        | {"off": {"ece": 0.09, "log_loss": 0.5}, "on": {"ece": 0.04, "log_loss": 0.4}},
        "sets": {"coverage_asked": 0.9, "threshold": 0.2, "coverage": interval(0.91), "mean_size": 1.2}
        | {"sizes": {"1": 12, "2": 2}, "method": "split conformal"},
        "abstention": {"area": 0.01, "points": points},
        "operating_points": [asked],
    }


def _slices() -> list[dict[str, Any]]:
    return [
        {"slice": "text length: longest quarter", "kind": "length", "column": "text", "value": "longest quarter"}
        | {"rows": 4, "metric": "accuracy", "value_of": interval(0.5), "rest": 0.9, "difference": interval(-0.4)}
        | {"p": 0.001, "p_adjusted": 0.004, "worse": True},
        {"slice": "label: apple", "kind": "class", "column": "label", "value": "apple", "rows": 7, "p": 0.5}
        | {"metric": "accuracy", "value_of": interval(0.9), "rest": 0.9, "difference": interval(0.0)}
        | {"p_adjusted": 1.0, "worse": False},
    ]


def _diagnosis() -> dict[str, Any]:
    steps = (10, 20, 30)
    return {
        "metric": "accuracy",
        "train": interval(0.99),
        "judged": interval(0.9),
        "judged_on": "test",
        "gap": interval(0.09),
        "opened": {"step": 20, "epoch": 2},
        "curve": [{"step": s, "epoch": s / 10, "train_loss": 1 / s, "valid": 0.8 + s / 300} for s in steps],
        "rows_curve": [{"rows": 40 * s // 10} | interval(0.6 + s / 100) for s in steps],
        "finding": "more data",
        "sentence": "The gap opens at step 20.",
    }


def _drift() -> dict[str, Any]:
    source = {"before": interval(0.8), "after": interval(0.6), "difference": interval(-0.2)}
    return {
        "stages": [{"stage": s, "cka": 0.9, "distance": 0.01, "moves": True} for s in ("stem", "block.0", "head")],
        "rows": 50,
        "source": {"data": "old.csv", "metric": "accuracy", "rows": 50} | source,
        "language": {"text": "wiki", "unit": "perplexity", "before": 20.0, "after": 25.0},
        "blend": [{"share": share, "new": interval(share), "old": interval(1 - share)} for share in (0.0, 0.5, 1.0)],
        "kept": {"asked": 0.9, "share": 0.5, "chosen_on": "valid"},
    }


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_section_has_its_charts_each_with_a_table_and_is_reached_from_the_contents(told_all, language):
    text = page.page(Run(told_all), language)
    found = parsed(text)
    assert found.sections == SECTIONS
    links = [attributes["href"] for attributes in found.all("a")]
    assert links == ["#content", *(f"#{name}" for name in SECTIONS)]
    charts = [attributes["aria-labelledby"] for attributes in found.all("svg")]
    assert len(charts) == len(set(charts)) == 15
    named = {attributes.get("id") for _, attributes in found.tags}
    assert {one for chart in charts for one in str(chart).split()} <= named
    assert re.findall(r"</svg>\s*<(\w+)", text) == ["details"] * len(charts)
    assert all(table.get("scope") for table in found.all("th"))
    assert len(found.all("table")) == len(found.all("caption"))
    assert found.all("html") == [{"lang": {"en": "en", "zh": "zh-Hans"}[language]}]
    assert [tag for tag, _ in found.tags if re.fullmatch("h[1-6]", tag)][:3] == ["h1", "h2", "h2"]
    assert len(found.all("h1")) == len(found.all("main")) == len(found.all("nav")) == 1


def test_the_verdict_comes_first_with_three_figures(told_all):
    text = page.page(Run(told_all))
    top = parsed(text[text.index('<section class="verdict') : text.index('<h2 id="results"')] + "</section>")
    assert len(top.all("dt")) == 3
    assert "Calibration error" in top.text and "More rows would help it most." in top.text
    assert "forgotten" in top.text


def test_a_run_of_today_shows_what_it_has_in_order(fitted):
    found = parsed(page.page(Run(fitted)))
    assert found.sections == [name for name in SECTIONS if name in found.sections]
    assert {*ALWAYS, "calibration", "slices", "diagnosis", "forgetting"} <= set(found.sections)


def test_an_older_run_that_measured_less_has_a_report_without_an_empty_heading(fitted, tmp_path):
    shutil.copytree(fitted, tmp_path / "old")
    for name in ("plan.json", "diagnosis.json", "drift.json"):
        (tmp_path / "old" / name).unlink()
    shutil.rmtree(tmp_path / "old" / mistakes.FOLDER, ignore_errors=True)
    scores = Run(tmp_path / "old").scores
    known = ("accuracy", "classes", "baselines")
    old = {part: {name: values[name] for name in known} for part, values in scores.items()}
    Run(tmp_path / "old").write("scores.json", old)
    found = parsed(page.page(Run(tmp_path / "old")))
    assert found.sections == [name for name in ALWAYS if name != "plan"]
    assert "Learning rate" in found.text


def test_chinese_has_no_english_sentence(told_all):
    text = page.page(Run(told_all), "zh")
    prose = re.findall(r"<(?:p|h[1-3]|caption|dt|summary)[^>]*>([^<]*)<", text)
    assert len(prose) > 60
    english = [line for line in prose if re.search(r"[a-z]+ [a-z]+ [a-z]+ [a-z]+", line)]
    assert english == [line for line in english if line.startswith("期望校准误差")]


@pytest.fixture(scope="session")
def evil(bert: Path, quick: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Run whose labels and texts are HTML."""
    rows = tiny_rows(120)
    rows["text"] = [f"{text} <img src=x onerror=alert(2)></td></table> & 'q'" for text in rows["text"]]
    # Two labels in turn for each word: no model can be right everywhere.
    rows["label"] = [EVIL if number % 4 < 2 else '<b>bold & "quoted"</b>' for number in range(120)]
    out = tmp_path_factory.mktemp("runs") / "evil"
    quick(rows, bert, out=out, settings=["name=<i>evil</i>"])
    return out


def test_labels_and_texts_that_hold_html_stay_text(evil):
    text = (evil / "report.html").read_text(encoding="utf-8")
    found = parsed(text)
    assert not found.all("script") and not found.all("b") and not found.all("i")
    assert [image for image in found.all("img") if not str(image["src"]).startswith("data:")] == []
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    assert EVIL in found.text and "onerror=alert(2)" in found.text and "<i>evil</i>" in found.text


def test_the_page_asks_for_nothing_and_holds_no_script(told_all):
    found = parsed(page.page(Run(told_all)))
    policy = next(meta["content"] for meta in found.all("meta") if meta.get("http-equiv"))
    assert str(policy).startswith("default-src 'none'")
    places = [attributes[key] for _, attributes in found.tags for key in ("src", "href") if attributes.get(key)]
    assert all(str(place).startswith(("#", "data:")) for place in places)
    assert "url(" not in found.text and "@import" not in found.text
    assert not found.all("script")


def test_fit_writes_the_report_in_the_language_of_the_recipe_and_says_where_it_lies(bert, csv, tunesmith, tmp_path):
    answer = tunesmith("fit", csv, "--model", bert, "--out", tmp_path / "run", "--set", "deliver.report=zh", fast=True)
    assert answer.code == 0 and f"report: {tmp_path / 'run' / 'report.html'}" in answer.out
    assert 'lang="zh-Hans"' in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "report.html" in (tmp_path / "run" / "README.md").read_text(encoding="utf-8")


def test_without_a_report_no_row_is_kept_for_one(bert, csv, tunesmith, tmp_path):
    answer = tunesmith(
        "fit", csv, "--model", bert, "--out", tmp_path / "run", "--set", "deliver.report=none", fast=True
    )
    assert answer.code == 0 and "report:" not in answer.out
    assert not (tmp_path / "run" / "report.html").exists() and not (tmp_path / "run" / "mistakes").exists()
    assert "report.html" not in (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    assert tunesmith("report", tmp_path / "run").code == 0
    assert "mistakes" not in parsed((tmp_path / "run" / "report.html").read_text(encoding="utf-8")).sections


def test_a_report_that_fails_loses_nothing_of_the_run(bert, csv, quick, tmp_path, monkeypatch):
    def broken(*_arguments: Any, **_options: Any) -> Path:
        raise ValueError("no pen")

    monkeypatch.setattr(page, "write_page", broken)
    told: list[str] = []
    run = quick(csv, bert, out=tmp_path / "run", quiet=False, tell=told.append)
    assert run.finished and not (run.path / "report.html").exists()
    assert [line for line in told if "no pen" in line and f"tunesmith report {run.path}" in line]


def test_the_verb_writes_where_it_is_told_and_refuses_what_it_cannot_do(fitted, tunesmith, tmp_path):
    answer = tunesmith("report", fitted, "-o", tmp_path / "deep" / "page.html", "--lang", "zh")
    assert answer.code == 0 and f"wrote {tmp_path / 'deep' / 'page.html'}" in answer.err
    assert "结论" in (tmp_path / "deep" / "page.html").read_text(encoding="utf-8")
    answer = tunesmith("report", fitted, "--lang", "fr")
    assert answer.code == 1 and "en, zh" in answer.err
    answer = tunesmith("report", fitted, "-o", tmp_path / "page.pdf")
    assert answer.code == 1 and "page.html" in answer.err
    answer = tunesmith("report", tmp_path)
    assert answer.code == 1 and "not a run folder" in answer.err


def test_an_unfinished_run_says_how_to_finish_it(fitted, tmp_path):
    shutil.copytree(fitted, tmp_path / "cut")
    (tmp_path / "cut" / "README.md").unlink()
    with pytest.raises(TunesmithError, match=r"did not finish(?s:.*)--resume"):
        package.report(tmp_path / "cut")


def test_ten_thousand_test_rows_stay_under_three_megabytes(told_all, tmp_path):
    shutil.copytree(told_all, tmp_path / "large")
    random = np.random.default_rng(0)
    chance = random.random(10_000)
    columns = {
        "id": [f"{number:016x}" for number in range(10_000)],
        "target": random.choice(["apple", "bread"], 10_000).tolist(),
        "prediction": np.where(chance > 0.5, "bread", "apple").tolist(),
        "probability_apple": 1 - chance,
        "probability_bread": chance,
    }
    pq.write_table(pa.table(columns), tmp_path / "large" / "predictions" / "test.parquet")
    steps = [
        json.dumps({"event": "step", "step": step, "phase": "all", "loss": 1.0, "rows": 16, "rate": 1e-4, "seconds": 1})
        for step in range(1, 50_001)
    ]
    (tmp_path / "large" / "events.jsonl").write_text("\n".join(steps), encoding="utf-8")
    text = page.page(Run(tmp_path / "large"))
    assert len(text.encode()) < 3_000_000
    assert "of 10,000 rows are wrong" in parsed(text).text


def test_a_regression_shows_values_over_values_and_its_largest_errors(write_csv, quick, tmp_path):
    random = np.random.default_rng(0)
    width = random.uniform(0, 1, 200)
    data = write_csv(tmp_path / "flats.csv", {"width": width.tolist(), "rent": (3 * width).tolist()})
    run = quick(
        data,
        "new:mlp",
        target="rent",
        task="regression",
        out=tmp_path / "run",
        settings=['evaluate.metrics=["rmse"]', "model.head=own"],
    )
    found = parsed((run.path / "report.html").read_text(encoding="utf-8"))
    assert {"answers", "mistakes"} <= set(found.sections) and "classes" not in found.sections
    assert "Predicted over true values" in found.text and "farthest from the true value" in found.text
    kept = run.read("mistakes/mistakes.json")["rows"]
    assert [row["confidence"] for row in kept] == sorted((row["confidence"] for row in kept), reverse=True)
    assert kept[0]["confidence"] == pytest.approx(abs(kept[0]["target"] - kept[0]["prediction"]), rel=1e-4)
    assert kept[0]["texts"]["width"]


def test_pictures_are_embedded_as_thumbnails(quick, tmp_path):
    photos = tiny_pictures(tmp_path / "photos", 20, size=(300, 200))
    settings = ["train.length=1 steps", 'data.split={name = "random", seed = 1}', "model.head=own"]
    run = quick(photos, "new:cnn", out=tmp_path / "run", settings=settings)
    kept = run.read("mistakes/mistakes.json")["rows"]
    shutil.rmtree(photos)
    package.report(run, tell=lambda _line: None)
    images = parsed((run.path / "report.html").read_text(encoding="utf-8")).all("img")
    assert len(images) == len(kept) > 0
    assert all(str(image["src"]).startswith("data:image/png;base64,") and image["alt"] for image in images)


def test_folds_are_reported_as_one(bert, csv, quick, tmp_path):
    run = quick(csv, bert, out=tmp_path / "run", settings=['data.split={name = "kfold", k = 2}'])
    found = parsed((run.path / "report.html").read_text(encoding="utf-8"))
    assert "Over 2 folds with 200 test rows in all" in found.text
    assert "of 200 rows are wrong" in found.text and "mistakes" in found.sections
    kept = [Run(run.folds / fold).read("mistakes/mistakes.json") for fold in ("1", "2")]
    surest = max(row["confidence"] for one in kept for row in one["rows"])
    assert {one["split"] for one in kept} == {"test"} and f"{surest:.1%}" in found.text


def test_a_run_that_set_no_row_aside_says_so(bert, csv, quick, tmp_path):
    settings = ['data.split={name = "hash", valid = 0.0, test = 0.0}', "train.every.evaluate=never"]
    run = quick(csv, bert, out=tmp_path / "run", settings=settings)
    found = parsed((run.path / "report.html").read_text(encoding="utf-8"))
    assert run.scores == {}
    assert "No row was set aside" in found.text and not {"results", "answers", "classes"} & set(found.sections)
