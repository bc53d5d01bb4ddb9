"""A budget of time, on a clock that the test moves."""

import pytest

from dnl_det.engine.monitor import time_budget
from dnl_det.engine.monitor.time_budget import TimeBudget


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

    monkeypatch.setattr(time_budget.time, "perf_counter", lambda: Clock.now)
    return Clock


@pytest.mark.parametrize("cost", [0.1, 3.0, 20.0])
def test_the_share_is_never_exceeded_and_mostly_used(clock, cost):
    budget = TimeBudget(0.02)
    budget.start()
    turns = 0
    for _ in range(5000):
        clock.now += 1.0
        if budget.allows(first=cost):
            with budget.spend():
                clock.now += cost
            turns += 1
        assert budget.spent <= 0.02 * budget.elapsed
    assert turns == pytest.approx(0.02 * budget.elapsed / cost, abs=1)


def test_a_first_time_that_took_longer_than_guessed_is_paid_back(clock):
    budget = TimeBudget(0.1)
    clock.now += 10
    assert budget.allows(first=1.0)
    assert not budget.allows(first=1.2)
    with budget.spend():
        clock.now += 4
    clock.now += 60
    assert not budget.allows(first=0.0)  # 8 s would be over a tenth of 78 s
    clock.now += 2
    assert budget.allows(first=0.0)


def test_the_time_counts_from_the_start_and_of_failures_too(clock):
    budget = TimeBudget(0.5)
    clock.now += 50
    budget.start()
    assert budget.elapsed == 0

    def fail():
        with budget.spend():
            clock.now += 2
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (budget.spent, budget.elapsed) == (2, 2)


def test_what_is_caused_elsewhere_counts_too(clock):
    budget = TimeBudget(0.1)
    budget.start()
    clock.now += 89
    with budget.spend():
        clock.now += 3
    clock.now += 2
    budget.add(2)
    assert budget.spent == 5
    assert not budget.allows(first=0)  # 10 s would be over a tenth of 99 s
    clock.now += 1
    assert budget.allows(first=0)
