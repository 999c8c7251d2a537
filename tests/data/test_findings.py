"""Findings: each is made where it is planted, with its remedy, and not in clean data."""

from __future__ import annotations

import numpy as np
import pytest

from tunesmith.data import columns
from tunesmith.data.findings import findings
from tunesmith.data.sources import open_source


def clean(seed=0, number=600):
    draw = np.random.default_rng(seed)
    found = {f"x{place}": draw.normal(size=number) for place in range(5)}
    found["colour"] = draw.choice(["red", "green", "blue"], number)
    score = found["x0"] + 0.5 * found["x1"] + draw.normal(size=number) + (found["colour"] == "red")
    return found | {"y": np.where(score > np.median(score), "yes", "no")}


def kinds(data, **asked):
    table = open_source({name: list(values) for name, values in data.items()})[""]
    guess = columns.guess(table, target="y", modality="table", **asked)
    return {finding.kind: str(finding) for finding in findings(table, guess)}


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_found_in_clean_data(seed):
    assert kinds(clean(seed)) == {}


def test_a_column_that_gives_the_target_away_is_found_in_words_and_in_numbers():
    data = clean()
    draw = np.random.default_rng(1)
    words = np.array([f"{label}-{draw.integers(4)}" for label in data["y"]])
    assert '"code" gives "y" away' in kinds(data | {"code": words})["giveaway"]
    numbers = np.where(data["y"] == "yes", 5.0, -5.0) + draw.normal(size=600)
    assert '"late" gives "y" away' in kinds(data | {"late": numbers})["giveaway"]
    price = {name: values for name, values in data.items() if name != "y"} | {"y": data["x0"] * 3 + data["x2"]}
    assert '"euro" gives "y" away' in kinds(price | {"euro": price["y"] * 1.1 + 2}, task="regression")["giveaway"]


def test_a_number_that_stands_for_one_of_many_classes_is_found_among_few_rows():
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 8, 300)
    data = {"x": draw.normal(size=300), "code": labels * 10 + draw.normal(size=300), "y": [f"k{one}" for one in labels]}
    assert '"code" gives "y" away' in kinds(data)["giveaway"]


def test_imbalance_and_classes_of_few_rows_are_told():
    data = clean()
    data["y"] = np.array(["common"] * 570 + ["rare"] * 30)
    found = kinds(data)
    assert '"common" has 570 rows, "rare" 30 (19.0 to 1)' in found["imbalance"] and '"rare" 30' in found["rare"]


def test_values_that_pile_up_at_the_end_and_values_far_out_are_told():
    data = clean()
    capped = np.minimum(data["x0"], 1.5)
    assert '"x0" is 1.5, its largest value, in' in kinds(data | {"x0": capped})["capped"]
    far = data["x1"].copy()
    far[3] = 1e6
    assert "up to 1e+06" in kinds(data | {"x1": far})["outliers"]


def test_what_is_missing_empty_constant_or_an_id_is_told():
    data = clean()
    mark = [("?" if row % 7 == 0 else str(value)) for row, value in enumerate(data["colour"])]
    found = kinds(data | {"colour": mark, "none": [None] * 600, "same": ["x"] * 600, "row": np.arange(600)})
    assert "'?' counts as missing" in found["missing"] and '"none" is empty' in found["empty"]
    assert "\"same\" is always 'x'" in found["constant"] and '"row" names the rows' in found["id"]


def test_groups_are_seen_in_a_column_and_in_the_names_of_files(tmp_path, tone):
    data = clean()
    assert (
        '"patient" names 30 groups'
        in kinds(data | {"patient": [f"p{row % 30}" for row in range(600)]}, inputs=["x0"])["groups"]
    )
    for word in ("anna", "bert", "carl"):
        for take in range(8):
            tone(tmp_path / f"{take % 2}_{word}_{take}.wav", 300 + take)
    found = {finding.kind: str(finding) for finding in findings(open_source(tmp_path)[""], None)}
    assert "3 words at place 2: anna, bert, carl" in found["groups"]


def test_a_file_of_another_format_or_called_like_a_stand_in_is_told(tmp_path):
    from PIL import Image

    for number in range(200):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / f"{number}.{'jpeg' if number == 7 else 'jpg'}")
    Image.new("RGB", (4, 4)).save(tmp_path / "stranger.gif")
    Image.new("RGB", (4, 4)).save(tmp_path / "imageNotFound.jpg")
    found = [str(finding) for finding in findings(open_source(tmp_path)[""], None) if finding.kind == "odd"]
    assert len(found) == 2 and "stranger.gif is of another format" in " ".join(found)
    assert "imageNotFound.jpg is called like a stand-in" in " ".join(found)
