"""What a search found, written down and told: the leaderboard, the page, and the store of earlier searches."""

from __future__ import annotations

from collections.abc import Callable

from tunesmith.run import Run
from tunesmith.study.finalists import Final
from tunesmith.study.worker import Worker


def write(worker: Worker, final: Final, run: Run, tell: Callable[[str], None]) -> None:
    """Write the leaderboard."""
