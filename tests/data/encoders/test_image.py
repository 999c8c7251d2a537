"""Images: every kind of file is read as a person sees it, and what cannot be read is named."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest
import transformers
from PIL import Image

from tunesmith.data.encoders import image
from tunesmith.data.encoders.image import ImageEncoder, encode_images, learnt, of_processor
from tunesmith.data.items import names_of
from tunesmith.data.media import packed
from tunesmith.data.table import Table
from tunesmith.errors import RecipeError

RGB = ImageEncoder(4, 6, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
GREY = ImageEncoder(4, 6, (0.0,), (1.0,))
HALVES = np.zeros((8, 12, 3), np.uint8)
HALVES[:, :6] = (250, 120, 10)
"""Orange on the left, black on the right."""


def table_of(*values):
    return Table(pa.table({"image": list(values)}), origin=(("pictures", len(values)),))


def pixels(value, encoder=RGB):
    """What the net reads of one image, times 255: (channels, height, width)."""
    encoded = encode_images(table_of(value), "image", encoder)
    assert not encoded.unreadable, encoded.unreadable
    return encoded.batch([0])["pixel_values"][0].numpy() * 255, encoded.notes


def written(picture, form="PNG", **options):
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def test_a_picture_is_brought_to_its_size_and_scaled_to_shares_of_255():
    found, notes = pixels(written(Image.fromarray(HALVES)))
    assert found.shape == (3, 4, 6) and notes == ()
    assert np.allclose(found[:, 0, 0], (250, 120, 10), atol=2) and np.allclose(found[:, 0, -1], 0, atol=2)


def test_mean_and_spread_are_taken_off():
    encoder = ImageEncoder(4, 6, (0.5, 0.25, 0.0), (0.5, 0.25, 2.0))
    found, _ = pixels(written(Image.new("RGB", (6, 4), (255, 0, 255))), encoder)
    assert np.allclose(found[:, 0, 0] / 255, (1.0, -1.0, 0.5))


def test_with_resize_the_shorter_side_is_brought_there_and_the_centre_cut_out():
    encoder = ImageEncoder(4, 4, (0.0,) * 3, (1.0,) * 3, resize=4)
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 200
    assert pixels(written(Image.fromarray(wide)), encoder)[0].min() > 150
    assert pixels(written(Image.fromarray(wide)), ImageEncoder(4, 4, (0.0,) * 3, (1.0,) * 3))[0].min() < 10


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "I;16"])
def test_pictures_of_other_modes_are_read_as_colours(mode):
    picture = Image.new("L", (6, 4), 255).convert(mode) if mode != "I;16" else Image.new("I;16", (6, 4), 65535)
    form = {"CMYK": "JPEG", "I;16": "TIFF"}.get(mode, "PNG")
    found, notes = pixels(written(picture, form))
    assert found.shape == (3, 4, 6) and found.min() > 240
    told = {"1": "grey", "L": "grey", "CMYK": "CMYK", "I;16": "16 bits"}
    assert told.get(mode, "") in " ".join(notes) and bool(notes) == (mode in told)


def test_colours_become_grey_for_a_net_that_reads_one_channel_and_that_is_told():
    found, notes = pixels(written(Image.new("RGB", (6, 4), (255, 255, 255))), GREY)
    assert found.shape == (1, 4, 6) and found.min() == 255
    assert notes == ("pictures: images that are coloured and became grey: 1",)


def test_what_is_transparent_is_laid_on_white():
    picture = Image.new("RGBA", (6, 4), (255, 0, 0, 0))
    found, notes = pixels(written(picture))
    assert found.min() == 255 and "laid on white" in notes[0]
    assert pixels(written(Image.new("RGBA", (6, 4), (255, 0, 0, 255))))[1] == ()


def test_a_photograph_is_turned_upright_as_its_exif_says():
    exif = Image.Exif()
    exif[image.ORIENTATION] = 6
    lying = Image.fromarray(np.rot90(HALVES).copy())
    found, notes = pixels(written(lying, "JPEG", exif=exif, quality=95))
    straight, _ = pixels(written(Image.fromarray(HALVES), "JPEG", quality=95))
    assert np.abs(found - straight).mean() < 5 and "EXIF" in notes[0]


def test_of_several_frames_the_first_is_read():
    frames = [Image.new("RGB", (6, 4), colour) for colour in ((255, 255, 255), (0, 0, 0))]
    found, notes = pixels(written(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert found.min() > 250 and "several frames" in notes[0]


def test_what_cannot_be_read_has_a_reason_and_reads_as_black(tmp_path):
    whole = written(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)), "JPEG")
    (tmp_path / "text.png").write_text("no picture")
    values = [str(tmp_path / "absent.png"), str(tmp_path / "text.png"), whole[: len(whole) // 2], b""]
    encoded = encode_images(table_of(*(packed_or(value) for value in [*values, whole])), "image", RGB)
    assert sorted(encoded.unreadable) == [0, 1, 2, 3]
    reasons = [encoded.unreadable[row] for row in range(4)]
    assert reasons[0] == "there is no such file" and reasons[1] == "it is no image of a known format"
    assert "truncated" in reasons[2] and reasons[3] == "it is no image of a known format"
    assert not encoded.batch([0])["pixel_values"].any() and encoded.batch([4])["pixel_values"].any()


def packed_or(value):
    """Values as the `datasets` library keeps them, so that names of files and bytes stand in one column."""
    return {"bytes": None, "path": value} if isinstance(value, str) else {"bytes": value, "path": None}


def test_an_image_of_too_many_pixels_is_refused_before_it_fills_the_memory(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setattr(image, "MOST_PIXELS", 100)
    encoded = encode_images(table_of(written(Image.new("RGB", (30, 30)))), "image", RGB)
    assert "more than 200 pixels" in encoded.unreadable[0]
    found, notes = pixels(written(Image.new("RGB", (12, 12), (255, 255, 255)), "JPEG"))
    assert found.min() > 250 and "smaller scale" in notes[0]


def test_arrays_are_images_too_and_their_channels_are_found_on_either_side():
    for array in (HALVES, HALVES.transpose(2, 0, 1)):
        assert np.allclose(pixels(packed(array))[0][:, 0, 0], (250, 120, 10), atol=2)
    assert pixels(packed(HALVES[..., 0]), GREY)[0].shape == (1, 4, 6)
    shares = np.full((3, 4, 6), 0.5, np.float32)
    assert np.allclose(pixels(packed(shares))[0] / 255, 0.5), "float pixels are taken as they are scaled"
    four = encode_images(table_of(packed(np.zeros((4, 4, 6), np.float32))), "image", RGB)
    assert "4 channels" in four.unreadable[0]


def test_keys_follow_the_pixels_and_not_the_file(tmp_path):
    other = HALVES.copy()
    other[0, 0] = 90
    for name, array in (("a.png", HALVES), ("b.png", HALVES), ("c.png", other)):
        Image.fromarray(array).save(tmp_path / name)
    values = [str(tmp_path / name) for name in ("a.png", "b.png", "c.png")]
    encoder = ImageEncoder(8, 12, (0.0,) * 3, (1.0,) * 3)
    one, same, another = encode_images(table_of(*values), "image", encoder).keys(np.arange(3))
    assert one == same != another


@pytest.mark.parametrize("name", ["ViT", "ConvNext", "BitImage", "EfficientNet", "MobileNetV2", "CLIP"])
def test_a_processor_of_transformers_gives_what_it_gives_alone(name):
    processor = getattr(transformers, f"{name.removesuffix('Image')}ImageProcessorPil")()
    encoder = of_processor(processor, "pixel_values", 3)
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 255, (90, 70, 3), np.uint8))
    expected = processor(images=[picture], return_tensors="np")["pixel_values"][0]
    encoded = encode_images(table_of(written(picture)), "image", encoder)
    assert np.allclose(encoded.batch([0])["pixel_values"][0].numpy(), expected, atol=1e-5)


def test_a_net_that_states_nothing_reads_the_images_as_they_are():
    values = [packed(np.full((5, 7), grey, np.uint8)) for grey in (0, 100, 200, 250)]
    made = learnt(table_of(*values), ("image",), np.arange(3), {})
    assert (made.channels, made.height, made.width) == (1, 5, 7)
    assert made.mean[0] == pytest.approx(100 / 255, abs=1e-3), "the training rows alone"
    assert learnt(table_of(*values), ("image",), np.arange(3), {"size": 9, "channels": 3}).channels == 3
    mixed = [written(Image.new("RGB", (20, 10 + number))) for number in range(3)]
    assert learnt(table_of(*mixed), ("image",), np.arange(3), {}).height == image.OWN_SIZE
    with pytest.raises(RecipeError, match='has no "sise"'):
        learnt(table_of(*values), ("image",), np.arange(3), {"sise": 9})


def test_many_pixels_lie_on_disk(monkeypatch):
    monkeypatch.setattr(image, "IN_MEMORY_BYTES", 100)
    encoded = encode_images(table_of(*[packed(HALVES)] * 3), "image", RGB)
    assert isinstance(encoded._pixels, np.memmap)
    assert encoded.batch([2])["pixel_values"].max() > 0.9


def test_items_of_a_dataset_are_read_when_they_are_needed():
    class Pictures:
        read = 0

        def __len__(self):
            return 5

        def __getitem__(self, number):
            Pictures.read += 1
            return Image.fromarray(HALVES), number % 2

    items = Pictures()
    table = Table(items=items, origin=(("Pictures", 5),))
    assert names_of(items) == ("input", "target")
    encoded = encode_images(table, "input", RGB)
    before = Pictures.read
    assert encoded.batch([1, 3])["pixel_values"].shape == (2, 3, 4, 6) and Pictures.read == before + 2
    assert len(set(encoded.keys(np.arange(5)))) == 1, "all five are one picture, at both readings"
