"""The ways to augment training rows, each a function: words, images, randaugment, trivialaugment, sounds, columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from tunesmith.data import image_changes, sound_changes, table_changes, word_changes
from tunesmith.data.augmented import Augmentation
from tunesmith.data.mixing import Mix
from tunesmith.data.sound_changes import Wave
from tunesmith.data.table_changes import Cells
from tunesmith.errors import RecipeError

WHERE = "data.augment"
USUAL = {"text": "words", "image": "images", "sound": "sounds", "table": "columns"}
"""What rows of this kind are tried with where the recipe says "auto"."""


def words(
    *,
    delete: float = 0.1,
    swap: float = 0.1,
    replace: float = 0.1,
    insert: float = 0.1,
    synonyms: str = "wordnet",
    views: int | None = None,
) -> Augmentation:
    """Words left out, exchanged, replaced by synonyms, or synonyms put in, at random (EDA: Wei & Zou 2019).

    A lot decides which of the four happens to a view of a row. `delete`: each word is left out with this probability,
    but never all. The others happen max(1, share * n) times to n words: two are exchanged (`swap`), one becomes a
    synonym (`replace`), a synonym of one is put in anywhere (`insert`). A share of 0 means never. `synonyms`: "wordnet"
    (English, comes with Tunesmith), "embeddings" (whole words nearest in the model's own table of embeddings, in any
    language), or a file with words of one meaning in each line. `views`: each row has so many fixed views; if not
    given, a new one in every epoch. Texts without spaces between words are changed by characters."""
    shares = {"delete": delete, "swap": swap, "replace": replace, "insert": insert}
    _shares(shares)
    if not any(shares.values()):
        raise RecipeError(f"{', '.join(shares)} are all 0", where=WHERE, remedy="leave data.augment out")

    def changing(found: word_changes.Synonyms) -> Callable[[Any, np.random.Generator], Any]:
        def change(text: Any, random: np.random.Generator) -> Any:
            if isinstance(text, tuple):
                return tuple(change(part, random) for part in text)
            return word_changes.changed(text, random, found, shares)

        return change

    if synonyms == "embeddings":
        return Augmentation(
            changing(lambda word: ()),
            _views(views),
            neighbours=lambda table, tokenizer: changing(word_changes.neighbours(table(), tokenizer)),
        )
    if synonyms == "wordnet" or not (replace or insert):
        return Augmentation(changing(word_changes.wordnet), _views(views))
    table = word_changes.of_file(synonyms)
    return Augmentation(changing(lambda word: table.get(word, ())), _views(views))


def images(
    *,
    crop: float = 0.5,
    flip: float = 0.5,
    rotate: float = 10.0,
    colour: float = 0.2,
    blur: float = 0.0,
    erase: float = 0.0,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    views: int | None = None,
) -> Augmentation:
    """A part of the picture, mirrored, turned, of other colours, blurred, a part of it erased.

    `crop`: the smallest share of the area that stays (1 = all). `flip`: how probably left and right are exchanged.
    `rotate`: degrees at most. `colour`: how far brightness, contrast and saturation are changed. `blur`: its standard
    deviation at most, as a share of the shorter side. `erase`: how probably a rectangle takes the mean colour.
    `mixup`, `cutmix`: the Beta distribution that the share of another picture is drawn from, blended over all of it
    (Zhang et al. 2018) or put in place of a part (Yun et al. 2019); 0 = never. Pictures are changed at the size that
    the model reads."""
    _crops(crop, flip, rotate)
    _shares({"colour": colour, "blur": blur}, below_one=True)
    _shares({"erase": erase}, below_one=False)
    mix = _mix(mixup, cutmix)
    if crop == 1 and not (flip or rotate or colour or blur or erase or mix):
        raise RecipeError("nothing would be changed", where=WHERE, remedy="leave data.augment out")

    def change(image: Image.Image, random: np.random.Generator) -> Image.Image:
        image = image_changes.placed(image, random, crop=crop, flip=flip, rotate=rotate)
        image = image_changes.coloured(image, random, colour=colour) if colour else image
        image = image_changes.blurred(image, random, blur=blur) if blur else image
        return image_changes.erased(image, random, erase=erase) if erase else image

    return Augmentation(change, _views(views), "image", mix)


def randaugment(
    *,
    num: int = 2,
    magnitude: int = 9,
    crop: float = 1.0,
    flip: float = 0.5,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    views: int | None = None,
) -> Augmentation:
    """`num` of fourteen changes of a picture, one after the other, at `magnitude` of 30 (Cubuk et al. 2020).

    The other options are those of `images`; what they do comes first."""
    if num < 1 or not 0 <= magnitude <= 30:
        what = f"num = {num}, magnitude = {magnitude}"
        raise RecipeError(what, where=WHERE, remedy="num is 1 or more, magnitude 0 to 30")
    return _listed(image_changes.RAND, num, magnitude / 30, crop=crop, flip=flip, mix=_mix(mixup, cutmix), views=views)


def trivialaugment(
    *,
    crop: float = 1.0,
    flip: float = 0.5,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    views: int | None = None,
) -> Augmentation:
    """One of fourteen changes of a picture, at a strength that a lot decides (Mueller & Hutter 2021, wide space).

    The options are those of `images`; what they do comes first."""
    return _listed(image_changes.TRIVIAL, 1, None, crop=crop, flip=flip, mix=_mix(mixup, cutmix), views=views)


def sounds(
    *,
    noise: float = 20.0,
    shift: float = 0.1,
    speed: float = 0.1,
    time_mask: float = 0.1,
    frequency_mask: float = 0.1,
    views: int | None = None,
) -> Augmentation:
    """Noise, another speed, a shift in time, and times and bands that fall silent.

    `noise`: white noise, at least so many decibels under the sound (and 20 more at most). `speed`: up to so much faster
    or slower, by resampling, so that the pitch moves too (Ko et al. 2015). `shift`: by at most such a share of the
    length. `time_mask`, `frequency_mask`: twice a stretch of at most such a share of the length, and twice a band of
    the mel scale, falls silent (SpecAugment: Park et al. 2019). 0 = never. Each of the four happens to every second
    view, so that the model goes on hearing what it will be asked about."""
    _shares({"shift": shift, "speed": speed, "time_mask": time_mask, "frequency_mask": frequency_mask})
    if noise < 0:
        raise RecipeError(f"noise = {noise} decibels", where=WHERE, remedy="more than 0, or 0 for none")
    if not (noise or shift or speed or time_mask or frequency_mask):
        raise RecipeError("nothing would be changed", where=WHERE, remedy="leave data.augment out")

    def change(wave: Wave, random: np.random.Generator) -> Wave:
        faster, moved, gaps, louder = random.random(4) < 0.5
        wave = sound_changes.stretched(wave, random, speed) if speed and faster else wave
        wave = sound_changes.shifted(wave, random, shift) if shift and moved else wave
        if gaps and (time_mask or frequency_mask):
            wave = sound_changes.masked(wave, random, time_mask, frequency_mask)
        return sound_changes.noisy(wave, random, noise) if noise and louder else wave

    return Augmentation(change, _views(views), "sound")


def columns(
    *,
    noise: float = 0.05,
    drop: float = 0.1,
    mixup: float = 0.0,
    views: int | None = None,
) -> Augmentation:
    """Numbers with noise, columns that count as missing, rows blended with others.

    `noise`: its standard deviation, where the quartiles of a column are 1 apart. `drop`: how probably a column counts
    as missing, but never all of a row. `mixup`: the Beta distribution that the share of another row is drawn from
    (Zhang et al. 2018); numbers are blended, and a category is the row's own as often as its share says; 0 = never."""
    _shares({"drop": drop})
    mix = _mix(mixup, 0.0)
    if noise < 0:
        raise RecipeError(f"noise = {noise}", where=WHERE, remedy="0 or more")
    if not (noise or drop or mix):
        raise RecipeError("nothing would be changed", where=WHERE, remedy="leave data.augment out")

    def change(cells: Cells, random: np.random.Generator) -> Cells:
        cells = table_changes.noisy(cells, random, noise) if noise else cells
        return table_changes.dropped(cells, random, drop) if drop else cells

    return Augmentation(change, _views(views), "table", mix)


