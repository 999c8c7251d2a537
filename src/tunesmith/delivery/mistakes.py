"""The most confident mistakes of a run, kept with their content: the rows may be gone when somebody looks at them."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.assemble.job import Job
from tunesmith.data import media, sounds
from tunesmith.data.table import Table
from tunesmith.data.thumbnails import thumbnail
from tunesmith.evaluation.intervals import known_rows
from tunesmith.evaluation.predict import Predictions, readable
from tunesmith.files import whole_folder, write_json
from tunesmith.run import Run

FOLDER, FILE = "mistakes", "mistakes.json"
MOST = 12
LETTERS, COLUMNS = 500, 16
"""Of a text, and of a table's row."""
SIDE = 160
"""Pixels of a picture at most, either way."""
SECONDS, RATE = 5.0, 11_025
"""Of a sound at most: twelve of them stay under 1.4 MB."""


def keep(job: Job, run: Run, part: str, predictions: Predictions, rows: np.ndarray) -> None:
    """Write into RUN/mistakes the rows that are decided wrongly with the highest confidence, or whose value is farthest
    off, with what a person can look at; of the test rows where there are any, and nothing where no report is made."""
    if job.recipe.deliver.report == "none" or (part == "valid" and len(job.rows.split.test)):
        return
    wrong = wrongness(predictions)
    worst = [int(place) for place in np.argsort(-wrong, kind="stable")[:MOST] if wrong[place] > 0]
    if not worst:
        return
    assert predictions.codes is not None
    targets, decoded = readable(predictions.codes, predictions.target), predictions.decoded
    with whole_folder(run.path / FOLDER) as folder:
        contents = _contents(job, rows[worst], folder)
        kept = [
            {
                "id": str(predictions.ids[place]),
                "where": job.rows.table.where(int(rows[place])),
                "target": targets[place],
                "prediction": decoded[place],
                "confidence": float(wrong[place]),
            }
            | content
            for place, content in zip(worst, contents, strict=True)
        ]
        write_json(folder / FILE, {"split": part, "rows": kept})


def wrongness(predictions: Predictions) -> np.ndarray:
    """How sure each row's wrong decision is, (rows,): the probability of the wrong label, of several the one most
    surely wrong; of a regression the distance from the target; 0 where the row is right or its target is unknown."""
    codes, chances = predictions.codes, predictions.probabilities
    assert codes is not None
    found = np.zeros(len(codes))
    known, labels = known_rows(codes), {label: code for code, label in enumerate(predictions.target.labels)}
    if predictions.task.name == "regression":
        found[known] = np.abs(chances.reshape(len(codes), -1)[known, 0] - codes.reshape(len(codes), -1)[known, 0])
    elif codes.ndim == 2:
        said = np.zeros(codes.shape, bool)
        for row, names in enumerate(predictions.decoded):
            said[row, [labels[name] for name in names]] = True
        sure = np.where(said, chances, 1 - chances)
        found[known] = np.where(said != (codes > 0.5), sure, 0.0).max(1)[known]
    else:
        said = np.array([labels[name] for name in predictions.decoded], dtype=np.int64)
        wrong = known & (said != codes)
        found[wrong] = chances[wrong, said[wrong]]
    return found


def _contents(job: Job, rows: np.ndarray, folder: Path) -> list[dict[str, Any]]:
    """What a person can look at of each row: its texts, a small picture, a short sound, the columns of its table."""
    table, inputs, modality = job.rows.table, job.rows.inputs, job.rows.modality
    if modality in ("text", "table"):
        return _written(table, inputs, rows)
    if modality in ("image", "sound"):
        values = media.values_of(table, inputs[0], rows)
        write = _picture if modality == "image" else _sound
        return [write(value, folder / str(place), job) for place, value in enumerate(values, 1)]
    return [{} for _ in rows]


def _written(table: Table, inputs: tuple[str, ...], rows: np.ndarray) -> list[dict[str, Any]]:
    """Column -> its value as a text, cut where it is long."""
    taken = table.take(rows)
    columns = {name: taken.column(name).to_pylist() for name in inputs[:COLUMNS]}
    return [
        {"texts": {name: _cut("" if values[row] is None else str(values[row])) for name, values in columns.items()}}
        for row in range(len(rows))
    ]


def _cut(text: str) -> str:
    return text if len(text) <= LETTERS else f"{text[:LETTERS]} ..."


def _picture(value: Any, path: Path, _job: Job) -> dict[str, Any]:
    small = thumbnail(value, SIDE)
    if small is None:
        return {}
    small.save(path.with_suffix(".png"), optimize=True)
    return {"picture": f"{path.name}.png"}


def _sound(value: Any, path: Path, job: Job) -> dict[str, Any]:
    given = getattr(job.encoder, "given", None)
    known = sounds.seconds_and_rate(value, given)
    rate = min(RATE, known[1]) if known else RATE
    try:
        samples = sounds.read(value, rate, SECONDS, given).samples
    except sounds.Unreadable:
        return {}
    with wave.open(str(path.with_suffix(".wav")), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return {"sound": f"{path.name}.wav"}
