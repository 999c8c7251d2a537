"""Images to pixels: each decoded and brought to one size once, memory-mapped, normalised as its batch is read."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from tunesmith.data import histograms, media
from tunesmith.data.encoded import keys_of_items
from tunesmith.data.shapes import GREY, ORIENTATION, shape
from tunesmith.data.table import Table
from tunesmith.errors import DataError, RecipeError, nearest
from tunesmith.files import require_space

Decoded = tuple[np.ndarray | None, str]
"""Pixels (channels, height, width) with what there is to tell of them, or None with what is wrong."""
MOST_PIXELS = Image.MAX_IMAGE_PIXELS or 89_478_485
"""An image of more pixels is decoded at a smaller scale where its format allows that, and refused beyond twice as many:
a small file may hold a picture that fills the memory."""
LEARNT_FROM = 1000
"""Mean and spread are learnt from so many training images at most."""
OWN_SIZE = 64
"""The side to which images are brought for a net that states no size, unless all of them are alike and no larger."""
STATED = ("size", "channels", "mean", "std", "resize")
MOMENTS = (("image_mean", 0.0), ("image_std", 1.0))
IN_MEMORY_BYTES = 256 << 20
"""Pixels of all images together lie on disk beyond so many bytes."""


@dataclass(frozen=True)
class ImageEncoder:
    """How an image becomes a tensor (channels, height, width): `(pixels / 255 - mean) / std`.

    With `crop` the shorter side is first brought to `resize`, and the centre is cut out; else the image is brought to
    `height` x `width` whatever its shape. `processor`, of the transformers library, does both in its own way."""

    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int | None = None
    name: str = "pixel_values"
    """The body's name of the tensor."""
    processor: Any = field(default=None, compare=False)
    whole: bool = False
    """Whether the processor normalises as well, because it does so in another way."""
    modality: ClassVar[Literal["image"]] = "image"
    most: ClassVar[str] = ""

    @property
    def channels(self) -> int:
        """1 = grey, 3 = red, green and blue; others only from arrays."""
        return len(self.mean)

    def blank(self, num_rows: int) -> dict[str, Tensor]:
        """So many black images."""
        return {self.name: self.normalised(np.zeros((num_rows, self.channels, self.height, self.width), np.uint8))}

    def encode(self, table: Table, inputs: tuple[str, ...]) -> ImageRows:
        """Decode and resize every image; of an opaque source each is read when it is needed."""
        return encode_images(table, inputs[0], self)

    def prepared(self, image: Image.Image | np.ndarray) -> np.ndarray:
        """An image as pixels of the right size: uint8, or float32 where that is what there is."""
        if isinstance(image, np.ndarray):
            return self._array(image)
        image = image.convert("L" if self.channels == 1 else "RGB")
        if self.processor is not None:
            return _processed(self.processor, image, self.name, raw=not self.whole)
        if self.resize is not None:
            scale = self.resize / min(image.size)
            image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
            left, top = (image.width - self.width) // 2, (image.height - self.height) // 2
            image = image.crop((left, top, left + self.width, top + self.height))
        elif image.size != (self.width, self.height):
            image = image.resize((self.width, self.height), Image.Resampling.BILINEAR)
        pixels = np.asarray(image)
        return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))

    def _array(self, array: np.ndarray) -> np.ndarray:
        """An array (height, width[, channels]) or (channels, height, width); one of bytes is treated as an image."""
        array = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
        array = array[0] if array.ndim == 3 and array.shape[0] == 1 else array
        if array.ndim == 3 and array.shape[0] > 4:
            array = array.transpose(2, 0, 1)
        if array.dtype == np.uint8 and (array.ndim == 2 or len(array) == 3):
            return self.prepared(Image.fromarray(array if array.ndim == 2 else array.transpose(1, 2, 0)))
        array = array[None] if array.ndim == 2 else array
        if array.shape[0] == 1 and self.channels == 3:
            array = array.repeat(3, 0)
        if array.shape[0] != self.channels:
            raise ValueError(f"it has {array.shape[0]} channels, and the model reads {self.channels}")
        if array.shape[1:] != (self.height, self.width):
            raised = torch.from_numpy(np.ascontiguousarray(array, np.float32))[None]
            size = (self.height, self.width)
            array = torch.nn.functional.interpolate(raised, size, mode="bilinear", antialias=True)[0].numpy()
        return np.ascontiguousarray(array, np.uint8 if array.dtype == np.uint8 else np.float32)

    def normalised(self, pixels: np.ndarray) -> Tensor:
        """What the model reads of pixels (rows, channels, height, width); float pixels are taken as they are scaled."""
        values = torch.from_numpy(np.array(pixels)).float()
        values = values / 255 if pixels.dtype == np.uint8 else values
        mean, std = (torch.tensor(numbers).view(-1, 1, 1) for numbers in (self.mean, self.std))
        return (values - mean) / std

    def plain(self, table: Table, inputs: tuple[str, ...], rows: np.ndarray) -> np.ndarray:
        """A thumbnail of each image with a histogram of its colours: (rows, features)."""
        return self._described(table, inputs, rows, histograms.THUMBNAIL, histograms.colours)

    def edges(self, table: Table, inputs: tuple[str, ...], rows: np.ndarray) -> np.ndarray:
        """How strong edges of each direction are in each part of an image: (rows, 576)."""
        return self._described(table, inputs, rows, histograms.EDGES, histograms.edges)

    def _described(
        self, table: Table, inputs: tuple[str, ...], rows: np.ndarray, side: int, by: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        small = ImageEncoder(side, side, (0.0,) * self.channels, (1.0,) * self.channels)
        encoded = encode_images(table, inputs[0], small)
        return np.stack([by(encoded.batch([row])[small.name][0].numpy()) for row in rows])

    def as_json(self) -> dict[str, Any] | None:
        if self.processor is not None:
            return None
        kept = ("height", "width", "mean", "std", "resize", "name")
        return {"modality": self.modality} | {key: getattr(self, key) for key in kept}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ImageEncoder:
        known = {key: item for key, item in value.items() if key != "modality"}
        return cls(**known | {"mean": tuple(value["mean"]), "std": tuple(value["std"])})


@dataclass
class ImageRows:
    """The images of a Table. `unreadable`: row number -> what is wrong with its file; such a row reads as black."""

    table: Table
    column: str
    encoder: ImageEncoder
    unreadable: dict[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    lengths: None = None
    longest: int = 0
    num_cut: int = 0
    _pixels: np.ndarray | None = None

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """The tensor (rows, channels, height, width) of the given row numbers."""
        return {self.encoder.name: self.encoder.normalised(self._read(rows))}

    def changed(self, rows: Sequence[int] | np.ndarray, change: Callable[[int, Any], Any]) -> dict[str, Tensor]:
        """What `batch` gives of the pictures as `change(place, picture)` makes them; `place` counts in `rows`."""
        pixels = self._read(rows)
        if pixels.dtype != np.uint8 or pixels.shape[1] not in (1, 3):
            what = f"data.augment changes 8-bit pictures of 1 or 3 channels; here {pixels.shape[1]}, {pixels.dtype}"
            raise RecipeError(what, where=self.table.source, remedy="leave data.augment out")

        def one(place: int) -> np.ndarray:
            picture = pixels[place]
            whole = Image.fromarray(
                picture[0] if len(picture) == 1 else np.ascontiguousarray(picture.transpose(1, 2, 0))
            )
            made = np.asarray(change(place, whole))
            return made[None] if made.ndim == 2 else made.transpose(2, 0, 1)

        # Pillow leaves Python while it works, so that threads share the cores.
        with ThreadPoolExecutor(media.workers()) as pool:
            return {self.encoder.name: self.encoder.normalised(np.stack(list(pool.map(one, range(len(pixels))))))}

    def _read(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """The pixels of some rows, not yet normalised; those of a Dataset are decoded now."""
        if self._pixels is not None:
            found: np.ndarray = self._pixels[np.asarray(rows)]
            return found
        read = [read_image(value, self.encoder) for value in media.values_of(self.table, self.column, rows)]
        for row, (pixels, wrong) in zip(rows, read, strict=True):
            if pixels is None:
                raise DataError(wrong, where=self.table.where(int(row)), remedy="leave the item out")
        return np.stack([pixels for pixels, _ in read])  # type: ignore[misc]

    def keys(self, rows: np.ndarray) -> list[bytes] | None:
        """A digest (16 bytes) of the pixels of each row; None for a Dataset that draws at random."""
        if self._pixels is None:
            return keys_of_items(self, rows)
        return [hashlib.blake2b(self._pixels[row].tobytes(), digest_size=16).digest() for row in rows]


def of_processor(processor: Any, name: str, channels: int) -> ImageEncoder:
    """The encoder of an image processor of the transformers library: what it does, measured on one picture."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8))
    picture = picture.convert("L" if channels == 1 else "RGB")
    whole = _processed(processor, picture, name, raw=False)
    if whole.ndim != 3:
        raise ValueError(f"it makes {whole.ndim} dimensions of an image, where channels, height and width are read")
    mean, std = (tuple(getattr(processor, key, None) or (default,) * channels) for key, default in MOMENTS)
    if not getattr(processor, "do_normalize", False):
        mean, std = (0.0,) * channels, (1.0,) * channels
    height, width = whole.shape[1:]
    made = ImageEncoder(height, width, mean[:channels], std[:channels], name=name, processor=processor)
    pixels = made.prepared(picture)
    if pixels.dtype == np.uint8 and np.allclose(made.normalised(pixels).numpy(), whole, atol=1e-5):
        return made
    return replace(made, mean=(0.0,) * channels, std=(1.0,) * channels, whole=True)


def stated(known: Mapping[str, Any], asked: Mapping[str, Any]) -> ImageEncoder:
    """The encoder that a library states, changed by what a person states."""
    _check(asked)
    if "size" in asked:
        side = asked["size"] if isinstance(asked["size"], list) else [asked["size"]] * 2
        scale = side[0] / known["height"]
        known = {**known, "height": side[0], "width": side[1], "resize": round(known["resize"] * scale)}
    moments = {key: tuple(asked.get(key, known[key])) for key in ("mean", "std")}
    if (channels := asked.get("channels", len(moments["mean"]))) != len(moments["mean"]):
        moments = {key: (sum(values) / len(values),) * channels for key, values in moments.items()}
    return ImageEncoder(**{**known, **moments, **({"resize": asked["resize"]} if "resize" in asked else {})}, name="x")


def _check(asked: Mapping[str, Any]) -> None:
    if unknown := [key for key in asked if key not in STATED]:
        what = f'"model.expects" of images has no "{unknown[0]}"'
        raise RecipeError(what, where="recipe", remedy=nearest(unknown[0], STATED))


def learnt(
    table: Table, inputs: tuple[str, ...], rows: np.ndarray, asked: Mapping[str, Any], name: str = "x"
) -> ImageEncoder:
    """An encoder for a net that says nothing of its inputs, from what is `asked` (size, channels, mean, std, resize)
    and from the training `rows`: their own size where they all have one, their channels, their mean and spread."""
    _check(asked)
    some = rows[np.linspace(0, len(rows) - 1, min(len(rows), LEARNT_FROM)).astype(int)]
    if table.arrow is None:
        some = some[:20]
    shapes = list(filter(None, (shape(value) for value in media.values_of(table, inputs[0], some))))
    if not shapes:
        first = int(some[0])
        value = media.values_of(table, inputs[0], [first])[0]
        _, why = read_image(value, ImageEncoder(1, 1, (0.0,) * 3, (1.0,) * 3))
        what = f"none of its images can be read; {value if isinstance(value, str) else table.where(first)}: {why}"
        raise DataError(what, where=table.source, remedy="names of files count from the folder of the table")
    usual = shapes[0][1:] if len({shape[1:] for shape in shapes}) == 1 and max(shapes[0][1:]) <= OWN_SIZE else None
    size = asked.get("size", usual or OWN_SIZE)
    height, width = (size, size) if isinstance(size, int) else size
    channels = asked.get("channels", max(shape[0] for shape in shapes))
    blank = ImageEncoder(height, width, (0.0,) * channels, (1.0,) * channels, asked.get("resize"), name)
    if {"mean", "std"} <= set(asked):
        moments = [tuple(float(number) for number in asked[key]) for key in ("mean", "std")]
    else:
        encoded = encode_images(table.take(some), inputs[0], blank)
        readable = [row for row in range(len(some)) if row not in encoded.unreadable]
        values = encoded.batch(readable)[name].transpose(0, 1).flatten(1)
        spread = values.std(1).clamp(min=1e-3)
        moments = [tuple(round(float(number), 6) for number in found) for found in (values.mean(1), spread)]
    return replace(blank, mean=moments[0], std=moments[1])


def _processed(processor: Any, image: Image.Image, name: str, *, raw: bool) -> np.ndarray:
    """The array of one image; `raw`: pixels of the right size, not yet scaled."""
    options = {"do_rescale": False, "do_normalize": False} if raw else {}
    return np.asarray(processor(images=[image], return_tensors="np", **options)[name][0])


def encode_images(table: Table, column: str, encoder: ImageEncoder) -> ImageRows:
    """Decode every image once, several at a time, into a private memory-mapped file."""
    rows = ImageRows(table, column, encoder)
    if table.arrow is None or not table.num_rows:
        return rows
    told: Counter[str] = Counter()
    pixels: np.ndarray | None = None
    for row, (image, what) in enumerate(_decoded(table, column, encoder)):
        if image is None:
            rows.unreadable[row] = what
            continue
        told.update(filter(None, what.split("; ")))
        if pixels is None or (pixels.dtype == np.uint8 and image.dtype != np.uint8):
            pixels = _room(rows, (table.num_rows, *image.shape), image.dtype, pixels)
        pixels[row] = image if image.dtype == pixels.dtype else image.astype(np.float32) / 255
    rows._pixels = pixels if pixels is not None else np.zeros((table.num_rows, 1, 1, 1), np.uint8)
    rows.notes = tuple(f"{table.source}: images that {what}: {count}" for what, count in told.items())
    return rows


def _room(rows: ImageRows, shape: tuple[int, ...], dtype: np.dtype[Any], filled: np.ndarray | None) -> np.ndarray:
    """An array for all pixels, in memory where it is small; bytes that were `filled` become shares of 255."""
    size = int(np.prod(shape)) * dtype.itemsize
    if size < IN_MEMORY_BYTES:
        room: np.ndarray = np.zeros(shape, dtype)
    else:
        require_space(Path(tempfile.gettempdir()), size, "the pixels of all images")
        folder = Path(tempfile.mkdtemp(prefix="tunesmith-pixels-"))
        weakref.finalize(rows, shutil.rmtree, folder, ignore_errors=True)
        room = np.lib.format.open_memmap(folder / "pixels.npy", "w+", dtype, shape)
    if filled is not None:
        room[:] = filled.astype(np.float32) / 255
    return room


def _decoded(table: Table, column: str, encoder: ImageEncoder) -> Iterable[Decoded]:
    """Each row's pixels, in order; decoding and resizing leave Python, so that threads share the cores."""
    with warnings.catch_warnings(), ThreadPoolExecutor(media.workers()) as pool:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # Enormous images are told in our own words.
        for start in range(0, table.num_rows, 64):
            values = media.values_of(table, column, range(start, min(start + 64, table.num_rows)))
            yield from pool.map(lambda value: read_image(value, encoder), values)


def read_image(value: Any, encoder: ImageEncoder) -> Decoded:
    """An image from wherever it is, with what is told of it."""
    try:
        source = media.opened(value)
        if isinstance(source, Tensor):
            source = source.numpy()
        if isinstance(source, np.ndarray):
            return encoder.prepared(source), ""
        if isinstance(source, Image.Image):
            return encoder.prepared(source), ""
        with Image.open(source) as image:
            notes = []
            if image.width * image.height > MOST_PIXELS:
                image.draft("RGB", (2 * encoder.width, 2 * encoder.height))
                notes.append(f"have more than {MOST_PIXELS:,} pixels and were decoded at a smaller scale")
            if getattr(image, "n_frames", 1) > 1:
                notes.append("have several frames, of which the first is read")
            if image.getexif().get(ORIENTATION, 1) > 1:
                notes.append("were turned upright as their EXIF says")
            flat, note = _flat(ImageOps.exif_transpose(image), encoder.channels)
            return encoder.prepared(flat), "; ".join([*notes, *[note] * bool(note)])
    except FileNotFoundError:
        return None, "there is no such file"
    except Image.DecompressionBombError:
        return None, f"it has more than {2 * MOST_PIXELS:,} pixels"
    except UnidentifiedImageError:
        return None, "it is no image of a known format"
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        return None, f"it cannot be decoded ({str(error).splitlines()[0] if str(error) else type(error).__name__})"


def _flat(image: Image.Image, channels: int) -> tuple[Image.Image, str]:
    """The image in grey or RGB, what is transparent in it laid on white, and what was done."""
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
        flat = Image.alpha_composite(ground, image)
        opaque = image.getchannel("A").getextrema()[0] == 255
        return flat.convert("RGB"), "" if opaque else "are transparent in part and were laid on white"
    if image.mode in GREY[2:]:
        values = np.asarray(image, np.float32)
        most = 65535 if values.max(initial=0) > 255 else 255
        return Image.fromarray((values * (255 / most)).clip(0, 255).astype(np.uint8)), "have 16 bits and were read as 8"
    if image.mode == "CMYK":
        return image.convert("RGB"), "are CMYK and became RGB"
    if image.mode in ("L", "1") and channels == 3:
        return image.convert("L"), "are grey and became RGB"
    if image.mode not in ("L", "1") and channels == 1:
        return image.convert("RGB"), "are coloured and became grey"
    return image, ""