def _listed(
    most: dict[str, float],
    num: int,
    level: float | None,
    *,
    crop: float,
    flip: float,
    mix: Mix | None,
    views: int | None,
) -> Augmentation:
    _crops(crop, flip, 0.0)

    def change(image: Image.Image, random: np.random.Generator) -> Image.Image:
        image = image_changes.placed(image, random, crop=crop, flip=flip, rotate=0.0)
        for _ in range(num):
            image = image_changes.drawn(image, random, most, level)
        return image

    return Augmentation(change, _views(views), "image", mix)


def _crops(crop: float, flip: float, rotate: float) -> None:
    _shares({"flip": flip}, below_one=False)
    if not 0 < crop <= 1 or not 0 <= rotate <= 180:
        what = f"crop = {crop}, rotate = {rotate}"
        raise RecipeError(what, where=WHERE, remedy="crop is above 0 and at most 1, rotate 0 to 180 degrees")


def _shares(named: dict[str, float], *, below_one: bool = True) -> None:
    for name, share in named.items():
        if not 0 <= share <= 1 or (share == 1 and below_one):
            what, most = f"{name} = {share} is no share", "below 1" if below_one else "at most 1"
            raise RecipeError(what, where=WHERE, remedy=f"at least 0 and {most}")


def _mix(mixup: float, cutmix: float) -> Mix | None:
    if mixup < 0 or cutmix < 0:
        raise RecipeError(
            f"mixup = {mixup}, cutmix = {cutmix}", where=WHERE, remedy="0 (never) or more; 0.2 and 1 are usual"
        )
    return Mix(mixup, cutmix) if mixup or cutmix else None


def _views(views: int | None) -> int | None:
    if views is not None and views < 1:
        raise RecipeError(f"views = {views}", where=WHERE, remedy="give 1 or more, or leave it out")
    return views
