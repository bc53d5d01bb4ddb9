"""What a training does with signals; test_train_net.py sends them to real ones."""

import signal

import pytest

from dnl_det.engine.training.stopping import StopOnSignal, _command


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


@pytest.mark.parametrize(
    ("typed", "again"),
    [
        (["train_net.py", "--num-gpus", "2"], "python train_net.py --resume --num-gpus 2"),
        (["/env/bin/dnl-det", "train", "A", "b c"], "/env/bin/dnl-det train --resume A 'b c'"),
        (["/x/dnl_det/__main__.py", "train", "A"], "python -m dnl_det train --resume A"),
        (["train_net.py", "A", "--resume"], "python train_net.py --resume A"),
    ],
)
def test_the_command_to_go_on_is_the_one_that_was_typed(monkeypatch, typed, again):
    monkeypatch.setattr("sys.argv", typed)
    assert _command("--resume") == again
