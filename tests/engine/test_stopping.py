"""What a training does with signals; test_train_net.py sends them to real ones."""

import signal

import pytest

from dnl_det.engine.stopping import StopOnSignal


def test_a_second_signal_ends_at_once():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    hook = StopOnSignal()
    hook.before_train()
    try:
        signal.raise_signal(signal.SIGINT)  # noted, to be acted on after the step
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        hook.after_train()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_the_signals_are_given_back():
    before = signal.getsignal(signal.SIGTERM)
    hook = StopOnSignal()
    hook.before_train()
    assert signal.getsignal(signal.SIGTERM) != before
    hook.after_train()
    assert signal.getsignal(signal.SIGTERM) == before
