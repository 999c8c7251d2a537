"""The range test: what a curve suggests, a net that comes out of it as it went in, a picture, and a line that works."""

from __future__ import annotations

import csv
import shlex

import numpy as np
import pytest
import torch
from PIL import Image

import tunesmith
from tunesmith.assemble.job import Job
from tunesmith.delivery import lr_picture, lr_range
from tunesmith.delivery.lr_curve import STEPS, STILL, Curve, exploded, rate_at, read_curve, smoothed
from tunesmith.delivery.lr_range import RangeTest, untouched
from tunesmith.errors import RecipeError
from tunesmith.recipe.schema import Recipe
from tunesmith.testing import tiny_model, tiny_rows

RATES = [rate_at(step) for step in range(STEPS)]
SETTINGS = ("train.batch=8", "model.head=pooled", "data.split=hash", "train.precision=fp32")


def _losses(falls=50, climbs=75, noise=0.02, most=9.0):
    """Losses that fall from 2 to 1 around one step, and climb to `most` around another."""
    steps = np.arange(STEPS)
    random = np.random.Generator(np.random.PCG64(0))
    curve = 2 - 1 / (1 + np.exp(-(steps - falls) / 2)) + (most - 1) / (1 + np.exp(-(steps - climbs)))
    return list(curve + noise * random.normal(size=STEPS))


def _cut(losses):
    """The losses up to where the test stops."""
    return next((losses[:end] for end in range(1, len(losses) + 1) if exploded(losses[:end])), losses)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("models") / "bert", hidden_dropout_prob=0.1)


@pytest.fixture(scope="module")
def tested(folder):
    """`tested("probe_then_full", ...)` is the RangeTest of a tiny model."""

    def run(strategy="full", *settings, **options):
        settings = (*SETTINGS, *settings)
        options = {"tell": str} | options
        return tunesmith.check(
            tiny_rows(80, 3), folder, strategy=strategy, device="cpu", settings=settings, lr=True, **options
        )

    return run


@pytest.fixture(scope="module")
def whole(tested):
    """The test of full fine-tuning."""
    return tested()


@pytest.fixture(scope="module")
def two(tested, tmp_path_factory):
    """The test of two phases, what it told, and its picture."""
    told, png = [], tmp_path_factory.mktemp("pictures") / "there.png"
    return tested("probe_then_full", tell=told.append, png=png), told, png


def test_the_average_is_right_from_the_first_step_on():
    assert smoothed([3.0] * 40) == pytest.approx([3.0] * 40)
    average = smoothed([0.0] * 30 + [1.0])
    assert average[-1] == pytest.approx(0.1 / (1 - 0.9**31))


def test_a_curve_suggests_the_smaller_of_steepest_and_a_tenth_of_the_least():
    losses = _cut(_losses(falls=66))
    assert STILL < len(losses) < STEPS
    curve = read_curve("full", RATES[: len(losses)], losses)
    least = int(np.argmin(curve.smooth))
    assert curve.tenth == RATES[least] / 10
    assert RATES[64] <= curve.steepest <= RATES[70], "the average lags a little behind the fall around step 66"
    assert curve.suggested == float(f"{min(curve.tenth, curve.steepest):.1e}") == float(f"{curve.tenth:.1e}")
    early = read_curve("full", RATES[: len(losses)], _losses(falls=40)[: len(losses)])
    assert early.suggested == float(f"{early.steepest:.1e}") < early.tenth
    assert curve.start == pytest.approx(2, abs=0.02)


def test_noise_before_the_rules_look_is_no_slope():
    losses = _cut(_losses())
    losses[0] += 0.5
    assert read_curve("full", RATES[: len(losses)], losses).steepest > 1e-5


@pytest.mark.parametrize(
    ("losses", "note"),
    [
        (_losses(falls=500, climbs=500, noise=0.3), "falls by .* at most, and batches differ by"),
        (_losses(falls=500, climbs=60), "falls by .* at most"),
        (_losses()[:12], "not a number after 12 steps"),
        ([], "not a number after 0 steps"),
    ],
)
def test_a_curve_that_shows_nothing_suggests_nothing_and_says_why(losses, note):
    losses = _cut(losses)
    curve = read_curve("full", RATES[: len(losses)], losses)
    assert (curve.steepest, curve.tenth, curve.suggested) == (None, None, None)
    with pytest.raises(AssertionError, match=note):
        raise AssertionError(curve.note)


def test_where_the_loss_still_falls_at_the_end_its_least_is_not_known():
    curve = read_curve("head", RATES, _losses(falls=90, climbs=500))
    assert curve.tenth is None and "still falls" in curve.note
    assert curve.suggested == float(f"{curve.steepest:.1e}")


