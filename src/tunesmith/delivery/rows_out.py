"""Rows with their predictions, as a table and as a file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from tunesmith.data.table import Table
from tunesmith.errors import RecipeError, nearest
from tunesmith.evaluation.predict import Predictions

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")


def with_predictions(table: Table, predictions: Predictions, *, proba: bool) -> pa.Table:
    """The input's columns, then `prediction`, then `probability_<label>` if asked."""
    result = table.arrow if table.arrow is not None else pa.table({"id": predictions.ids})
    columns = {"prediction": pa.array(predictions.decoded)}
    if proba:
        columns |= {name: pa.array(values) for name, values in predictions.probability_columns().items()}
    for name, values in columns.items():
        if name in result.column_names:
            result = result.drop_columns([name])
        result = result.append_column(name, values)
    return result


def write(rows: pa.Table, out: str) -> None:
    """Write `rows` in the format of the name's extension; `-` is CSV on standard output. Never half a file."""
    if out == "-":
        pacsv.write_csv(_flat(rows), pa.output_stream(sys.stdout.buffer))
        sys.stdout.flush()
        return
    path = Path(out)
    check_name(out)
    temporary = path.with_name(f".{path.name}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if path.suffix == ".parquet":
            pq.write_table(rows, temporary)
        elif path.suffix == ".jsonl":
            with open(temporary, "w", encoding="utf-8") as file:
                for batch in rows.to_batches():
                    file.writelines(
                        json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in batch.to_pylist()
                    )
        else:
            options = pacsv.WriteOptions(delimiter="\t" if path.suffix == ".tsv" else ",", quoting_style="needed")
            pacsv.write_csv(_flat(rows), temporary, options)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_name(out: str) -> None:
    """Refuse a name whose format is not known, before any row is predicted."""
    if out != "-" and Path(out).suffix not in FORMATS:
        raise RecipeError("its format is not known", where=out, remedy=nearest(Path(out).suffix, FORMATS))


def _flat(rows: pa.Table) -> pa.Table:
    """Lists of labels as one text, for formats without lists."""
    for index, field in enumerate(rows.schema):
        if pa.types.is_nested(field.type):
            texts = [None if value is None else "|".join(map(str, value)) for value in rows.column(index).to_pylist()]
            rows = rows.set_column(index, field.name, pa.array(texts, pa.string()))
    return rows
