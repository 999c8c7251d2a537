"""A worker of tests/study/test_record.py: claims trials of a folder, reports, finishes them, until there are enough."""

import sys
import time
from dataclasses import replace
from pathlib import Path

from tunesmith.study.record import Record, Records


def work(folder: Path, num_trials: int, diary: Path) -> None:
    records = Records(folder)

    def make(known: list[Record]) -> Record | None:
        number = len(known) + 1
        return Record(0, "full", params={"x": number}) if number <= num_trials else None

    while (record := records.claim(make)) is not None:
        for part in range(1, 4):
            record = replace(record, reports=(*record.reports, (part, float(part))))
            time.sleep(0.005)
            records.beat(record)
            if not records.put(record):
                break
        else:
            if records.put(replace(record, state="done", value=record.params["x"])):
                with diary.open("a") as file:
                    file.write(f"{record.number}\n")


if __name__ == "__main__":
    work(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
