"""Columnar files: damage is named; streams, files and many row groups are read."""

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from tunesmith.data import spill
from tunesmith.data.sources import open_source
from tunesmith.errors import DataError

TOY = pa.table({"text": ["a", "b", "c"], "label": pa.array(["x", "y", "x"]).dictionary_encode()})


@pytest.mark.parametrize("name", ["toy.parquet", "toy.feather"])
def test_a_truncated_file_is_an_error(tmp_path, name):
    path = tmp_path / name
    pa.parquet.write_table(TOY, path) if "parquet" in name else pa.feather.write_feather(TOY, str(path))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=f"{name}: the file is damaged or cut short"):
        open_source(path)


def test_an_arrow_stream_is_read_like_an_arrow_file(tmp_path):
    with pa.ipc.new_stream(str(tmp_path / "toy.arrow"), TOY.schema) as writer:
        writer.write_table(TOY)
    assert open_source(tmp_path / "toy.arrow")[""].column("label").to_pylist() == ["x", "y", "x"]


def test_many_row_groups_are_streamed_to_a_memory_map(tmp_path, monkeypatch):
    monkeypatch.setattr(spill, "IN_MEMORY_BYTES", 10)
    pa.parquet.write_table(TOY, tmp_path / "toy.parquet", row_group_size=1)
    assert open_source(tmp_path / "toy.parquet")[""].arrow.to_pylist() == TOY.to_pylist()


def test_no_rows_are_an_error(tmp_path):
    pa.parquet.write_table(TOY.slice(0, 0), tmp_path / "toy.parquet")
    with pytest.raises(DataError, match="there are no rows"):
        open_source(tmp_path / "toy.parquet")
