"""Rows with their predictions, as a table and as a file."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from tunesmith.data.table import Table
from tunesmith.errors import RecipeError, nearest
from tunesmith.evaluation import conformal
from tunesmith.evaluation.predict import Predictions
from tunesmith.files import no_space

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")


def with_predictions(
    table: Table, predictions: Predictions, *, proba: bool, most: float | None = None, tell: Callable[[str], None]
) -> pa.Table:
    """The input's columns, then `prediction`, then `probability_<label>` if asked, and what conformal prediction says
    where no row may be further off than `most`; columns of these names are replaced, which is told."""
    result = table.arrow if table.arrow is not None else pa.table({"id": predictions.ids})
    kind = {"multilabel": pa.list_(pa.string()), "regression": pa.float64()}.get(predictions.task.name)
    columns = {"prediction": pa.array(predictions.decoded, kind)}
    if proba:
        columns |= {name: pa.array(values) for name, values in predictions.probability_columns().items()}
    if most is not None:
        columns |= _conformal(predictions, most)
    if any(name in result.column_names for name in columns):
        tell(f"{table.source}: its own prediction columns are replaced by the new ones")
    result = result.drop_columns([name for name in columns if name in result.column_names])
    for name, values in columns.items():
        result = result.append_column(name, values)
    return result


def _conformal(predictions: Predictions, most: float) -> dict[str, pa.Array]:
    """The labels of each row that are no further off than `most`, or the ends of the interval of its value."""
    if predictions.task.name == "regression":
        values = predictions.probabilities[:, 0]
        return {"prediction_low": pa.array(values - most), "prediction_high": pa.array(values + most)}
    labels = np.array(predictions.target.labels)
    found = [labels[row].tolist() for row in conformal.sets(predictions.probabilities, most)]
    return {"prediction_set": pa.array(found, pa.list_(pa.string()))}


def write(rows: pa.Table, out: str) -> None:
    """Write `rows` in the format of the name's extension; `-` is CSV on standard output. Never half a file."""
    if out == "-":
        _write_csv(rows, sys.stdout.buffer, ",")
        sys.stdout.flush()
        return
    path = Path(out)
    check_name(out)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            pq.write_table(rows, temporary)
        elif path.suffix == ".jsonl":
            with open(temporary, "w", encoding="utf-8") as file:
                for batch in rows.to_batches():
                    file.writelines(
                        json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in batch.to_pylist()
                    )
        else:
            with open(temporary, "wb") as binary:
                _write_csv(rows, binary, "\t" if path.suffix == ".tsv" else ",")
        temporary.replace(path)
    except OSError as error:
        raise no_space(path, error) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_name(out: str) -> None:
    """Refuse a name whose format is not known, before any row is predicted."""
    if out != "-" and Path(out).suffix not in FORMATS:
        raise RecipeError("its format is not known", where=out, remedy=nearest(Path(out).suffix, FORMATS))


def _write_csv(rows: pa.Table, file: IO[bytes], separator: str) -> None:
    options = pacsv.WriteOptions(delimiter=separator, quoting_style="needed")
    pacsv.write_csv(_flat(rows), file, options)


def _flat(rows: pa.Table) -> pa.Table:
    """Formats without lists: labels as `a|b`, which `--set 'task.separator="|"'` reads again; the rest as JSON."""
    for index, field in enumerate(rows.schema):
        if pa.types.is_nested(field.type):
            texts = [None if value is None else _as_text(value) for value in rows.column(index).to_pylist()]
            rows = rows.set_column(index, field.name, pa.array(texts, pa.string()))
    return rows


def _as_text(value: Any) -> str:
    plain = isinstance(value, list) and all(isinstance(item, str) and "|" not in item for item in value)
    return "|".join(value) if plain else json.dumps(value, ensure_ascii=False, default=str)
