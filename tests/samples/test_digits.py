"""The demo of images: every strategy on digits."""

from __future__ import annotations

import numpy as np
import pytest

from tunesmith import demonstration, plugins


def test_no_picture_is_in_two_parts_and_the_digits_are_apart():
    rows = demonstration._rows_of_digits()
    assert {part: len(labels) for part, (_, labels) in rows.items()} == {
        "source": 901,
        "train": 50,
        "valid": 50,
        "test": 796,
    }
    assert set(rows["source"][1]) == set("01234") and set(rows["train"][1]) == set(rows["test"][1]) == set("56789")
    pictures = [picture.tobytes() for part, (images, _) in rows.items() for picture in images if part != "source"]
    assert len(pictures) == 896 and len(set(pictures)) > 890, "but for pictures that are equal in the data"


@pytest.mark.slow
def test_the_demo_tries_every_strategy_and_what_moves_beats_what_does_not(tmp_path, capsys):
    best = demonstration.demo(tmp_path / "out", images=True)
    told = capsys.readouterr().err
    accuracy = {
        line.split()[0]: float(line[18:23]) for line in told.splitlines() if line[18:20] in ("0.", "1.") and "[" in line
    }
    assert set(accuracy) == {*plugins.names("strategy"), "from"}
    assert best.finished and best.path.parent == tmp_path / "out"
    assert accuracy["full"] > accuracy["head"] > 0.2
    assert max(accuracy.values()) > 0.85
    assert np.isclose(best.scores["test"]["accuracy"]["value"], accuracy[best.path.name], atol=1e-3)
