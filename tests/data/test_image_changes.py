"""Pictures changed at random: what each change does, and that a view depends on seed, view and row alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from tunesmith.data import image_changes
from tunesmith.data.augment import images, randaugment, trivialaugment
from tunesmith.data.augmented import AugmentedRows
from tunesmith.data.encoders.image import ImageEncoder, encode_images
from tunesmith.data.media import packed_column
from tunesmith.data.table import Table
from tunesmith.errors import RecipeError

OFF = {"crop": 1.0, "flip": 0.0, "rotate": 0.0, "colour": 0.0}


def picture(mode="RGB", size=(32, 32)):
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8))


def changed(augmentation, image, times=1, seed=0):
    return [
        np.asarray(augmentation.change(image, np.random.Generator(np.random.PCG64(seed + lot)))) for lot in range(times)
    ]


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_flip_exchanges_left_and_right_and_nothing_else(mode):
    image = picture(mode)
    assert (changed(images(**OFF | {"flip": 1.0}), image)[0] == np.asarray(image)[:, ::-1]).all()
    found = changed(images(**OFF | {"flip": 0.3}), image, 200)
    assert np.mean([(one != np.asarray(image)).any() for one in found]) == pytest.approx(0.3, abs=0.1)


def test_a_turn_by_a_quarter_is_that_of_numpy():
    image = picture()

    class Lot:
        uniform = staticmethod(lambda low, high: high)
        random = staticmethod(lambda: 1.0)

    found = np.asarray(image_changes.placed(image, Lot, crop=1.0, flip=0.0, rotate=90.0))
    assert np.abs(found.astype(int) - np.rot90(np.asarray(image))).max() <= 1


def test_a_crop_shows_a_part_as_large_as_it_says_and_fills_the_picture():
    ramp = np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))
    found = changed(images(**OFF | {"crop": 0.25}), Image.fromarray(ramp), 300)
    wide = np.array([(int(one[:, -1].max()) - int(one[:, 0].min())) / 252 for one in found])
    assert wide.min() > 0.25**0.5 * 0.75**0.5 - 0.08 and wide.max() <= 1.0
    assert 0.6 < wide.mean() < 0.9, "areas are even between a quarter and the whole"
    assert len({int(one[0, 0]) for one in found}) > 20, "from anywhere"


def test_a_part_is_erased_as_often_as_it_says_and_takes_the_mean_colour():
    image = picture()
    found = changed(images(**OFF | {"erase": 0.5}), image, 1000)
    gone = np.array([(one != np.asarray(image)).any(2).mean() for one in found])
    assert np.mean(gone > 0) == pytest.approx(0.5, abs=0.05)
    assert gone[gone > 0].min() > 0.01 and gone.max() < 0.22
    one = next(one for one, share in zip(found, gone, strict=True) if share)
    colours = {tuple(colour) for colour in one[(one != np.asarray(image)).any(2)].tolist()}
    assert colours == {image_changes.fill(image)}


def test_colours_and_blur_stay_within_what_they_say():
    grey = Image.new("RGB", (16, 16), (100, 100, 100))
    means = [float(one.mean()) for one in changed(images(**OFF | {"colour": 0.2}), grey, 100)]
    assert 79 <= min(means) < 85 and 115 < max(means) <= 120
    noise = picture("L", (64, 64))
    spread = [float(one.std()) for one in changed(images(**OFF | {"blur": 0.05}), noise, 50)]
    assert min(spread) < 15 and max(spread) > 40


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("name", image_changes.NAMES)
def test_each_of_the_fourteen_changes_keeps_size_and_mode_and_grows_with_its_level(name, mode):
    image = picture(mode)
    for most in (image_changes.RAND, image_changes.TRIVIAL):
        none, half, whole = (
            np.asarray(image_changes.applied(image, name, level, 1.0, most)).astype(int) for level in (0.0, 0.5, 1.0)
        )
        assert none.shape == half.shape == whole.shape == np.asarray(image).shape
        if name in image_changes.PLAIN:
            continue
        assert np.abs(none - np.asarray(image)).max() <= (1 if name == "posterize" else 0), name
        if mode == "RGB" or name != "color":
            assert (whole != none).any() and (whole != half).any(), name


def test_randaugment_does_so_many_changes_and_trivialaugment_one():
    image, counts = picture(), []
    original = image_changes.applied
    image_changes.applied = lambda *arguments: counts.append(arguments[1:3]) or original(*arguments)
    try:
        changed(randaugment(num=3, magnitude=15, flip=0.0), image, 50)
        assert len(counts) == 150 and {level for _, level in counts} == {0.5}
        assert len({name for name, _ in counts}) == 14
        counts.clear()
        changed(trivialaugment(flip=0.0), image, 100)
        assert len(counts) == 100 and len({level for _, level in counts}) > 20
    finally:
        image_changes.applied = original


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (images, {**OFF}, "nothing would be changed"),
        (images, {"crop": 0.0}, "crop = 0.0"),
        (images, {"flip": 1.1}, "flip = 1.1"),
        (images, {"mixup": -1.0}, "mixup = -1.0"),
        (images, {"views": 0}, "views = 0"),
        (randaugment, {"num": 0}, "num = 0"),
        (randaugment, {"magnitude": 31}, "magnitude = 31"),
        (trivialaugment, {"crop": 1.5}, "crop = 1.5"),
    ],
)
def test_impossible_options_are_refused(make, options, words):
    with pytest.raises(RecipeError, match=words):
        make(**options)


def rows_of(encoder, arrays):
    return encode_images(
        Table(pa.table({"image": packed_column(arrays)}), origin=(("toy", len(arrays)),)), "image", encoder
    )


def test_a_view_of_a_picture_depends_on_seed_row_and_view_and_not_on_the_batch():
    arrays = [np.random.default_rng(row).integers(0, 256, (16, 16, 3), np.uint8) for row in range(6)]
    rows = AugmentedRows(rows_of(ImageEncoder(16, 16, (0.5,) * 3, (0.5,) * 3), arrays), images(views=2), seed=1)
    whole = rows.batch(range(6), 5)["pixel_values"]
    assert torch.equal(rows.batch([4, 1], 5)["pixel_values"], whole[[4, 1]])
    assert torch.equal(rows.batch(range(6), 3)["pixel_values"], whole)
    assert not torch.equal(rows.batch(range(6), 4)["pixel_values"], whole)
    other = AugmentedRows(rows.encoded, rows.augmentation, seed=2).batch(range(6), 5)["pixel_values"]
    assert not torch.equal(other, whole)
    assert torch.equal(rows.encoded.changed(range(6), lambda _place, value: value)["pixel_values"],
                       rows.encoded.batch(range(6))["pixel_values"])  # fmt: skip


def test_pictures_that_pillow_cannot_change_are_refused():
    rows = rows_of(ImageEncoder(8, 8, (0.0,) * 4, (1.0,) * 4), [np.zeros((4, 8, 8), np.float32)] * 2)
    with pytest.raises(RecipeError, match="1 or 3 channels"):
        rows.changed([0], lambda _place, value: value)
