"""The page of a search, from plain data: what it says, and that it escapes what it is told."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.delivery.outcome import Arm, Ended, Outcome, Tried, choices, inside, told
from tunesmith.delivery.reporting.drawings import Bars, Lines, Scale, Series
from tunesmith.delivery.reporting.parts import Table
from tunesmith.delivery.reporting.searched import MOST_DRAWN, search_page, write_search_page
from tunesmith.delivery.words import Words
from tunesmith.errors import MachineError, RecipeError

NOTHING = {"value": None, "low": None, "high": None}
VOID = {"meta", "link", "img", "br", "path", "rect", "circle", "line", "polyline"}


def scored(value, reach=0.03):
    return {"value": value, "low": value - reach, "high": value + reach}


def tried(number, value, arm="full", **more):
    costs = {"row_seconds": number * 1e-3, "bytes": 9e7, "seconds": 10.0 * number}
    reports = tuple((ninth, value - 0.1 + ninth / 100) for ninth in range(1, 10))
    values = {"settings": {"train.lr": number / 100}, "state": "done", "again": False, "reports": reports}
    values |= {"score": scored(value), "first": scored(value), "seconds": 10.0 * number, "costs": costs} | more
    return Tried(number, arm, **values)


WINNER = tried(7, 0.88, "contrastive", first=scored(0.93), again=True)
OTHER = tried(2, 0.91)
CUT = tried(3, 0.61, "lora", state="pruned", reports=((1, 0.55), (3, 0.61)))
FAILED = tried(4, 0.5, "lora", state="failed", score=NOTHING, first=NOTHING, reports=((1, 0.12),))
WHOLE = Outcome(
    name="trec",
    model="minilm",
    metric="accuracy",
    rising=True,
    tried=(WINNER, OTHER, CUT, FAILED),
    states={"done": 2, "pruned": 1, "failed": 1},
    seconds=118.0,
    budget=120.0,
    arms=(Arm("contrastive", {"done": 1}, WINNER, 70.0), Arm("lora", {"pruned": 1, "failed": 1}, None, 9.0)),
    ended=(Ended("pruned", "below the best third", (3,)), Ended("failed", "out of memory", (4, 5))),
    curve=((5.0, 0.61, 3), (30.0, 0.91, 2), (99.0, 0.93, 7)),
    fronts={"row_seconds": (OTHER, WINNER), "seconds": (OTHER, WINNER)},
    worth={"row_seconds": OTHER, "seconds": OTHER},
    importance={"train.lr": 0.25, "strategy": 0.75},
    error=(0.12, 9),
    refit=True,
    test=scored(0.87),
    earlier=("full was good on a task alike",),
    recipe='strategy = "contrastive"\n',
    command="tunesmith fit trec/winner.toml",
)


class Page(HTMLParser):
    """Sections, table cells and attributes; a tag that is not closed fails."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[list[str]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("th", "td"):
            self.cells[-1].append("")

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if {"th", "td"} & set(self.open):
            self.cells[-1][-1] += data

    def ids(self):
        return [attrs["id"] for _, attrs in self.tags if "id" in attrs]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_is_whole_and_needs_nothing_else(language):
    text = search_page(WHOLE, language)
    page = Page(text)
    assert len(page.ids()) == len(set(page.ids()))
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert {link[1:] for link in links} <= set(page.ids())
    assert not re.search(r"<script|https?://|url\(", text)
    labels = [attrs["aria-label"] for _, attrs in page.tags if attrs.get("role") == "region"]
    assert len(labels) == len(set(labels))
    assert "{" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)


def test_every_section_says_what_was_found():
    page = Page(search_page(WHOLE))
    sections = ("leaderboard", "course", "fronts", "importance", "arms", "pruning", "earlier", "winner", "recipe")
    assert set(sections) <= set(page.ids())
    row = ["7", "contrastive", "lr 0.07", "0.880 [0.850, 0.910]", "0.930 [0.900, 0.960]", "done", "70 s", "90.0 MB"]
    assert [*row, "7 ms"] in page.cells
    assert ["30 s", "2", "0.910"] in page.cells
    assert ["2", "full", "2.000", "0.910 [0.880, 0.940]"] in page.cells
    assert page.cells.index(["strategy", "75%"]) + 1 == page.cells.index(["train.lr", "25%"])
    assert ["lora", "2", "1 pruned, 1 failed", "–", "9.0 s", ""] in page.cells
    assert ["failed", "2", "out of memory", "4, 5"] in page.cells
    assert ["3 lora", "0.550", "–", "0.610", *["–"] * 6] in page.cells
    assert ["train.lr", "0.07"] in page.cells
    assert not any(row and row[0] == "4 lora" for row in page.cells), "what failed is not drawn"


def test_the_code_to_copy_is_there_as_it_is():
    text = search_page(WHOLE)
    assert "<code>tunesmith fit trec/winner.toml</code>" in text
    assert "<code>strategy = &#34;contrastive&#34;\n</code>" in text


def test_sections_that_have_nothing_to_say_are_left_out():
    bare = Outcome("trec", "minilm", "accuracy", True, (), {"failed": 3}, 10.0)
    page = Page(search_page(bare))
    assert {"leaderboard", "fronts", "winner", "pruning", "importance"}.isdisjoint(page.ids())
    assert "No trial got as far as a score" in search_page(bare)
    alone = replace(bare, tried=(tried(1, 0.5, reports=()),), states={"done": 1})
    assert {"leaderboard", "winner"} <= set(Page(search_page(alone)).ids())