def test_the_test_stops_where_the_loss_is_four_times_the_least():
    assert not exploded([1.0] * STILL + [3.9] * 60)
    assert exploded([1.0] * STILL + [4.5] * 60)
    assert not exploded([1.0] + [9.0] * (STILL - 1)), "next to nothing has moved yet"
    assert not exploded([0.1, 3.0] * 10 + [0.1] * 30 + [2.0] * 6), "as high as single batches were at the start"


@pytest.mark.parametrize("strategy", ["full", "probe_then_full"])
def test_the_net_comes_out_as_it_went_in(tested, monkeypatch, strategy):
    nets, moved = [], []
    real, read = Job.net, lr_range.read_curve

    def net(job):
        made = real(job)
        nets.append((made, {name: t.detach().clone() for name, t in [*made.named_parameters(), *made.named_buffers()]}))
        return made

    def differs():
        made, before = nets[-1]
        now = [*made.named_parameters(), *made.named_buffers()]
        return [name for name, tensor in now if not torch.equal(tensor, before[name])]

    monkeypatch.setattr(Job, "net", net)
    monkeypatch.setattr(lr_range, "read_curve", lambda *args: moved.append(differs()) or read(*args))
    tested(strategy)
    assert all(moved), "while it is tested, it moves"
    assert differs() == []


def test_what_a_block_does_to_parameters_and_buffers_is_undone_even_if_it_fails():
    net = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 2))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    places = [tensor.data_ptr() for tensor in net.state_dict().values()]

    def spoil():
        with untouched(net):
            net(torch.tensor([[1.0, 2.0], [3.0, 5.0]]))
            torch.nn.init.constant_(net[1].weight, float("nan"))
            assert net[0].num_batches_tracked == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        spoil()
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert places == [tensor.data_ptr() for tensor in net.state_dict().values()]


def test_the_curves_do_not_depend_on_what_was_drawn_before(tested, whole):
    torch.manual_seed(whole.recipe.seed + 99)
    assert tested().curves == whole.curves


def test_each_phase_is_trained_by_its_own_rules_at_rates_that_rise_by_one_factor(tested, monkeypatch):
    groups = []
    real = Job.optimizer
    monkeypatch.setattr(Job, "optimizer", lambda job, given: groups.append(given) or real(job, given))
    curves = tested("discriminative").curves
    assert [curve.phase for curve in curves] == ["full"]
    assert curves[0].rates == tuple(RATES[: len(curves[0].rates)])
    assert (RATES[0], RATES[-1]) == (pytest.approx(1e-7), pytest.approx(10))
    assert len({group["multiple"] for group in groups[0]}) > 2


def test_the_head_and_the_stages_are_measured_as_a_fit_does(tested):
    told = []
    found = tested("stages", "model.head=auto", tell=told.append)
    assert [line.partition(":")[0] for line in told if line.startswith(("head:", "stages that train:"))] == [
        "head",
        "stages that train",
    ]
    assert found.curves[0].phase == "stages"


def test_frozen_stages_run_once_a_row_in_the_test_too(two):
    assert any(line.startswith("phase probe: its ") and "run once a row" in line for line in two[1])


def test_a_later_phase_begins_with_a_fitted_head(two, whole):
    (first, second), told = two[0].curves, two[1]
    assert (first.phase, second.phase) == ("probe", "full")
    assert second.start < 0.97 * whole.curves[0].start
    assert whole.curves[0].start == pytest.approx(first.start, rel=0.02), "a first phase begins as the run does"
    assert any("phase full: its head is fitted first" in line for line in told)
    assert not any("phase probe: its head is fitted first" in line for line in told)


def _recipe(lr):
    return Recipe.model_validate({"data": "rows.csv", "model": "bert", "train": {"lr": lr}})


def test_a_phase_without_a_suggestion_keeps_its_rate_and_where_none_has_one_there_is_no_line():
    good, bad = Curve("probe", (1e-3,), (1.0,), steepest=2.04e-3), Curve("full", (1e-3,), (1.0,), note="flat")
    found = RangeTest(_recipe({"probe": 1e-2, "full": 3e-5}), (good, bad))
    assert found.lr == {"probe": 2e-3, "full": 3e-5}
    assert "phase full keeps its rate, 3e-05" in str(found) and "no rate to suggest: flat" in str(found)
    assert str(found).endswith("\n--set 'train.lr={probe = 0.002, full = 3e-05}'")
    found = RangeTest(_recipe(3e-5), (bad,))
    assert found.lr is None
    assert "--set" not in str(found) and str(found).endswith("train.lr stays as it is")


