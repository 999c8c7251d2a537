"""Signals: a wish that is noted and granted later."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from tunesmith.signals import Signals, Terminated, terminable


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_is_noted_with_its_exit_code_and_interrupts_nothing(number, code):
    with pytest.raises(KeyboardInterrupt), Signals() as signals:
        assert signals.code == 0
        os.kill(os.getpid(), number)
        assert signals.code == code


def test_sigterm_interrupts_at_once_where_nothing_has_to_be_finished():
    with pytest.raises(Terminated) as stopped, terminable():
        os.kill(os.getpid(), signal.SIGTERM)
    assert stopped.value.code == 75


def test_a_second_ctrl_c_interrupts_at_once():
    with pytest.raises(KeyboardInterrupt), Signals():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_the_former_handlers_come_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Signals():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_in_another_thread_signals_are_left_alone():
    found = []

    def work():
        with Signals() as signals:
            found.append((signals.code, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(0, signal.getsignal(signal.SIGINT))]


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_that_came_too_late_for_the_loop_is_not_lost(number, kind):
    with pytest.raises(kind) as caught, Signals():
        os.kill(os.getpid(), number)
    assert type(caught.value) is kind


def test_a_signal_that_was_answered_is_not_raised_again():
    with pytest.raises(RuntimeError), Signals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.code == 130
        raise RuntimeError("answered")