def test_what_people_and_data_name_is_escaped():
    evil = '<script>alert(1)</script>"&'
    worst = tried(7, 0.9, evil, settings={evil: evil})
    outcome = replace(
        WHOLE,
        name=evil,
        model=evil,
        metric=evil,
        tried=(worst, OTHER),
        arms=(Arm(evil, {evil: 1}, worst, 1.0),),
        ended=(Ended("failed", evil, (1,)),),
        importance={evil: 1.0},
        earlier=(evil,),
        recipe=evil,
        command=evil,
    )
    text = search_page(outcome)
    Page(text)
    assert "<script" not in text and text.count("&lt;script&gt;alert(1)") > 15


def test_all_settings_are_in_a_table_and_only_the_first_are_drawn():
    many = tuple(tried(number, 0.9 - number / 1000) for number in range(1, 41))
    text = search_page(replace(WHOLE, tried=many))
    assert sum(row[:1] == ["40"] for row in Page(text).cells) == 1
    drawing = text[text.index('class="chart intervals"') :]
    assert drawing[: drawing.index("</svg>")].count("full") == MOST_DRAWN


def test_a_table_is_looked_through_once_however_many_trials_it_holds(monkeypatch):
    looked, numeric = [], Table.numeric.fget
    monkeypatch.setattr(Table, "numeric", property(lambda table: looked.append(table) or numeric(table)))
    search_page(replace(WHOLE, tried=tuple(tried(number, 0.9 - number / 1000) for number in range(1, 41))))
    assert len(looked) == len({id(table) for table in looked}) > 5


def test_sentences_name_the_winner_its_doubts_and_what_is_cheaper():
    text = " ".join(told(WHOLE, Words()))
    assert "trial 7, contrastive: accuracy 0.880 [0.850, 0.910] on rows that did not choose it" in text
    assert "On the test rows, which were touched once, it has 0.870 [0.840, 0.900]." in text
    assert "do not tell from it: 1." in text
    assert "trial 2, full, 0.910 [0.880, 0.940], at 29% of its time for a row, 29% of its time to train." in text
    assert "trained again" in text and "strategy (75%), train.lr (25%)" in text
    text = " ".join(told(replace(WHOLE, importance={}, worth={}, refit=False, test=None), Words()))
    assert "too few" in text and "cheaper by a fifth" in text and "trained again" not in text and "test" not in text


def test_a_score_is_inside_on_the_good_side_of_the_worse_end():
    winner = tried(1, 0.5, first=scored(0.5, 0.1))
    values = (0.39, 0.41, 0.59, 0.61)
    others = [tried(2, value) for value in values]
    assert [inside(other, winner, True) for other in others] == [False, True, True, True]
    assert [inside(other, winner, False) for other in others] == [True, True, True, False]


def test_settings_are_told_by_their_last_word_where_that_is_enough():
    settings = {"train.optimizer.name": "sgd", "model.head.name": "mlp", "train.lr": 1e-5, "model.trim": None}
    assert choices(settings) == "train.optimizer.name sgd, model.head.name mlp, lr 1e-05, trim none"
    assert choices({"a.b": {"name": "x", "y": [1, True]}, "a.c": {"z": 2}}) == "b x (y [1, on]), c z 2"


def test_the_arm_says_the_strategy_so_the_settings_do_not():
    one = tried(1, 0.5, "full @ bert", settings={"strategy": "full", "train.batch": 8})
    assert one.choices == "batch 8"
    assert tried(1, 0.5, "lora", settings={"strategy": {"name": "lora", "rank": 4}}).choices == "strategy lora (rank 4)"


def test_the_page_lies_in_the_folder_of_the_search(tmp_path):
    path = write_search_page(WHOLE, tmp_path / "new", "zh")
    assert path == tmp_path / "new" / "search.html" and "搜索报告" in path.read_text(encoding="utf-8")
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError):
        write_search_page(WHOLE, tmp_path / "file")
    with pytest.raises(RecipeError, match="no report in"):
        search_page(WHOLE, "fr")


@given(st.lists(st.floats(1e-7, 1e7), min_size=1, max_size=9))
def test_a_logarithmic_axis_holds_every_value_in_order_with_ticks_that_can_be_read(values):
    scale = Lines([Series("one", [(value, 0.0) for value in values])], "cost", "score", log=True).x
    places = [scale(value) for value in sorted(values)]
    assert places == sorted(places) and places[0] >= scale.start and places[-1] <= scale.end
    marks = [place for place, _ in scale.ticks]
    assert marks and all(other - one >= 20 for one, other in itertools.pairwise(marks))


def test_equal_ratios_are_equally_far_apart_on_a_logarithmic_scale():
    scale = Scale(1, 1000, 0, 300, log=True)
    assert [scale(value) for value in (1, 10, 100, 1000, 5000)] == [0, 100, 200, 300, 300]
    assert [text for _, text in scale.ticks] == ["1", "10", "100", "1,000"]


def test_bars_are_as_long_as_their_shares():
    bars = Bars([("a", "50%", 0.5), ("b", "25%", 0.25)])
    assert bars.x(0.25) - 8 == pytest.approx((bars.x(0.5) - 8) / 2, abs=0.1)
    assert Bars([("a", "0%", 0.0)]).x(0.0) == 8
    widths = re.findall(r'class="bar" x="8" y="\d+" width="([\d.]+)"', search_page(WHOLE))
    assert len(widths) == 2 and float(widths[0]) == pytest.approx(3 * float(widths[1]), rel=0.01)