def test_blocks_are_as_high_as_the_loss_and_an_arrow_marks_the_rate():
    losses = _cut(_losses(falls=40, noise=0.0))
    lines = lr_picture.blocks(read_curve("full", RATES[: len(losses)], losses))
    drawn = [line.partition("|")[2].ljust(64) for line in lines[: lr_picture.LINES]]
    heights = ["".join(column).count("█") for column in zip(*drawn, strict=True)]
    assert heights[0] == heights[15] > heights[30] > heights[40] == 0
    assert "███" in drawn[0], "the explosion is cut at the top"
    axis, names, arrow = lines[-3:]
    suggested = read_curve("full", RATES[: len(losses)], losses).suggested
    first = axis.index("+")
    place = (arrow.index("^") - first) / lr_picture.COLUMNS - 7
    assert place == pytest.approx(np.log10(suggested), abs=1 / lr_picture.COLUMNS)
    assert names.index("1e-4") == first + 3 * lr_picture.COLUMNS


def _near(path, colour):
    """Pixels of the picture that are nearly of the colour."""
    pixels = np.asarray(Image.open(path)).astype(int)
    wanted = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return int((np.abs(pixels - wanted).max(axis=-1) < 40).sum())


@pytest.mark.parametrize("number", [1, 2, 12])
def test_the_picture_shows_each_curve_in_a_colour_of_its_own(tmp_path, number):
    losses = _cut(_losses())
    path = tmp_path / "lr.png"
    curves = [read_curve(f"phase{place}", RATES[: len(losses)], losses) for place in range(number)]
    curves = [Curve(c.phase, c.rates, tuple(loss + 0.1 * i for loss in c.losses)) for i, c in enumerate(curves)]
    lr_picture.draw(path, "full on a model", curves)
    with Image.open(path) as image:
        assert (image.size, image.format) == ((1000, 600), "PNG")
    assert all(_near(path, colour) > 100 for colour in lr_picture.COLOURS[:number])
    lr_picture.draw(tmp_path / "none.png", "full on a model", [Curve("full", (), ())])
    assert _near(tmp_path / "none.png", lr_picture.COLOURS[0]) < 100, "only the legend"


def test_the_command_ends_with_a_line_that_check_takes_and_tells_where_it_drew(folder, tmp_path, capsys, monkeypatch):
    from tunesmith.cli import _run

    columns = tiny_rows(80, 3)
    with open(tmp_path / "rows.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([list(columns), *zip(*columns.values(), strict=True)])
    monkeypatch.chdir(tmp_path)
    words = ["check", "rows.csv", "--model", str(folder), "--strategy", "probe_then_full", "--device", "cpu"]
    words += [word for setting in SETTINGS for word in ("--set", setting)]
    assert _run([*words, "--lr"]) == 0
    out, err = capsys.readouterr()
    assert "wrote lr.png" in err and (tmp_path / "lr.png").is_file()
    line = shlex.split(out.splitlines()[-1])
    assert line[0] == "--set"
    assert _run([*words, "--plan", *line]) == 0
    shown = capsys.readouterr().out
    suggested = [
        text.rpartition("suggested: ")[2].partition(",")[0] for text in out.splitlines() if "suggested" in text
    ]
    assert len(suggested) == 2
    for phase, rate in zip(("probe", "full"), suggested, strict=True):
        assert f"phase {phase}: " in shown and f"highest rate {float(rate):.3g}\n" in shown


def test_a_picture_goes_where_it_is_wanted_and_from_python_nowhere_else(two, whole, tested, tmp_path, monkeypatch):
    _, told, png = two
    assert f"wrote {png}" in told and png.is_file()
    whole.draw(tmp_path / "own.png")
    assert (tmp_path / "own.png").is_file()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lr_range, "_test", lambda *_: Curve("full", (1e-3,), (1.0,), note="flat"))
    tested()
    assert [path.name for path in tmp_path.iterdir()] == ["own.png"]


def test_what_cannot_be_done_is_said_before_anything_is_computed(tested, tmp_path, folder):
    with pytest.raises(RecipeError, match="no such folder"):
        tested(png=tmp_path / "nowhere" / "lr.png", tell=pytest.fail)
    with pytest.raises(RecipeError, match="one at a time"):
        tested(plan=True)
    with pytest.raises(RecipeError, match="no effect without --lr"):
        tunesmith.check(tiny_rows(20), folder, png="lr.png")
