"""Images and sounds by folder, and arrays by file."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from tunesmith.data import media
from tunesmith.data.columns import guess
from tunesmith.data.sources import open_source
from tunesmith.errors import DataError
from tunesmith.testing import tiny_pictures


def labels(table):
    return table.column("label").to_pylist()


def size_of(table, name, row):
    with Image.open(media.values_of(table, name, [row])[0]) as picture:
        return picture.size


def test_sub_folders_are_classes(tmp_path):
    table = open_source(tiny_pictures(tmp_path / "pictures", 2))[""]
    assert table.column_names == ("image", "label") and labels(table) == ["blue"] * 2 + ["green"] * 2 + ["red"] * 2
    assert table.column("image")[0].as_py() == "blue/0.png"
    assert size_of(table, "image", 5) == (24, 20)


def test_folders_of_parts_are_parts_and_their_names_do_not_matter(tmp_path):
    for part, number in (("train", 3), ("val", 1), ("test", 2)):
        tiny_pictures(tmp_path / "data" / part, number)
    tables = open_source(tmp_path / "data")
    assert {part: table.num_rows for part, table in tables.items()} == {"train": 9, "valid": 3, "test": 6}


def test_the_name_of_a_row_does_not_depend_on_where_the_folder_lies(tmp_path):
    one, two = (open_source(tiny_pictures(tmp_path / place / "data", 2))[""] for place in "ab")
    assert np.array_equal(one.identified(["image"]).hashes, two.identified(["image"]).hashes)


def test_files_that_are_no_images_are_left_out_and_told(tmp_path):
    folder = tiny_pictures(tmp_path / "pictures", 2)
    (folder / "red" / "notes.md").write_text("hello")
    Image.new("RGB", (4, 4)).save(folder / "loose.png")
    (folder / "red" / ".hidden.png").write_text("")
    table = open_source(folder)[""]
    assert table.num_rows == 6
    assert [note.partition("left out ")[2] for note in table.notes] == [
        "1 files that are no image by their names",
        "1 files that lie in no folder of a class",
    ]


def test_images_and_sounds_in_one_folder_are_an_error(tmp_path):
    folder = tiny_pictures(tmp_path / "both", 1)
    (folder / "red" / "a.wav").write_bytes(b"")
    with pytest.raises(DataError, match="images and sounds"):
        open_source(folder)


def test_files_without_classes_are_rows_without_a_target(tmp_path):
    folder = tiny_pictures(tmp_path / "pictures", 2) / "red"
    assert open_source(folder)[""].column_names == ("image",)
    one = open_source(folder / "0.png")[""]
    assert one.num_rows == 1 and media.values_of(one, "image", [0]) == [str(folder / "0.png")]


def test_a_file_of_rows_beside_the_pictures_says_what_they_are(tmp_path):
    tiny_pictures(tmp_path / "data" / "pictures", 1)
    (tmp_path / "data" / "rows.csv").write_text(
        "file,kind\n" + "pictures/red/0.png,warm\npictures/blue/0.png,cold\n" * 3
    )
    table = open_source(tmp_path / "data")[""]
    found = guess(table)
    assert (found.inputs, found.target, found.modality) == (("file",), "kind", "image")
    assert size_of(table, "file", 1) == (24, 20)


def test_a_column_of_urls_beside_texts_stays_no_input_of_a_text_model():
    rows = {"text": [f"a text number {n}" for n in range(9)], "image": ["a.png"] * 9, "label": ["a", "b", "c"] * 3}
    assert guess(open_source(rows)[""], modality="text").inputs == ("text",)
    assert guess(open_source(rows)[""], modality="image").inputs == ("image",)


def test_images_of_the_datasets_library_are_images(tmp_path):
    datasets = pytest.importorskip("datasets")
    pictures = [Image.new("RGB", (4, 4), (number, 0, 0)) for number in range(6)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    rows = datasets.Dataset.from_dict({"image": pictures, "label": [0, 1] * 3}, features=features)
    rows.to_parquet(tmp_path / "rows.parquet")
    for source in (rows, tmp_path / "rows.parquet"):
        table = open_source(source)[""]
        assert media.kind_of(table, "image") == "image" and guess(table).inputs == ("image",)
        assert Image.open(media.opened(media.values_of(table, "image", [3])[0])).getpixel((0, 0)) == (3, 0, 0)


def idx(array):
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return struct.pack(">4B", 0, 0, 8, array.ndim) + sizes + array.astype(np.uint8).tobytes()


def test_idx_files_are_images_with_their_labels(tmp_path):
    images = np.arange(6 * 4 * 5).reshape(6, 4, 5).astype(np.uint8)
    for part, rows in (("train", slice(0, 4)), ("t10k", slice(4, 6))):
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images[rows])))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(6)[rows]))
    tables = open_source(tmp_path)
    assert {part: labels(table) for part, table in tables.items()} == {"train": [0, 1, 2, 3], "test": [4, 5]}
    assert np.array_equal(media.opened(media.values_of(tables["test"], "image", [1])[0]), images[5])
    assert open_source(tmp_path / "t10k-images-idx3-ubyte.gz")[""].num_rows == 2


@pytest.mark.parametrize("names", [("x", "y"), ("X_train", "y_train", "X_test", "y_test"), ("images", "labels")])
def test_arrays_of_a_file_are_rows(tmp_path, names):
    images = np.zeros((6, 4, 5, 3), np.uint8)
    arrays = {name: images if name[0] in "xXi" else np.arange(6) for name in names}
    np.savez(tmp_path / "rows.npz", **arrays)
    tables = open_source(tmp_path / "rows.npz")
    assert sorted(tables) == (["test", "train"] if len(names) == 4 else [""])
    assert all(guess(table).modality == "image" and table.num_rows == 6 for table in tables.values())


def test_damaged_files_of_arrays_say_so(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK nothing")
    np.savez(tmp_path / "b.npz", first=np.zeros(3))
    np.savez(tmp_path / "c.npz", x=np.array([{}], object), y=np.zeros(1))
    np.savez(tmp_path / "d.npz", x=np.zeros((3, 2, 2)), y=np.zeros(2))
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((3, 2, 2)))[:-2])
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(3)))
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((3, 2, 2))))
    for source, match in (
        ("a.npz", "cannot be read"),
        ("b.npz", "its arrays are first"),
        ("c.npz", "can run code"),
        ("d.npz", "3 inputs and 2 targets"),
        ("train-images-idx3-ubyte", "damaged or cut short"),
        ("alone", "no file of labels"),
    ):
        with pytest.raises(DataError, match=match):
            open_source(tmp_path / source)


def test_arrays_in_memory_are_images():
    table = open_source((np.zeros((4, 5, 6), np.uint8), ["a", "b"] * 2))[""]
    assert table.column_names == ("image", "label") and guess(table).modality == "image"
    numbers = open_source((np.zeros((4, 3)), ["a", "b"] * 2))[""]
    assert pa.types.is_floating(numbers.arrow.schema.field("input_1").type)
