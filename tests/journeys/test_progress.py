"""What a person sees while it trains: one live line on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import io
import re

import pytest
import torch

from tunesmith.training import observers
from tunesmith.training.loop import Event


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when the test says so."""
    now = [100.0]
    monkeypatch.setattr(observers.time, "monotonic", lambda: now[0])
    return now


def _event(step: int) -> Event:
    return Event(step=step, phase="all", loss=torch.tensor(0.5), rows=16, rate=1e-3, seconds=0.5)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_plain_lines_come_seconds_apart_and_at_the_end(clock, capsys):
    progress = observers.Progress(100, quiet=False)
    for step in range(1, 101):
        progress.step(_event(step))
        clock[0] += 0.5
    progress.close()
    lines = capsys.readouterr().err.splitlines()
    assert 8 <= len(lines) <= 12
    assert lines[-1].startswith("step 100/100  loss 0.500")
    assert "\x1b" not in "".join(lines)


def test_a_line_holds_step_loss_score_speed_and_time_left(clock, capsys):
    progress = observers.Progress(100, quiet=False)
    progress.scored("accuracy", 0.75)
    progress.step(_event(40))
    assert capsys.readouterr().err == "step 40/100  loss 0.500  valid accuracy 0.750  32 rows/s  0:30 left\n"


def test_on_a_terminal_one_line_lives_and_leaves_nothing_on_standard_output(clock, capsys, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    progress = observers.Progress(3, quiet=False)
    for step in (1, 2, 3):
        clock[0] += 1
        progress.step(_event(step))
        progress.live.refresh()
    progress.close()
    shown = re.sub(r"\x1b\[[\d;]*m", "", terminal.getvalue())
    assert "step 3/3" in shown
    assert "\x1b[2K" in shown, "the line is rewritten in its place"
    assert capsys.readouterr().out == ""


def test_quiet_shows_nothing(clock, capsys):
    progress = observers.Progress(1, quiet=True)
    progress.step(_event(1))
    progress.close()
    assert capsys.readouterr() == ("", "")
