"""Observers: what a person and the events file see of the steps, as they happen."""

from __future__ import annotations

import sys
import time
from math import isfinite
from typing import Any

from tunesmith.run import Run
from tunesmith.training.loop import Event

FLUSH_SECONDS = 0.5
"""Losses are read from the device, and written, at most so often: reading one waits for the device."""


class EventLog:
    """Writes steps to events.jsonl, whole lines only; nowhere without a Run (ranks other than the first)."""

    def __init__(self, run: Run | None) -> None:
        self.run = run
        self.pending: list[Event] = []
        self.flushed = time.monotonic()

    def step(self, event: Event) -> None:
        self.pending.append(event)
        if time.monotonic() - self.flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is pending."""
        if self.run is not None:
            self.run.append_events([_fields(event) for event in self.pending])
        self.pending, self.flushed = [], time.monotonic()

    def line(self, event: str, **fields: Any) -> None:
        """Any other line, after the steps before it."""
        self.flush()
        if self.run is not None:
            self.run.append_event(event, **fields)

    @property
    def num_bytes(self) -> int:
        """The length of events.jsonl."""
        self.flush()
        path = self.run.path / "events.jsonl" if self.run else None
        return path.stat().st_size if path is not None and path.exists() else 0


def _fields(event: Event) -> dict[str, Any]:
    """The line of a step."""
    loss, seconds = float(event.loss), round(event.seconds, 6)
    return {
        "event": "step",
        "step": event.step,
        "phase": event.phase,
        "loss": loss if isfinite(loss) else None,
        "rows": event.rows,
        "rate": event.rate,
        "seconds": seconds,
    }


class Progress:
    """One live line on a terminal, a plain line now and then elsewhere, nothing when quiet."""

    def __init__(self, total: int, quiet: bool) -> None:
        self.total, self.quiet = total, quiet
        self.score = ""
        self.loss = 0.0
        self.rate_of_rows = 0.0
        self.shown = 0.0
        self.live: Any = None
        if not quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self.live = Live(console=Console(stderr=True), refresh_per_second=8, transient=True)
            self.live.start()

    def step(self, event: Event) -> None:
        """Show the step if it is time."""
        speed = event.rows / max(event.seconds, 1e-9)
        self.rate_of_rows = speed if self.rate_of_rows == 0 else 0.9 * self.rate_of_rows + 0.1 * speed
        now = time.monotonic()
        if self.quiet or (now - self.shown < (0.12 if self.live else 5.0) and event.step < self.total):
            return
        self.shown = now
        self.loss = float(event.loss)
        left = (self.total - event.step) * event.rows / max(self.rate_of_rows, 1e-9)
        text = f"step {event.step}/{self.total}  loss {self.loss:.3f}{self.score}"
        text += f"  {self.rate_of_rows:.0f} rows/s  {_clock(left)} left"
        if self.live:
            self.live.update(text)
        else:
            print(text, file=sys.stderr, flush=True)

    def scored(self, name: str, value: float) -> None:
        """Show the newest validation score from now on."""
        self.score = f"  valid {name} {value:.3f}"

    def close(self) -> None:
        if self.live:
            self.live.stop()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"
