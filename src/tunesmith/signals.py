"""Ctrl-C and SIGTERM: a wish that the loop grants after the step, an interruption at once elsewhere."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any


class Terminated(KeyboardInterrupt):
    """SIGTERM where nothing has to be finished first; `code` is the exit status."""

    code = 75


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Within the block SIGTERM raises Terminated, so that temporary files are removed as after Ctrl-C."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Signals:
    """While entered, the first SIGINT or SIGTERM is noted in `code` (130 or 75); a second SIGINT interrupts at once,
    and one that nobody answered at the end of the block."""

    def __init__(self) -> None:
        self.code = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.code and kind is None:  # It came too late to be granted by the loop, and is not lost.
            raise KeyboardInterrupt if self.code == 130 else Terminated

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.code and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.code = 130 if number == signal.SIGINT else 75
